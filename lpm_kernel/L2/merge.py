"""A whole model with the user's adapter in it, for programs that load one file; the twin itself never needs it.

Belongs here: base plus adapter as one GGUF, its quantised forms, keeping them, and giving the live one to a person.
Does not belong here: the adapter's own GGUF (`gguf.py`), writing a GGUF (`hf_gguf.py`), quantising it (`llama_native.py`).

One tensor is in memory at a time. Quantised after the merge: rounding the sum loses less than adding to what is rounded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lpm_kernel.errors import TrainingError, UserInputError
from lpm_kernel.L2.adapter_files import file_sha256
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.gguf import read_lora
from lpm_kernel.L2.hf_gguf import write_gguf_from_hf
from lpm_kernel.L2.llama_native import quantise_gguf
from lpm_kernel.layout import lora_config_key, lora_key, merged_key
from lpm_kernel.stores.blobs import Blobs, TenantBlobs
from lpm_kernel.stores.compute import Progress
from lpm_kernel.stores.releases import live_release
from lpm_kernel.stores.tables import Tables
from lpm_kernel.stores.users import get_user

if TYPE_CHECKING:
    import numpy as np

ADAPTER_SHA256_KEY = "twin.adapter.sha256"
"""Metadata key of a merged model: whose memory is in it."""

MergedForm = Literal["f16", "q8_0", "q4_k_m"]
KEPT_FORMS: tuple[MergedForm, ...] = ("q8_0", "q4_k_m")


@dataclass(frozen=True, slots=True)
class MergedFile:
    quantisation: MergedForm
    sha256: str
    key: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class MergedModel:
    """One adapter's merged model in each form that is kept."""

    adapter_sha256: str
    base_sha256: str
    files: tuple[MergedFile, ...]


def merge_adapter(base: BaseModel, adapter_path: Path, config_path: Path, out_dir: Path, progress: Progress) -> Path:
    """Write base plus adapter as `merged-f16.gguf`; whole or absent.

    Raises: TrainingError `adapter_unreadable`, `adapter_not_expressible`, `adapter_base_differs`, `adapter_not_finite`.
    """
    import numpy as np

    lora = read_lora(adapter_path, config_path, base)
    left = {module for module, _ in lora.weights}

    def add(name: str, values: np.ndarray) -> np.ndarray:
        module = name.removesuffix(".weight")
        if module not in left:
            return values
        left.discard(module)
        up, down = (lora.weights[module, side].astype(np.float32) for side in "BA")
        if (up.shape[0], down.shape[1]) != values.shape:
            raise TrainingError("adapter_unreadable", f"{module} of the adapter does not fit the base's {values.shape}")
        return values + np.float32(lora.scale) * (up @ down)

    out_dir.mkdir(parents=True, exist_ok=True)
    out, making = out_dir / "merged-f16.gguf", out_dir / ".making-merged-f16.gguf"
    about = {"general.name": f"{base.name} with one person's adapter", ADAPTER_SHA256_KEY: file_sha256(adapter_path)}
    try:
        write_gguf_from_hf(base.hf_dir, making, "f16", base.sha256, progress, more=about, change=add)
        if left:
            raise TrainingError("adapter_unreadable", f"the base has no module {sorted(left)[0]}, for which the adapter is")
        making.rename(out)
    except ValueError as error:
        raise TrainingError("adapter_not_finite", f"base and adapter make no sound model: {error}; train again") from error
    finally:
        making.unlink(missing_ok=True)
    return out


def merge_stored(
    blobs: Blobs,
    user_id: str,
    adapter_sha256: str,
    base: BaseModel,
    forms: Sequence[MergedForm],
    folder: Path,
    threads: int,
    progress: Progress,
) -> dict[MergedForm, Path]:
    """Merge an adapter of the blob store, in each form asked for. Raises: as `merge_adapter`, and `model_not_quantised`."""
    own = TenantBlobs(blobs, user_id)
    adapter_path, config_path = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    own.get_file(lora_key(user_id, adapter_sha256), adapter_path)
    own.get_file(lora_config_key(user_id, adapter_sha256), config_path)
    merged = merge_adapter(base, adapter_path, config_path, folder, lambda share, words: progress(0.7 * share, words))
    made: dict[MergedForm, Path] = {}
    for number, form in enumerate(forms, 1):
        made[form] = merged
        if form != "f16":
            made[form] = folder / f"merged-{form}.gguf"
            quantise_gguf(merged, made[form], form, threads)
        progress(0.7 + 0.3 * number / len(forms), f"merged model in {form}")
    return made


def keep_merged(
    blobs: Blobs, user_id: str, adapter_sha256: str, base: BaseModel, threads: int, progress: Progress
) -> MergedModel:
    """Merge and keep the quantised forms, each under its own hash. The f16 form is what `export_model` makes when asked."""
    own = TenantBlobs(blobs, user_id)
    with tempfile.TemporaryDirectory(prefix="twin-merge-") as name:
        files = []
        for form, path in merge_stored(blobs, user_id, adapter_sha256, base, KEPT_FORMS, Path(name), threads, progress).items():
            sha256 = file_sha256(path)
            key = merged_key(user_id, adapter_sha256, sha256)
            own.put_file(key, path)
            files.append(MergedFile(form, sha256, key, path.stat().st_size))
    return MergedModel(adapter_sha256, base.sha256, tuple(files))


def export_model(
    tables: Tables,
    blobs: Blobs,
    user_id: str,
    base: BaseModel,
    form: MergedForm,
    out: Path,
    threads: int,
    progress: Progress,
) -> str:
    """Write the live release's model to a file of the person's own, whole or not at all; return the release's id.

    Raises: UserInputError `twin_not_found`, `no_release`; TrainingError `adapter_base_differs` and as `merge_stored`.
    """
    with tables.transaction(user_id) as connection:
        get_user(connection, user_id)
        release = live_release(connection, user_id)
    if release is None:
        raise UserInputError("no_release", f"twin {user_id!r} has no live release yet: upload documents and let it be built")
    if release.base_sha256 != base.sha256:
        raise TrainingError(
            "adapter_base_differs",
            f"the live release belongs to base {release.base_sha256[:12]}, prepared is {base.sha256[:12]} ({base.name}); "
            "set models.base to the one it was trained on, or build it anew",
        )
    with tempfile.TemporaryDirectory(prefix=".twin-export-", dir=out.parent) as name:
        made = merge_stored(blobs, user_id, release.adapter_sha256, base, [form], Path(name), threads, progress)
        made[form].replace(out)
    return release.release_id
