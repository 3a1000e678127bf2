"""Training on Apple's processors: the same rows in and the same adapter out as `train.py`, computed by MLX.

Belongs here: the loop in MLX, and saying where it cannot run.
Does not belong here: the forward pass (`mlx_model.py`), names and files (`mlx_adapter.py`), torch.

What was run: with MLX 0.32 on a Linux processor, on tiny random models of both architectures: loss, gradients and a whole
training equal torch's (tests/L2/test_train_mlx.py, skipped without MLX). On Apple's own it was not run.
It keeps no checkpoints, measures no held-out rows on the way and computes in fp32.
"""

from __future__ import annotations

import importlib.util
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.mlx_adapter import Lora, module_names, new_lora, read_lora, save_lora
from lpm_kernel.L2.mlx_model import Shape, answer_loss_sum, load_mlx_base, pad_rows, read_shape
from lpm_kernel.L2.records import CurvePoint, TrainingRow
from lpm_kernel.L2.torch_model import chosen_targets
from lpm_kernel.L2.train import MAX_GRADIENT_NORM, PROGRESS_REPORTS, TrainResult
from lpm_kernel.L2.train_errors import loss_not_finite
from lpm_kernel.L2.train_report import StepReport
from lpm_kernel.L2.train_schedule import Schedule, rate_share
from lpm_kernel.L2.training_batches import EncodedRow, encode_rows, epoch_batches
from lpm_kernel.settings import TrainingSettings
from lpm_kernel.stores.compute import Progress


@dataclass(frozen=True, slots=True)
class Plan:
    """What of the settings this loop follows."""

    rank: int
    alpha: int
    targets: tuple[str, ...]
    first_layer: int
    epochs: int
    batch_rows: int
    learning_rate: float
    schedule: Schedule
    warmup_share: float
    weight_decay: float
    seed: int


def train_adapter(
    rows: Sequence[TrainingRow],
    base: BaseModel,
    training: TrainingSettings,
    out_dir: Path,
    progress: Progress,
    *,
    held_out: Sequence[TrainingRow] = (),
    start_adapter: Path | None = None,
    checkpoints: object | None = None,
    resume_from_step: int | None = None,
) -> TrainResult:
    """Learn the answers of the rows into a LoRA adapter; the same seed, rows and machine give the same bytes.

    Why `held_out` and `checkpoints` are taken and not used: the caller need not know who trains. It is said in the progress.
    Raises: TrainingError `mlx_missing`, `base_not_for_mlx`, `first_layer_beyond`, `start_adapter_unfit`, `checkpoint_missing`,
    and all that `train.train_adapter` raises for rows and for a loss that is not finite.
    """
    if resume_from_step is not None:
        raise TrainingError(
            "checkpoint_missing",
            f"there is no checkpoint of step {resume_from_step}: training.backend mlx keeps none; train from the start",
        )
    encoded = encode_rows(rows, base.hf_dir)
    if importlib.util.find_spec("mlx") is None:
        raise TrainingError(
            "mlx_missing",
            "training.backend is mlx and the Python package mlx is not installed: pip install mlx, or set it to torch",
        )
    plan, shape = plan_of(training), read_shape(base.hf_dir)
    layers = range(plan.first_layer, shape.layers)
    if not layers:
        raise TrainingError(
            "first_layer_beyond", f"training.first_layer is {plan.first_layer} and the base has {shape.layers} layers"
        )
    lora = new_lora(module_names(layers, plan.targets), shape.sizes, plan.rank, plan.seed)
    if start_adapter is not None:
        lora = read_lora(start_adapter, lora)
    unused = [
        words for words, given in (("held-out rows are not measured", held_out), ("no checkpoints", checkpoints)) if given
    ]
    about = f" ({', '.join(unused)}: training.backend is mlx)" if unused else ""
    progress(0.0, f"loading {base.name} to train on {len(encoded)} rows{about}")
    lora, losses, curve, seconds = _loop(load_mlx_base(base.hf_dir), lora, shape, encoded, plan, progress)
    adapter_path, config_path = save_lora(
        lora, base, plan.rank, plan.alpha, plan.targets, layers if plan.first_layer else None, out_dir
    )
    tokens = plan.epochs * sum(len(row.ids) for row in encoded)
    steps = plan.epochs * math.ceil(len(encoded) / plan.batch_rows)
    return TrainResult(
        adapter_path,
        config_path,
        steps,
        tuple(losses),
        seconds,
        tokens / seconds,
        plan.targets,
        tuple(curve),
        device="mlx",
        dtype="float32",
    )


