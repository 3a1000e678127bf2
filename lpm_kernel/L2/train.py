"""Training a LoRA adapter: rows in, a safetensors file and PEFT's config out.

Belongs here: the loop, the loss, the schedule, and what of a training can go wrong.
Does not belong here: which rows there are (`synthesize.py`), how they become batches (`training_batches.py`), GGUF (`gguf.py`).

In fp32: on CPUs without AMX bf16 is 3.5 times slower. The base stays frozen and is mapped from disk, not copied.
"""

from __future__ import annotations

import gc
import json
import math
import random
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.base_files import BASE_SHA256_KEY
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.freed_memory import give_back_freed_memory
from lpm_kernel.L2.records import TrainingRow
from lpm_kernel.L2.training_batches import EncodedRow, encode_rows, epoch_batches, passes
from lpm_kernel.settings import TrainingSettings
from lpm_kernel.stores.compute import Progress

if TYPE_CHECKING:
    import torch

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
MAX_GRADIENT_NORM = 1.0
PROGRESS_REPORTS = 50


@dataclass(frozen=True, slots=True)
class TrainResult:
    adapter_path: Path
    config_path: Path
    steps: int
    loss_curve: tuple[float, ...]
    """Mean loss of each epoch, in nats an answer token."""
    seconds: float
    """Of the loop; loading torch and the base is not in it."""
    tokens_per_second: float
    """Prompt and answer tokens, without padding."""
    targets: tuple[str, ...]


def train_adapter(
    rows: Sequence[TrainingRow], base: BaseModel, training: TrainingSettings, out_dir: Path, progress: Progress
) -> TrainResult:
    """Learn the answers of the rows into a LoRA adapter on attention and MLP; the same seed and rows give the same bytes.

    Raises: TrainingError `no_training_rows`, `held_out_row`, `answer_missing`, `row_too_long`, `loss_not_finite`.
    """
    encoded = encode_rows(rows, base.hf_dir)
    progress(0.0, f"loading {base.name} to train on {len(encoded)} rows")
    import torch

    try:
        with torch_threads(training.threads), torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            model = with_adapter(load_torch_base(base), _new_config(training)).train()
            curve, seconds = _loop(model, encoded, training, progress)
            adapter_path, config_path = _save(model, base, out_dir)
    finally:
        model = None
        gc.collect()
        give_back_freed_memory()
    tokens = training.epochs * sum(len(row.ids) for row in encoded)
    steps = training.epochs * math.ceil(len(encoded) / training.batch_rows)
    return TrainResult(adapter_path, config_path, steps, tuple(curve), seconds, tokens / seconds, TARGETS)


def load_torch_base(base: BaseModel) -> Any:
    """The base as a transformers model in fp32, its weights mapped from disk."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model: Any = AutoModelForCausalLM.from_pretrained(base.hf_dir, dtype=torch.float32, local_files_only=True)
    model.config.use_cache = False
    return model


def answer_loss_sum(model: Any, rows: Sequence[EncodedRow]) -> torch.Tensor:
    """Cross entropy summed over the answers' tokens, in nats.

    Why no attention mask: rows are padded on the right, where causal attention never looks from a real token; and why logits
    at answer positions only: the output layer is a fifth of the model's work and most positions are prompt.
    """
    import torch

    longest = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    learned = torch.zeros(len(rows), longest, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        learned[index, row.answer_start : len(row.ids)] = True
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = causal.model(input_ids=ids).last_hidden_state
    logits = causal.lm_head(hidden[:, :-1][learned[:, 1:]])
    return torch.nn.functional.cross_entropy(logits, ids[:, 1:][learned[:, 1:]], reduction="sum")


def with_adapter(model: Any, config: Any) -> Any:
    """Put LoRA matrices beside the base's, by PEFT's config; they start without effect."""
    from peft import get_peft_model

    with warnings.catch_warnings():
        # PEFT asks transformers for gradient checkpointing by a name that transformers is about to drop.
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(model, config)


def _new_config(training: TrainingSettings) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=training.rank,
        lora_alpha=training.alpha,
        lora_dropout=0.0,
        bias="none",
        target_modules=list(TARGETS),
        task_type="CAUSAL_LM",
    )


def _loop(model: Any, rows: Sequence[EncodedRow], training: TrainingSettings, progress: Progress) -> tuple[list[float], float]:
    import torch

    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=training.learning_rate, weight_decay=0.0, fused=True)
    steps = training.epochs * math.ceil(len(rows) / training.batch_rows)
    warmup = max(1, round(training.warmup_share * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))
    )
    chance = random.Random(training.seed)
    curve = []
    step = 0
    started = time.perf_counter()
    for epoch in range(training.epochs):
        epoch_loss = 0.0
        for batch in epoch_batches(rows, training.batch_rows, chance):
            answer_tokens = sum(row.answer_tokens for row in batch)
            batch_loss = 0.0
            for part in passes(batch):
                loss = answer_loss_sum(model, part)
                batch_loss += loss.item()
                (loss / answer_tokens).backward()
            norm = torch.nn.utils.clip_grad_norm_(weights, MAX_GRADIENT_NORM)
            if not (math.isfinite(batch_loss) and math.isfinite(norm.item())):
                raise TrainingError(
                    "loss_not_finite",
                    f"loss {batch_loss / answer_tokens} and gradient norm {norm.item()} in step {step + 1} of {steps} "
                    f"at learning rate {training.learning_rate}; lower training.learning_rate",
                )
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            epoch_loss += batch_loss
            if step % max(1, steps // PROGRESS_REPORTS) == 0 or step == steps:
                words = f"epoch {epoch + 1} of {training.epochs}, step {step} of {steps}, loss {batch_loss / answer_tokens:.3f}"
                progress(step / steps, words)
        curve.append(epoch_loss / sum(row.answer_tokens for row in rows))
    return curve, time.perf_counter() - started


def _save(model: Any, base: BaseModel, out_dir: Path) -> tuple[Path, Path]:
    """Weights in f16: what llama.cpp will hold is then what torch checks it against."""
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save

    # save_embedding_layers: by default PEFT asks the model hub over the network whether the vocabulary was changed.
    trained = get_peft_model_state_dict(model, save_embedding_layers=False)
    weights = {name: weight.to(torch.float16).contiguous() for name, weight in trained.items()}
    if not all(weight.isfinite().all() for weight in weights.values()):
        raise TrainingError("loss_not_finite", "the trained weights are not finite in f16; lower training.learning_rate")
    config = model.peft_config["default"].to_dict()
    config["target_modules"] = sorted(config["target_modules"])
    config["inference_mode"] = True
    # Not the folder it was loaded from: an adapter is the same on every machine.
    config["base_model_name_or_path"] = base.name
    out_dir.mkdir(parents=True, exist_ok=True)
    adapter_path, config_path = out_dir / "adapter_model.safetensors", out_dir / "adapter_config.json"
    # One key only: safetensors writes several in a random order, and equal trainings shall be equal bytes.
    adapter_path.write_bytes(save(weights, metadata={BASE_SHA256_KEY: base.sha256}))
    config_path.write_text(json.dumps(config, indent=2, sort_keys=True, default=str), encoding="utf-8")
    return adapter_path, config_path


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute with this many threads, and put back what was set."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
