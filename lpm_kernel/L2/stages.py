"""The heavy stages as requests and results: what may run on another machine.

Belongs here: a request record, the function that fulfils it with blobs and a base model, and reuse of what was made before.
Does not belong here: training and conversion themselves.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpm_kernel.artefacts import decode_record, decode_records, encode_record
from lpm_kernel.errors import StoreError, TrainingError
from lpm_kernel.L2 import train_mlx
from lpm_kernel.L2.adapter_files import file_sha256
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.gguf import convert_adapter
from lpm_kernel.L2.records import Adapter, GgufAdapter, TrainingRow
from lpm_kernel.L2.release import rows_hash
from lpm_kernel.L2.train import train_adapter
from lpm_kernel.layout import asset_key, gguf_key, lora_config_key, lora_key, lora_recipe_key
from lpm_kernel.records import content_id
from lpm_kernel.settings import TrainingSettings
from lpm_kernel.stores.blobs import Blobs, TenantBlobs
from lpm_kernel.stores.compute import Progress

TRAINER_VERSION = "1"
ROW_SETTINGS = {"max_rows", "salience_weight", "about_rows"}
"""Of the training section: what shapes the rows, whose hash says all of it."""


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """Train on the rows that stand at the user's `training_rows`; their hash says which rows are meant."""

    user_id: str
    rows_sha256: str
    training: TrainingSettings


@dataclass(frozen=True, slots=True)
class ConvertRequest:
    user_id: str
    adapter: Adapter


def run_training(request: TrainRequest, blobs: Blobs, base: BaseModel, progress: Progress) -> Adapter:
    """A LoRA adapter of the user's rows. The same rows, base and settings give the adapter that was made before.

    Raises: TrainingError `rows_changed` when other rows stand there by now; what `train_adapter` raises.
    """
    own = TenantBlobs(blobs, request.user_id)
    recipe = content_id(
        TRAINER_VERSION, base.sha256, request.rows_sha256, request.training.model_dump_json(exclude={"threads", *ROW_SETTINGS})
    )
    made = _made_before(own, lora_recipe_key(request.user_id, recipe))
    if made is not None:
        progress(1.0, "the same rows were trained before: that adapter is used")
        return made
    rows = decode_records(own.get(asset_key(request.user_id, "training_rows", "jsonl")), TrainingRow)
    if rows_hash(rows) != request.rows_sha256:
        raise TrainingError("rows_changed", "the training rows changed after this run began: materialize `lora_adapter` again")
    train_rows = [row for row in rows if row.split == "train"]
    with tempfile.TemporaryDirectory(prefix="twin-train-") as folder:
        train = train_mlx.train_adapter if request.training.backend == "mlx" else train_adapter
        result = train(train_rows, base, request.training, Path(folder), progress)
        sha256 = file_sha256(result.adapter_path)
        own.put_file(lora_key(request.user_id, sha256), result.adapter_path)
        own.put_file(lora_config_key(request.user_id, sha256), result.config_path)
        size_bytes = result.adapter_path.stat().st_size
    adapter = Adapter(
        sha256=sha256,
        key=lora_key(request.user_id, sha256),
        config_key=lora_config_key(request.user_id, sha256),
        size_bytes=size_bytes,
        base_sha256=base.sha256,
        rows_sha256=request.rows_sha256,
        rank=request.training.rank,
        alpha=request.training.alpha,
        targets=tuple(result.targets),
        steps=result.steps,
        seed=request.training.seed,
        loss_curve=tuple(result.loss_curve),
        train_seconds=round(result.seconds, 1),
        tokens_per_second=round(result.tokens_per_second, 1),
    )
    own.put(lora_recipe_key(request.user_id, recipe), encode_record(adapter))
    return adapter


def _made_before(own: TenantBlobs, key: str) -> Adapter | None:
    try:
        made = decode_record(own.get(key), Adapter)
    except StoreError as error:
        if error.code in ("blob_not_found", "artefact_unreadable"):
            return None
        raise
    return made if own.exists(made.key) and own.exists(made.config_key) else None


def run_conversion(request: ConvertRequest, blobs: Blobs, base: BaseModel, progress: Progress) -> GgufAdapter:
    """The adapter as GGUF, kept under its own hash."""
    own = TenantBlobs(blobs, request.user_id)
    with tempfile.TemporaryDirectory(prefix="twin-gguf-") as name:
        folder = Path(name)
        own.get_file(request.adapter.key, folder / "adapter_model.safetensors")
        own.get_file(request.adapter.config_key, folder / "adapter_config.json")
        out = folder / "adapter.gguf"
        tensors = convert_adapter(folder / "adapter_model.safetensors", folder / "adapter_config.json", base, out)
        sha256 = file_sha256(out)
        own.put_file(gguf_key(request.user_id, sha256), out)
        progress(1.0, f"{tensors} tensors")
        return GgufAdapter(
            sha256=sha256,
            key=gguf_key(request.user_id, sha256),
            size_bytes=out.stat().st_size,
            adapter_sha256=request.adapter.sha256,
            base_sha256=base.sha256,
            tensors=tensors,
        )


STAGES: dict[str, Callable[[Any, Blobs, BaseModel, Progress], Any]] = {
    "lora_adapter": run_training,
    "gguf_adapter": run_conversion,
}
