"""One adapter, trained, and what it then knows: only torch, transformers and PEFT, on a CPU or a GPU.

Why a loop of its own beside `lpm_kernel/L2/train.py`: it shares one base among all settings and needs none of the product's
settings, so that it runs where the product is not installed. It takes the same steps (tests/L2/test_training_curve.py).
"""

from __future__ import annotations

import copy
import math
import random
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lpm_kernel.L2.prompt import render_chatml
from lpm_kernel.L2.records import TrainingRow
from lpm_kernel.L2.training_batches import EncodedRow, encode_rows, epoch_batches
from lpm_kernel.records import Message

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
MAX_GRADIENT_NORM = 1.0
ENDS = ("<|im_end|>", "<|endoftext|>")
ALPHA_PER_RANK = 2
"""The scale stays the same over ranks; else the curve over ranks would be one over learning rates too."""


@dataclass(frozen=True)
class Base:
    """The base in memory, with its tokenizer."""

    model: Any
    tokenizer: Any
    hf_dir: Path
    device: str


@dataclass(frozen=True, slots=True)
class Point:
    """One setting of the grid."""

    rank: int
    epochs: int
    rows: int
    seed: int
    learning_rate: float
    batch_rows: int = 4
    warmup_share: float = 0.05


@dataclass(frozen=True, slots=True)
class Loss:
    """Nats an answer token, with an interval of 95 % over rows (a ratio of sums, its variance linearised)."""

    mean: float
    half_width: float


def load_base(hf_dir: Path, device: str, threads: int | None) -> Base:
    """In fp32 everywhere: the question is what a setting learns, not what a number format costs."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = AutoModelForCausalLM.from_pretrained(hf_dir, dtype=torch.float32, local_files_only=True)
    return Base(model.to(device).eval(), Tokenizer.from_file(str(hf_dir / "tokenizer.json")), hf_dir, device)


def encode_any(rows: Sequence[TrainingRow], hf_dir: Path) -> list[EncodedRow]:
    """Rows of either split, to be measured on; training itself refuses held-out ones."""
    return encode_rows([replace(row, split="train") for row in rows], hf_dir) if rows else []


def train_point(base: Base, rows: Sequence[EncodedRow], point: Point) -> tuple[Any, list[float], float]:
    """The model with the adapter merged in, mean loss of each epoch, and seconds of the loop.

    Raises: ArithmeticError when the loss is not finite.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(point.seed)
    config = LoraConfig(
        r=point.rank, lora_alpha=ALPHA_PER_RANK * point.rank, target_modules=list(TARGETS), task_type="CAUSAL_LM"
    )
    with warnings.catch_warnings():
        # PEFT asks transformers for gradient checkpointing by a name that transformers is about to drop.
        warnings.simplefilter("ignore", FutureWarning)
        model = get_peft_model(copy.deepcopy(base.model), config).train()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=point.learning_rate, weight_decay=0.0, fused=True)
    steps = point.epochs * math.ceil(len(rows) / point.batch_rows)
    warmup = max(1, round(point.warmup_share * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))
    )
    chance = random.Random(point.seed)
    curve = []
    began = time.perf_counter()
    for _ in range(point.epochs):
        summed = torch.zeros((), device=base.device)
        for batch in epoch_batches(rows, point.batch_rows, chance):
            loss = sum(_answer_losses(model.get_base_model(), batch, base.device))
            (loss / sum(row.answer_tokens for row in batch)).backward()
            torch.nn.utils.clip_grad_norm_(weights, MAX_GRADIENT_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            summed += loss.detach()  # read once an epoch: each read would make a GPU wait
        curve.append(summed.item() / sum(row.answer_tokens for row in rows))
        if not math.isfinite(curve[-1]):
            raise ArithmeticError(f"loss {curve[-1]}")
    seconds = time.perf_counter() - began
    with torch.no_grad():
        for weight in weights:  # as it is saved
            weight.copy_(weight.half().float())
    return model.merge_and_unload().eval(), curve, seconds


def _answer_losses(model: Any, rows: Sequence[EncodedRow], device: str) -> list[Any]:
    """Each row's summed cross entropy over its answer; padded on the right, where causal attention never looks."""
    import torch

    longest = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    learned = torch.zeros(len(rows), longest, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        learned[index, row.answer_start : len(row.ids)] = True
    wanted = ids[:, 1:][learned[:, 1:]].to(device)
    positions = learned[:, 1:].reshape(-1).nonzero().squeeze(1).to(device)
    hidden = model.model(input_ids=ids.to(device), use_cache=False).last_hidden_state[:, :-1]
    logits = model.lm_head(hidden.reshape(-1, hidden.shape[-1])[positions])
    losses = torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
    return [part.sum() for part in losses.split([row.answer_tokens for row in rows])]


def measure_loss(model: Any, rows: Sequence[EncodedRow], device: str, batch: int) -> Loss:
    import torch

    sums: list[float] = []
    counts: list[int] = []
    with torch.inference_mode():
        for part in _by_length(rows, [len(row.ids) for row in rows], batch):
            picked = [rows[i] for i in part]
            sums += torch.stack(_answer_losses(model, picked, device)).tolist()
            counts += [row.answer_tokens for row in picked]
    return ratio_loss(sums, counts)


def ratio_loss(sums: Sequence[float], counts: Sequence[int]) -> Loss:
    """Rows are drawn, not tokens: the tokens of one answer are easy or hard together. Of no rows nothing is known."""
    if not sums:
        return Loss(math.nan, math.inf)
    mean = sum(sums) / sum(counts)
    if len(sums) < 2:
        return Loss(mean, math.inf)
    spread = sum((loss - mean * count) ** 2 for loss, count in zip(sums, counts, strict=True))
    return Loss(mean, 1.96 * math.sqrt(spread * len(sums) / (len(sums) - 1)) / sum(counts))


def answer_all(model: Any, base: Base, prompts: Sequence[Sequence[Message]], max_tokens: int, batch: int) -> list[str]:
    """Greedy answers, in order."""
    encoded = [base.tokenizer.encode(render_chatml(p, open_answer=True), add_special_tokens=False).ids for p in prompts]
    ends = [end for end in map(base.tokenizer.token_to_id, ENDS) if end is not None]
    answers = [""] * len(prompts)
    for part in _by_length(prompts, list(map(len, encoded)), batch):
        written = _decode(model, [encoded[i] for i in part], ends, max_tokens, base.device)
        for index, ids in zip(part, written, strict=True):
            answers[index] = base.tokenizer.decode(ids, skip_special_tokens=True)
    return answers


def _decode(model: Any, prompts: Sequence[Sequence[int]], ends: Sequence[int], max_tokens: int, device: str) -> list[list[int]]:
    """Padded on the left, so that all prompts end at one place and their next tokens are one column."""
    import torch

    longest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros(len(prompts), longest, dtype=torch.long)
    for index, prompt in enumerate(prompts):
        ids[index, longest - len(prompt) :] = torch.tensor(prompt)
        mask[index, longest - len(prompt) :] = 1
    ids, mask = ids.to(device), mask.to(device)
    stops = torch.tensor(ends, device=device)
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    columns, cache = [], None
    with torch.inference_mode():
        for _ in range(max_tokens):
            out = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = out.past_key_values
            following = out.logits[:, -1].argmax(-1)
            ended = ended | torch.isin(following, stops)
            columns.append(torch.where(ended, stops[0], following))
            if bool(ended.all()):
                break
            ids = following[:, None]
            mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], 1)
            positions = positions[:, -1:] + 1
    rows = torch.stack(columns, 1).tolist()
    return [row[: row.index(ends[0])] if ends[0] in row else row for row in rows]


def _by_length(items: Sequence[Any], lengths: Sequence[int], batch: int) -> Iterator[list[int]]:
    order = sorted(range(len(items)), key=lambda i: lengths[i])
    for start in range(0, len(order), batch):
        yield order[start : start + batch]
