"""Packages to measure against, each set in a folder of its own: peers that the product never imports."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from lpm_kernel.L2.engine import cache_folder

TRL = "TRL SFTTrainer"
ROOT = Path(__file__).resolve().parent.parent


def trl_folder() -> Path | None:
    """Where TRL can be imported from."""
    return peer_folder("bench", ("trl", "datasets"))


def server_folder() -> Path | None:
    """Where xllamacpp can be imported from: llama.cpp's server as a Python package."""
    return peer_folder("bench-serve", ("xllamacpp",), only=("xllamacpp",))


def peer_folder(extra: str, modules: Sequence[str], only: Sequence[str] = ()) -> Path | None:
    """Where these modules can be imported from, installed at the first time; None where they cannot be had.

    `extra` is a set of requirements in pyproject.toml, `only` those of its packages that are wanted, all if none is named.

    Why without dependencies: all that is heavy among them (torch, transformers, pyarrow, pandas) the product has; with them
    pip would put a second torch into the folder. Why no source packages: one of them builds for ten minutes.
    """
    if all(importlib.util.find_spec(module) for module in modules):
        return ROOT
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    wanted = [item for item in extras[extra] if not only or item.split("==")[0] in only]
    folder = cache_folder() / ("bench-" + "-".join(item.replace("==", "-") for item in wanted[:2]))
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=".making-bench-", dir=folder.parent))
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary", ":all:", "--target", str(making)]
    try:
        if subprocess.run([*command, *wanted], capture_output=True, check=False).returncode:
            return None
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder
