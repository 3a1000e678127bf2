"""What a run of `lora_adapter` was asked for, and how its training is shown while it goes on and when it is done.

Belongs here: the tags of such runs, observations that plot, the figures of an adapter.
Does not belong here: training (`lpm_kernel/L2`) and launching runs (`backfill.py`).
"""

from __future__ import annotations

import math
from typing import Any

import dagster as dg

from lpm_kernel.artefacts import decode_record, read_previous
from lpm_kernel.L2.base_model import prepare_base
from lpm_kernel.L2.engine import cache_folder
from lpm_kernel.L2.records import Adapter, TrainingRow
from lpm_kernel.L2.release import rows_hash
from lpm_kernel.L2.skill import find_skill, keep_skill
from lpm_kernel.L2.stages import TrainRequest
from lpm_kernel.L2.train_report import curve_markdown, read_report
from lpm_kernel.settings import Settings
from lpm_kernel.stores.blobs import Blobs
from lpm_kernel.stores.compute import Progress

RESUME_TAG = "twin/resume-from-step"
FRESH_TAG = "twin/fresh"
MAX_OBSERVATIONS = 50


def train_request(
    user_id: str, rows: list[TrainingRow], settings: Settings, blobs: Blobs, tags: dict[str, str] | None = None
) -> TrainRequest:
    """What to train for this user: the rows, what the weights begin as, and what the tags say.

    Raises: TrainingError `skill_missing`, `skill_unreadable`; what `prepare_base` raises.
    """
    training, tags = settings.training, tags or {}
    before = None
    if training.incremental:
        before = read_previous(blobs, user_id, "lora_adapter", "json", lambda data: decode_record(data, Adapter))
    warm_start = None
    if settings.skill.start:
        base = prepare_base(settings.models, cache_folder(), _silent)
        warm_start = keep_skill(blobs, find_skill(base, training, cache_folder()))
    step = tags.get(RESUME_TAG)
    return TrainRequest(
        user_id,
        rows_hash(rows),
        training,
        start_from=before,
        warm_start=warm_start,
        resume_from_step=None if step is None else int(step),
        fresh=FRESH_TAG in tags,
    )


def asked_tags(context: dg.AssetExecutionContext) -> dict[str, str]:
    """The run's tags at its first try; a further one goes on from the newest checkpoint instead of beginning the same again."""
    first = context.retry_number == 0 and context.run.parent_run_id is None
    return dict(context.run.tags) if first else {}


def observed(context: dg.AssetExecutionContext, progress: Progress) -> Progress:
    """Progress that also leaves the figures of a step as an observation, for the UI to plot over time."""
    told = 0

    def report(share: float, words: str) -> None:
        nonlocal told
        step = read_report(words)
        if step is not None and (told < MAX_OBSERVATIONS - 1 or share >= 1.0):
            told += 1
            figures: dict[str, Any] = {
                "step": step.step,
                "epoch": step.epoch,
                "loss": step.loss,
                "tokens_per_second": step.tokens_per_second,
            }
            if step.eval_loss is not None:
                figures["eval_loss"] = step.eval_loss
            context.log_event(dg.AssetObservation(context.asset_key, partition=context.partition_key, metadata=figures))
        progress(share, words)

    return report


def adapter_figures(adapter: Adapter) -> dict[str, Any]:
    last_loss = adapter.loss_curve[-1]
    measured = last_loss if adapter.best_eval_loss is None else adapter.best_eval_loss
    figures: dict[str, Any] = {
        "steps": adapter.steps,
        "last_loss": last_loss,
        "perplexity": math.exp(min(measured, 50.0)),
        "tokens_per_second": adapter.tokens_per_second,
        "train_seconds": adapter.train_seconds,
        "adapter_size_bytes": adapter.size_bytes,
        "rows_trained": adapter.rows_trained,
        "rows_replayed": adapter.rows_replayed,
        "trained_on": f"{adapter.device}, {adapter.dtype}",
        "loss_curve": dg.MetadataValue.md(curve_markdown(adapter.curve)),
    }
    if adapter.best_eval_loss is not None:
        figures |= {"best_eval_loss": adapter.best_eval_loss, "best_step": adapter.best_step}
    if adapter.stopped_early:
        figures["stopped_early"] = True
    if adapter.resumed_from_step is not None:
        figures["resumed_from_step"] = adapter.resumed_from_step
    if adapter.parent_sha256 is not None:
        figures["parent_sha256"] = adapter.parent_sha256
    return figures


def _silent(share: float, words: str) -> None:
    """The base is prepared by then; there is nothing to watch."""