def plan_of(training: TrainingSettings) -> Plan:
    return Plan(
        rank=training.rank,
        alpha=training.alpha,
        targets=chosen_targets(training),
        first_layer=training.first_layer,
        epochs=training.epochs,
        batch_rows=training.batch_rows,
        learning_rate=training.learning_rate,
        schedule=training.schedule,
        warmup_share=training.warmup_share,
        weight_decay=training.weight_decay,
        seed=training.seed,
    )


def rate_at(plan: Plan, step: int, steps: int) -> float:
    """The learning rate of step `step`, from 0: rising over the warm-up, then as the schedule says."""
    return plan.learning_rate * rate_share(plan.schedule, step, steps, plan.warmup_share)


def _loop(
    weights: dict[str, Any], start: Lora, shape: Shape, rows: Sequence[EncodedRow], plan: Plan, progress: Progress
) -> tuple[Lora, list[float], list[CurvePoint], float]:
    """The weights, the mean loss of each epoch, what was reported on the way, seconds."""
    import mlx.core as mx  # type: ignore[import-not-found]
    import numpy as np
    from mlx.optimizers import AdamW  # type: ignore[import-not-found]

    scale = plan.alpha / plan.rank
    lora: Any = {module: {side: mx.array(values) for side, values in pair.items()} for module, pair in start.items()}
    loss_and_gradients = mx.value_and_grad(lambda lora, batch: answer_loss_sum(weights, lora, scale, shape, batch))
    # Bias correction is off by default in MLX; torch's AdamW always has it.
    optimizer = AdamW(plan.learning_rate, weight_decay=plan.weight_decay, bias_correction=True)
    steps = plan.epochs * math.ceil(len(rows) / plan.batch_rows)
    chance = random.Random(plan.seed)
    losses: list[float] = []
    curve: list[CurvePoint] = []
    report_every = math.ceil(steps / PROGRESS_REPORTS)
    report_loss, report_tokens, tokens, step = 0.0, 0, 0, 0
    began = time.perf_counter()
    for epoch in range(plan.epochs):
        epoch_loss = 0.0
        for batch in epoch_batches(rows, plan.batch_rows, chance):
            answer_tokens = sum(row.answer_tokens for row in batch)
            summed, gradients = loss_and_gradients(lora, pad_rows(batch))
            gradients, norm = _clipped(gradients, answer_tokens)
            mx.eval(summed, norm, gradients)
            loss = summed.item() / answer_tokens
            if not (math.isfinite(loss) and math.isfinite(norm.item())):
                raise loss_not_finite(loss, norm.item(), step + 1, steps, plan.learning_rate)
            rate = rate_at(plan, step, steps)
            optimizer.learning_rate = rate
            lora = optimizer.apply_gradients(gradients, lora)
            mx.eval(lora, optimizer.state)
            step += 1
            epoch_loss += summed.item()
            report_loss, report_tokens = report_loss + summed.item(), report_tokens + answer_tokens
            tokens += sum(len(row.ids) for row in batch)
            if step % report_every == 0 or step == steps:
                spent = time.perf_counter() - began
                mean, speed, left = report_loss / report_tokens, tokens / spent, (steps - step) * spent / step
                curve.append(CurvePoint(step, round(mean, 5), None, round(speed, 1), rate))
                report = StepReport(epoch + 1, plan.epochs, step, steps, mean, None, round(speed), round(left))
                progress(step / steps, report.words())
                report_loss, report_tokens = 0.0, 0
        losses.append(epoch_loss / sum(row.answer_tokens for row in rows))
    seconds = time.perf_counter() - began
    trained = {module: {side: np.array(values) for side, values in pair.items()} for module, pair in lora.items()}
    return trained, losses, curve, seconds


def _clipped(gradients: Any, answer_tokens: int) -> tuple[Any, Any]:
    """Of the mean loss, no longer than MAX_GRADIENT_NORM together; and the length before."""
    import mlx.core as mx  # type: ignore[import-not-found]

    squares = [mx.square(values).sum() for pair in gradients.values() for values in pair.values()]
    norm = mx.sqrt(mx.stack(squares).sum()) / answer_tokens
    factor = mx.minimum(1.0, MAX_GRADIENT_NORM / (norm + 1e-6)) / answer_tokens
    shorter = {module: {side: factor * values for side, values in pair.items()} for module, pair in gradients.items()}
    return shorter, norm
