"""TRL in a folder of its own: a peer to measure against, which the product never imports."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from lpm_kernel.L2.engine import cache_folder

TRL = "TRL SFTTrainer"
ROOT = Path(__file__).resolve().parent.parent


def trl_folder() -> Path | None:
    """Where TRL can be imported from, installed at the first time; None where it cannot be had.

    Why without dependencies: all that is heavy among them (torch, transformers, pyarrow, pandas) the product has; with them
    pip would put a second torch into the folder.
    """
    if importlib.util.find_spec("trl") and importlib.util.find_spec("datasets"):
        return ROOT
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]["bench"]
    folder = cache_folder() / ("bench-" + "-".join(item.replace("==", "-") for item in wanted[:2]))
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=".making-bench-", dir=folder.parent))
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(making), *wanted]
    try:
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return None
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder
