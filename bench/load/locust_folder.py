"""Locust in a folder of its own, with all that it needs: it and the product's packages must not meet in one process."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from lpm_kernel.L2.engine import cache_folder

ROOT = Path(__file__).resolve().parent.parent.parent


def locust_folder() -> Path | None:
    """Where Locust can be imported from, installed at the first time; None where it cannot be had."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    wanted = next(item for item in extras["bench-serve"] if item.startswith("locust"))
    folder = cache_folder() / f"bench-{wanted.replace('==', '-')}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=".making-bench-", dir=folder.parent))
    command = [sys.executable, "-m", "pip", "install", "-q", "--only-binary", ":all:", "--target", str(making), wanted]
    try:
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return None
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder
