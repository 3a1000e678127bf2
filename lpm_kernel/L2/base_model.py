"""The base model every adapter is trained on and served with, made ready once per machine.

Belongs here: where the prepared files lie, that they are whole or absent, and that two processes do not make them twice.
Does not belong here: where the weights come from (`base_weights.py`), what is in the files (`base_files.py`, `hf_gguf.py`).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.base_files import write_base_gguf, write_training_copy
from lpm_kernel.L2.base_weights import BaseWeights, find_base, find_weights, weight_files, weights_sha256
from lpm_kernel.L2.gguf_tokenizer import splitting_rule, without_normalizer
from lpm_kernel.L2.hf_gguf import write_gguf_from_hf
from lpm_kernel.settings import ModelSettings
from lpm_kernel.stores.compute import Progress

__all__ = ["BaseModel", "BaseRecord", "default_cache_dir", "describe_base", "find_weights", "prepare_base"]

RECIPE = 1
"""Counted up when the prepared files change for the same weights, so that older ones are made anew."""

CHAT_TOKENS = ("<|im_start|>", "<|im_end|>")
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
    revision: str = ""
    """Which edition the weights are, for people; the hash decides."""

    @property
    def f16_gguf_path(self) -> Path:
        """The form that is bit-comparable with training, there whatever is served."""
        return self.hf_dir.parent / F16_GGUF


@dataclass(frozen=True, slots=True)
class BaseFile:
    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BaseRecord:
    """A prepared base, told."""

    name: str
    revision: str
    sha256: str
    architecture: str
    vocabulary: int
    weights_size_bytes: int
    """Of what training loads."""
    f16: BaseFile
    served: BaseFile


def default_cache_dir(environ: Mapping[str, str]) -> Path:
    """TWIN_CACHE, else XDG_CACHE_HOME/twin, else ~/.cache/twin."""
    if environ.get("TWIN_CACHE"):
        return Path(environ["TWIN_CACHE"])
    if environ.get("XDG_CACHE_HOME"):
        return Path(environ["XDG_CACHE_HOME"]) / "twin"
    return Path(environ.get("HOME") or Path.home()) / ".cache" / "twin"


def prepare_base(
    models: ModelSettings,
    cache_dir: Path,
    progress: Progress,
    weights: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> BaseModel:
    """Make the base ready, or find it ready: an f16 GGUF, what training loads, and a q8_0 GGUF when that is served.

    `weights`: a GGUF file or a folder in Hugging Face's layout, instead of what `models.base` names.
    Idempotent: keyed by the sha256 of the weights; whole or absent; of two processes the second waits for the first.
    Raises: TrainingError `base_weights_missing`, `base_weights_unreadable`, `base_not_prepared` (retryable: disk),
    `tokenizer_unknown`.
    """
    if weights is None:
        found = find_base(models, cache_dir, progress, os.environ if environ is None else environ)
    else:
        found = BaseWeights(weights, "given")
    try:
        sha256 = weights_sha256(found.path)
        folder = cache_dir / f"{models.base}-{sha256[:16]}-{RECIPE}"
        if not _is_whole(folder):
            with _exclusive(folder, progress):
                if not _is_whole(folder):
                    _make_base(found.path, folder, models.base, sha256, progress)
        served = folder / F16_GGUF if models.base_quantisation == "f16" else _q8_0(folder, sha256, progress)
    except (ValueError, KeyError) as error:
        raise TrainingError(
            "base_weights_unreadable",
            f"{found.path.name} cannot be used as {models.base}: {error}; install or fetch it again",
        ) from error
    except OSError as error:
        raise TrainingError(
            "base_not_prepared",
            f"cannot prepare {models.base} under {cache_dir}: {error}; it needs room for the weights four times over (1 GB for "
            "the smaller base), TWIN_CACHE names another folder",
            retryable=True,
        ) from error
    progress(1.0, f"base {models.base} is ready")
    return BaseModel(models.base, sha256, served, folder / "hf", found.revision)


def describe_base(base: BaseModel) -> BaseRecord:
    """What the prepared base is, from its files."""
    config = json.loads((base.hf_dir / "config.json").read_text(encoding="utf-8"))
    return BaseRecord(
        name=base.name,
        revision=base.revision,
        sha256=base.sha256,
        architecture=config["model_type"],
        vocabulary=config["vocab_size"],
        weights_size_bytes=sum(file.stat().st_size for file in weight_files(base.hf_dir)),
        f16=_described(base.f16_gguf_path),
        served=_described(base.gguf_path),
    )


def _described(path: Path) -> BaseFile:
    return BaseFile(path.name, path.stat().st_size, weights_sha256(path))


def _make_base(weights: Path, folder: Path, name: str, sha256: str, progress: Progress) -> None:
    making = folder.with_name(f".making-{folder.name}")
    # Only the holder of the lock comes here, so what lies there is what a killed process left behind.
    shutil.rmtree(making, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    (making / "hf").mkdir(parents=True)

    def first(share: float, words: str) -> None:
        progress(0.6 * share, words)

    try:
        if weights.is_dir():
            _link_training_files(weights, making / "hf")
            write_gguf_from_hf(making / "hf", making / F16_GGUF, "f16", sha256, first, more={"general.name": name})
        else:
            write_base_gguf(weights, making / F16_GGUF, "f16", sha256, first)
            progress(0.6, "base weights to the training copy")
            write_training_copy(making / F16_GGUF, making / "hf", name)
        sizes = {str(path.relative_to(making)): path.stat().st_size for path in making.rglob("*") if path.is_file()}
        (making / MANIFEST).write_text(json.dumps({"base_sha256": sha256, "size_bytes": sizes}, indent=2), encoding="utf-8")
        making.rename(folder)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


def _link_training_files(weights: Path, hf_dir: Path) -> None:
    """Training reads the weights where they lie; only the tokenizer is written anew, as llama.cpp applies it."""
    for file in weight_files(weights):
        (hf_dir / file.name).symlink_to(file.resolve())
    tokenizer = json.loads((hf_dir / "tokenizer.json").read_text(encoding="utf-8"))
    splitting_rule(tokenizer)  # before what it could not say is taken out
    if not set(CHAT_TOKENS) <= {added["content"] for added in tokenizer["added_tokens"]}:
        raise TrainingError(
            "tokenizer_unknown", f"the base has no tokens {' and '.join(CHAT_TOKENS)}, with which prompts are written"
        )
    (hf_dir / "tokenizer.json").unlink()
    written = json.dumps(without_normalizer(tokenizer), ensure_ascii=False)
    (hf_dir / "tokenizer.json").write_text(written, encoding="utf-8")


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
