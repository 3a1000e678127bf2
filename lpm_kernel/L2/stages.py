"""The heavy stages as requests and results: what may run on another machine.

Belongs here: a request record, the function that fulfils it with blobs and a base model, and reuse of what was made before.
Does not belong here: training and conversion themselves.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from lpm_kernel.L2.train import TrainResult, train_adapter
from lpm_kernel.L2.train_checkpoint import BlobCheckpoints, forget_checkpoints
from lpm_kernel.L2.train_increment import plan_increment, spread
from lpm_kernel.layout import asset_key, gguf_key, lora_config_key, lora_key, lora_recipe_key, lora_rows_key, shared_key
from lpm_kernel.records import content_id
from lpm_kernel.settings import TrainingSettings
from lpm_kernel.stores.blobs import Blobs, TenantBlobs
from lpm_kernel.stores.compute import Progress

TRAINER_VERSION = "2"
ROW_SETTINGS = {"max_rows", "salience_weight", "mix", "third_person_share", "held_out_share"}
"""Of the training section: what shapes the rows, whose checksums say all of it."""
RUN_SETTINGS = {"threads", "checkpoint_every_steps", "prefix_cache_mb", "incremental", "replay_share"}
"""Of the training section: what changes how an adapter comes to be and none of its weights, or is said by the rows it takes."""


@dataclass(frozen=True, slots=True)
class SharedAdapter:
    """An adapter of no user, such as a skill that all may begin with."""

    key: str
    sha256: str


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """Train on the rows that stand at the user's `training_rows`; their hash says which rows are meant."""

    user_id: str
    rows_sha256: str
    training: TrainingSettings
    start_from: Adapter | None = None
    """The user's last adapter, to learn only new rows with; passed over where other settings or a removed row forbid it."""
    warm_start: SharedAdapter | None = None
    """What the weights begin as, where training begins at the start."""
    resume_from_step: int | None = None
    fresh: bool = False
    """Train from the start, whatever was made or begun before."""


@dataclass(frozen=True, slots=True)
class ConvertRequest:
    user_id: str
    adapter: Adapter


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """What one request comes to: the rows of this training, what they are measured on, and under which name it is known."""

    train: Sequence[TrainingRow]
    held_out: Sequence[TrainingRow]
    learned: tuple[str, ...]
    """Checksums of all rows that the adapter will have learned."""
    replayed: int
    parent: Adapter | None
    settings_sha256: str
    recipe: str
    why: str


def run_training(request: TrainRequest, blobs: Blobs, base: BaseModel, progress: Progress) -> Adapter:
    """A LoRA adapter of the user's rows. The same rows, base and settings give the adapter that was made before, and a
    training that was cut off goes on from its last checkpoint.

    Raises: TrainingError `rows_changed` when other rows stand there by now, `start_adapter_damaged`; what `train_adapter`
    raises.
    """
    own = TenantBlobs(blobs, request.user_id)
    plan = plan_training(request, own, base)
    anew = request.fresh or request.resume_from_step is not None
    made = None if anew else _made_before(own, lora_recipe_key(request.user_id, plan.recipe))
    if made is not None:
        progress(1.0, "the same rows were trained before: that adapter is used")
        return made
    if plan.parent is not None and not plan.train:
        progress(1.0, f"{plan.why}: the last adapter is used")
        return replace(plan.parent, rows_sha256=request.rows_sha256)
    progress(0.0, plan.why)
    checkpoints = BlobCheckpoints(own, request.user_id, plan.recipe)
    if request.fresh:
        checkpoints.drop_after(0)
        # Else the next try of a run that broke off, which is not fresh any more, would find what it was to replace.
        own.delete(lora_recipe_key(request.user_id, plan.recipe))
    with tempfile.TemporaryDirectory(prefix="twin-train-") as name:
        folder = Path(name)
        train = train_mlx.train_adapter if request.training.backend == "mlx" else train_adapter
        result = train(
            plan.train,
            base,
            request.training,
            folder / "made",
            progress,
            held_out=plan.held_out,
            start_adapter=_start(request, plan, blobs, own, folder),
            checkpoints=checkpoints,
            resume_from_step=request.resume_from_step,
        )
        adapter = _adapter_of(request, plan, base, result)
        own.put_file(adapter.key, result.adapter_path)
        own.put_file(adapter.config_key, result.config_path)
    own.put(adapter.learned_key, json.dumps(plan.learned).encode())
    own.put(lora_recipe_key(request.user_id, plan.recipe), encode_record(adapter))
    forget_checkpoints(own, request.user_id)
    return adapter


