"""Training a LoRA adapter: rows in, a safetensors file and PEFT's config out.

Belongs here: the loop, when it measures, stops, keeps and goes on, and what it does when memory runs out.
Does not belong here: which rows there are (`synthesize.py`), how they become batches (`training_batches.py`), the loss of a
pass (`training_loss.py`), the model in torch (`torch_model.py`), GGUF (`gguf.py`).
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.freed_memory import give_back_freed_memory
from lpm_kernel.L2.lora_linear import fuse_lora
from lpm_kernel.L2.records import CurvePoint, TrainingRow
from lpm_kernel.L2.torch_model import (
    TARGETS,
    Placement,
    choose_placement,
    chosen_targets,
    load_torch_base,
    new_config,
    save_adapter,
    start_from,
    torch_threads,
    with_adapter,
)
from lpm_kernel.L2.train_checkpoint import Checkpoints, TrainState, encode_checkpoint, find_checkpoint
from lpm_kernel.L2.train_errors import held_out_loss_not_finite, lacks_memory, loss_not_finite, out_of_memory
from lpm_kernel.L2.train_report import StepReport
from lpm_kernel.L2.train_schedule import rate_share
from lpm_kernel.L2.training_batches import (
    GPU_PASS_TOKENS,
    PASS_TOKENS,
    EncodedRow,
    encode_rows,
    epoch_batches,
    passes,
)
from lpm_kernel.L2.training_loss import AnswerLoss, answer_loss_sum
from lpm_kernel.settings import TrainingSettings
from lpm_kernel.stores.compute import Progress

if TYPE_CHECKING:
    import torch

__all__ = ["TARGETS", "TrainResult", "answer_loss_sum", "load_torch_base", "torch_threads", "train_adapter", "with_adapter"]

MAX_GRADIENT_NORM = 1.0
PROGRESS_REPORTS = 50

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TrainResult:
    adapter_path: Path
    config_path: Path
    steps: int
    loss_curve: tuple[float, ...]
    """Mean loss of each epoch, in nats an answer token; of an epoch that was cut short, of its part."""
    seconds: float
    """Of the loop; loading torch and the base is not in it."""
    tokens_per_second: float
    """Prompt and answer tokens learned from, without padding."""
    targets: tuple[str, ...]
    curve: tuple[CurvePoint, ...] = ()
    best_step: int | None = None
    best_eval_loss: float | None = None
    stopped_early: bool = False
    resumed_from_step: int | None = None
    device: str = "cpu"
    dtype: str = "float32"


def train_adapter(
    rows: Sequence[TrainingRow],
    base: BaseModel,
    training: TrainingSettings,
    out_dir: Path,
    progress: Progress,
    *,
    held_out: Sequence[TrainingRow] = (),
    start_adapter: Path | None = None,
    checkpoints: Checkpoints | None = None,
    resume_from_step: int | None = None,
) -> TrainResult:
    """Learn the answers of the rows into a LoRA adapter; the same seed, rows and machine give the same bytes, also when it was
    killed and went on from a checkpoint.

    `held_out` rows are measured on the way and never learned from; the weights of the best measurement are the adapter.
    Where `progress` raises, training ends there; what was kept until then is whole.
    Raises: TrainingError `no_training_rows`, `held_out_row`, `answer_missing`, `row_too_long`, `loss_not_finite`,
    `out_of_memory` (retryable), `no_gpu`, `start_adapter_unfit`, `checkpoint_missing`, `checkpoint_unreadable`.
    """
    encoded = encode_rows(rows, base.hf_dir)
    measured = encode_rows(held_out, base.hf_dir, split="held_out")
    progress(0.0, f"loading {base.name} to train on {len(encoded)} rows")
    import torch

    model = loop = None
    try:
        with torch_threads(training.threads), torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            placement = choose_placement(training)
            bare = load_torch_base(base, placement)
            model = with_adapter(bare, new_config(training, bare.config.num_hidden_layers)).train()
            if placement == Placement("cpu", "float32"):
                fuse_lora(model)
            if start_adapter is not None:
                start_from(model, start_adapter)
            loop = TrainingLoop(model, encoded, measured, training, placement, progress)
            resumed = loop.go_on_from(checkpoints, resume_from_step) if checkpoints is not None else None
            state, stopped = loop.run(checkpoints)
            adapter_path, config_path = save_adapter(model, base, out_dir)
    finally:
        model = loop = bare = None
        gc.collect()
        give_back_freed_memory()
    return TrainResult(
        adapter_path,
        config_path,
        state.step,
        state.loss_curve,
        state.seconds,
        state.tokens / max(state.seconds, 1e-9),
        chosen_targets(training),
        state.curve,
        state.best_step,
        state.best_eval_loss,
        stopped,
        resumed,
        placement.device,
        placement.dtype,
    )


class TrainingLoop:
    """One training: model, optimizer, and the state that a checkpoint holds of both."""

    def __init__(
        self,
        model: Any,
        rows: Sequence[EncodedRow],
        held_out: Sequence[EncodedRow],
        training: TrainingSettings,
        placement: Placement,
        progress: Progress,
        loss_of: Callable[[Sequence[EncodedRow]], torch.Tensor] | None = None,
    ) -> None:
        import torch

        self._model, self._rows, self._held_out = model, rows, held_out
        self._training, self._progress = training, progress
        gpu = placement.device == "cuda"
        self._packed = training.passes == "packed"
        self._loss_of = loss_of or AnswerLoss(
            model,
            packed=self._packed,
            first_layer=training.first_layer,
            keep_bytes=training.prefix_cache_mb * 1_000_000,
        )
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._optimizer = torch.optim.AdamW(
            self._weights.values(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
        )
        self._best: dict[str, torch.Tensor] = {}
        self._pass_tokens = training.pass_tokens or (GPU_PASS_TOKENS if gpu else PASS_TOKENS)
        self.state = TrainState(step=0, pass_tokens=self._pass_tokens)
        self._epoch_steps = math.ceil(len(rows) / training.batch_rows)
        self._steps = training.epochs * self._epoch_steps
        self._report_every = math.ceil(self._steps / PROGRESS_REPORTS)

    def go_on_from(self, checkpoints: Checkpoints, wanted: int | None) -> int | None:
        """Put model and optimizer where a checkpoint left them; the step it is of, or None where there is none."""
        import torch

        found = find_checkpoint(checkpoints, wanted, self._progress)
        if found is None:
            return None
        self.state, tensors = found
        checkpoints.drop_after(self.state.step)
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(tensors[f"weight/{name}"])
                moments = {part: tensors[f"{part}/{name}"].to(weight.device) for part in ("exp_avg", "exp_avg_sq")}
                self._optimizer.state[weight] = {"step": tensors["optimizer_step"].clone().to(weight.device), **moments}
        self._best = {name: tensors[f"best/{name}"] for name in self._weights if f"best/{name}" in tensors}
        torch.set_rng_state(tensors["random_state"])
        words = f"going on after step {self.state.step} of {self._steps}"
        self._progress(self.state.step / self._steps, words)
        return self.state.step

    def run(self, checkpoints: Checkpoints | None) -> tuple[TrainState, bool]:
        """Train to the end; the state there, and whether it came early."""
        training = self._training
        every = training.checkpoint_every_steps
        chance = random.Random(training.seed)
        stopped = False
        for epoch in range(training.epochs):
            # Shuffled also for epochs that are over: the order follows from how often was drawn before.
            batches = epoch_batches(self._rows, training.batch_rows, chance)
            for batch in batches[max(0, self.state.step - epoch * self._epoch_steps) :]:
                began = time.perf_counter()
                self._learn(batch)
                eval_loss = self._measure()
                stopped = self._without_gain_for_too_long()
                last = stopped or self.state.step == self._steps
                if last and self.state.epoch_answer_tokens:
                    self._end_epoch()
                self.state = replace(self.state, seconds=self.state.seconds + time.perf_counter() - began)
                report = self._report(epoch, eval_loss, last)
                if checkpoints is not None and every and self.state.step % every == 0 and not last:
                    checkpoints.save(self.state.step, encode_checkpoint(self.state, self._tensors()))
                if report is not None:
                    # After the checkpoint, because what is told may end the training.
                    self._progress(1.0 if last else self.state.step / self._steps, report.words())
                if last:
                    break
            if stopped:
                break
        self._take_best()
        return self.state, stopped

    def _learn(self, batch: Sequence[EncodedRow]) -> None:
        import torch

        training, step = self._training, self.state.step
        rate = training.learning_rate * rate_share(training.schedule, step, self._steps, training.warmup_share)
        answer_tokens = sum(row.answer_tokens for row in batch)
        loss = self._in_memory(lambda: self._gradients(batch, answer_tokens))
        norm = torch.nn.utils.clip_grad_norm_(self._weights.values(), MAX_GRADIENT_NORM).item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise loss_not_finite(loss / answer_tokens, norm, step + 1, self._steps, training.learning_rate)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.state = replace(
            self.state,
            step=step + 1,
            epoch_loss=self.state.epoch_loss + loss,
            epoch_answer_tokens=self.state.epoch_answer_tokens + answer_tokens,
            report_loss=self.state.report_loss + loss,
            report_answer_tokens=self.state.report_answer_tokens + answer_tokens,
            tokens=self.state.tokens + sum(len(row.ids) for row in batch),
        )
        if self.state.step % self._epoch_steps == 0:
            self._end_epoch()

    def _gradients(self, batch: Sequence[EncodedRow], answer_tokens: int) -> float:
        self._optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part in passes(batch, self.state.pass_tokens, packed=self._packed):
            loss = self._loss_of(part)
            total += loss.item()
            (loss / answer_tokens).backward()
        return total

    def _measure(self) -> float | None:
        """The held-out loss where it is due; the best weights so far are kept aside."""
        import torch

        training = self._training
        every, step = training.eval_every_steps, self.state.step
        if not (every and self._held_out and (step % every == 0 or step == self._steps)):
            return None

        def all_of_it() -> float:
            with torch.no_grad():
                parts = passes(self._held_out, self.state.pass_tokens, packed=self._packed)
                return sum(self._loss_of(part).item() for part in parts)

        loss = self._in_memory(all_of_it) / sum(row.answer_tokens for row in self._held_out)
        if not math.isfinite(loss):
            # Nothing is less than NaN: kept as the best measurement, its weights would be the adapter.
            raise held_out_loss_not_finite(loss, step, self._steps, training.learning_rate)
        best = self.state.best_eval_loss
        if best is None or loss < best:
            self._best = {name: weight.detach().to("cpu", copy=True) for name, weight in self._weights.items()}
            self.state = replace(self.state, best_step=step, best_eval_loss=loss, evals_without_gain=0)
        else:
            self.state = replace(self.state, evals_without_gain=self.state.evals_without_gain + 1)
        return loss

    def _without_gain_for_too_long(self) -> bool:
        training = self._training
        return 0 < training.patience <= self.state.evals_without_gain and self.state.step < self._steps

    def _take_best(self) -> None:
        import torch

        if self._best and self.state.best_step != self.state.step:
            with torch.no_grad():
                for name, weight in self._weights.items():
                    weight.copy_(self._best[name])

    def _end_epoch(self) -> None:
        mean = self.state.epoch_loss / self.state.epoch_answer_tokens
        self.state = replace(self.state, loss_curve=(*self.state.loss_curve, mean), epoch_loss=0.0, epoch_answer_tokens=0)

    def _report(self, epoch: int, eval_loss: float | None, last: bool) -> StepReport | None:
        state, steps = self.state, self._steps
        if not (last or eval_loss is not None or state.step % self._report_every == 0):
            return None
        loss = state.report_loss / state.report_answer_tokens
        speed = state.tokens / max(state.seconds, 1e-9)
        rate = self._optimizer.param_groups[0]["lr"]
        point = CurvePoint(state.step, round(loss, 5), eval_loss, round(speed, 1), rate)
        self.state = replace(state, curve=(*state.curve, point), report_loss=0.0, report_answer_tokens=0)
        left = 0 if last else round((steps - state.step) * state.seconds / state.step)
        return StepReport(epoch + 1, self._training.epochs, state.step, steps, loss, eval_loss, round(speed), left)

    def _tensors(self) -> dict[str, torch.Tensor]:
        """All of a checkpoint that is numbers, by parameter."""
        import torch

        tensors = {"random_state": torch.get_rng_state()}
        for name, weight in self._weights.items():
            moments = self._optimizer.state[weight]
            tensors[f"weight/{name}"] = weight.detach()
            tensors |= {f"{part}/{name}": moments[part] for part in ("exp_avg", "exp_avg_sq")}
            tensors["optimizer_step"] = moments["step"]
        tensors |= {f"best/{name}": weight for name, weight in self._best.items()}
        return {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}

    def _in_memory(self, work: Callable[[], T]) -> T:
        """Do it, and once in a training, when memory runs out, do it again in passes of half the size."""
        import torch

        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not lacks_memory(error):
                raise
            if self.state.pass_tokens < self._pass_tokens:
                training = self._training
                raise out_of_memory(self.state.pass_tokens, training.batch_rows, training.rank, self.state.step + 1) from error
        # Only here has the error let go of the tensors that its frames held.
        self._optimizer.zero_grad(set_to_none=True)
        gc.collect()
        give_back_freed_memory()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        self.state = replace(self.state, pass_tokens=self.state.pass_tokens // 2)
        self._progress(
            self.state.step / self._steps,
            f"memory ran out in step {self.state.step + 1}: trying again with {self.state.pass_tokens} tokens at once",
        )
        return self._in_memory(work)