def checkpoint_steps(request: TrainRequest, blobs: Blobs, base: BaseModel) -> list[int]:
    """Steps that this request could go on from. Raises: TrainingError `rows_changed`."""
    own = TenantBlobs(blobs, request.user_id)
    return BlobCheckpoints(own, request.user_id, plan_training(request, own, base).recipe).steps()


def plan_training(request: TrainRequest, own: TenantBlobs, base: BaseModel) -> TrainPlan:
    """Raises: TrainingError `rows_changed`."""
    rows = decode_records(own.get(asset_key(request.user_id, "training_rows", "jsonl")), TrainingRow)
    if rows_hash(rows) != request.rows_sha256:
        raise TrainingError("rows_changed", "the training rows changed after this run began: materialize `lora_adapter` again")
    training = request.training
    train = [row for row in rows if row.split == "train"]
    held_out = spread([row for row in rows if row.split == "held_out"], training.eval_rows if training.eval_every_steps else 0)
    settings_sha256 = content_id(
        TRAINER_VERSION,
        base.sha256,
        request.warm_start.sha256 if request.warm_start else "",
        training.model_dump_json(exclude=ROW_SETTINGS | RUN_SETTINGS),
    )
    measured = [row.checksum for row in held_out]
    whole = TrainPlan(
        train=train,
        held_out=held_out,
        learned=tuple(sorted({row.checksum for row in train})),
        replayed=0,
        parent=None,
        settings_sha256=settings_sha256,
        recipe=content_id(settings_sha256, request.rows_sha256, *measured),
        why=f"training from the start on {len(train)} rows",
    )
    parent = request.start_from
    if parent is None or request.fresh or parent.settings_sha256 != settings_sha256:
        return whole
    learned = _learned(own, parent)
    increment = plan_increment(train, learned, training.replay_share, training.seed) if learned is not None else None
    if increment is None:
        return whole
    recipe = content_id(settings_sha256, request.rows_sha256, *measured, parent.sha256, str(training.replay_share))
    why = f"going on from adapter {parent.sha256[:12]}: {increment.why}"
    return replace(whole, train=increment.rows, replayed=increment.replayed, parent=parent, recipe=recipe, why=why)


def _learned(own: TenantBlobs, adapter: Adapter) -> list[str] | None:
    """Checksums of what it has learned; None where that, or the adapter itself, is not there any more."""
    if not (adapter.learned_key and own.exists(adapter.key) and own.exists(adapter.learned_key)):
        return None
    return json.loads(own.get(adapter.learned_key))


def _start(request: TrainRequest, plan: TrainPlan, blobs: Blobs, own: TenantBlobs, folder: Path) -> Path | None:
    """The file of the weights to begin with; None to begin with new ones."""
    path = folder / "start.safetensors"
    if plan.parent is not None:
        sha256 = plan.parent.sha256
        own.get_file(plan.parent.key, path)
    elif request.warm_start is not None:
        sha256 = request.warm_start.sha256
        # The one read outside the tenant's prefix: of what belongs to nobody, never of another user.
        blobs.get_file(shared_key(request.warm_start.key), path)
    else:
        return None
    if file_sha256(path) != sha256:
        raise TrainingError("start_adapter_damaged", f"the adapter to start from is not the one of sha256 {sha256[:12]}")
    return path


def _start_key(request: TrainRequest, plan: TrainPlan) -> str | None:
    if plan.parent is not None:
        return plan.parent.key
    return request.warm_start.key if request.warm_start else None


def _adapter_of(request: TrainRequest, plan: TrainPlan, base: BaseModel, result: TrainResult) -> Adapter:
    sha256 = file_sha256(result.adapter_path)
    return Adapter(
        sha256=sha256,
        key=lora_key(request.user_id, sha256),
        config_key=lora_config_key(request.user_id, sha256),
        size_bytes=result.adapter_path.stat().st_size,
        base_sha256=base.sha256,
        rows_sha256=request.rows_sha256,
        rank=request.training.rank,
        alpha=request.training.alpha,
        targets=result.targets,
        steps=result.steps,
        seed=request.training.seed,
        loss_curve=result.loss_curve,
        train_seconds=round(result.seconds, 1),
        tokens_per_second=round(result.tokens_per_second, 1),
        curve=result.curve,
        best_step=result.best_step,
        best_eval_loss=result.best_eval_loss,
        stopped_early=result.stopped_early,
        resumed_from_step=result.resumed_from_step,
        parent_sha256=plan.parent.sha256 if plan.parent else None,
        start_key=_start_key(request, plan),
        settings_sha256=plan.settings_sha256,
        learned_key=lora_rows_key(request.user_id, sha256),
        rows_trained=len(plan.train),
        rows_replayed=plan.replayed,
        first_layer=request.training.first_layer,
        device=result.device,
        dtype=result.dtype,
    )


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
