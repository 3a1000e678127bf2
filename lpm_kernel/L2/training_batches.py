"""From training rows to batches of token ids, with the answer marked.

Belongs here: tokenising a row, which rows stand in one batch, and how a batch is cut to fit memory.
Does not belong here: the model and the loss (`train.py`), and how a conversation is written as text (`prompt.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.prompt import render_chatml
from lpm_kernel.L2.records import Split, TrainingRow
from lpm_kernel.records import Message

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_ROW_TOKENS = 512
"""A row is never cut in two, and a token costs about 2.3 MB while gradients are computed."""

PASS_TOKENS = 384
"""Tokens, padding included, that go through the model at once; more of one batch follow and their gradients add up."""

GPU_PASS_TOKENS = 16384
"""There a pass is one launch of many kernels, and memory is plenty."""

BUCKET_BATCHES = 8
"""Rows are sorted by length within this many batches: little padding, yet other neighbours in every epoch."""


@dataclass(frozen=True, slots=True)
class EncodedRow:
    ids: tuple[int, ...]
    answer_start: int
    """Index of the answer's first token; everything before it is given, not learned."""

    @property
    def answer_tokens(self) -> int:
        return len(self.ids) - self.answer_start


def row_counter(hf_dir: Path) -> Callable[[Sequence[Message]], int]:
    """Counts the tokens a row of these messages will have in training."""
    tokenizer = _tokenizer(hf_dir)
    return lambda messages: sum(map(len, _encode(tokenizer, messages)))


def encode_rows(rows: Sequence[TrainingRow], hf_dir: Path, *, split: Split = "train") -> list[EncodedRow]:
    """Tokenise rows of one split as serving will: the prompt up to where the assistant speaks, the answer, its closing token.

    Raises: TrainingError `no_training_rows`, `held_out_row`, `answer_missing`, `row_too_long`.
    """
    if not rows and split == "train":
        raise TrainingError("no_training_rows", "there are no training rows; upload documents with more text")
    tokenizer = _tokenizer(hf_dir)
    encoded = []
    for row in rows:
        if row.split != split:
            raise TrainingError(
                "held_out_row", f"row {row.row_id} is of split {row.split}; only split train may be learned from"
            )
        if not row.messages or row.messages[-1].role != "assistant" or not row.messages[-1].content.strip():
            raise TrainingError("answer_missing", f"row {row.row_id} does not end in an answer of the assistant")
        prompt_ids, answer_ids = _encode(tokenizer, row.messages)
        if len(prompt_ids) + len(answer_ids) > MAX_ROW_TOKENS:
            raise TrainingError(
                "row_too_long",
                f"row {row.row_id} has {len(prompt_ids) + len(answer_ids)} tokens, at most {MAX_ROW_TOKENS} fit; "
                "use fewer or shorter lines in a row",
            )
        encoded.append(EncodedRow((*prompt_ids, *answer_ids), len(prompt_ids)))
    return encoded


def _tokenizer(hf_dir: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(hf_dir / "tokenizer.json"))


def _encode(tokenizer: Tokenizer, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """Ids of the prompt, and of the answer with its closing token."""
    prompt = render_chatml(messages[:-1], open_answer=True)
    answer = render_chatml(messages, open_answer=False)[len(prompt) :].removesuffix("\n")
    # Two calls, because at serving time the prompt is tokenised before the answer exists.
    return tokenizer.encode(prompt, add_special_tokens=False).ids, tokenizer.encode(answer, add_special_tokens=False).ids


def epoch_batches(rows: Sequence[EncodedRow], batch_rows: int, chance: random.Random) -> list[list[EncodedRow]]:
    """Every row once, rows of like length together, batches in random order."""
    shuffled = list(rows)
    chance.shuffle(shuffled)
    bucket_rows = batch_rows * BUCKET_BATCHES
    batches = []
    for start in range(0, len(shuffled), bucket_rows):
        bucket = sorted(shuffled[start : start + bucket_rows], key=lambda row: len(row.ids))
        batches += [bucket[at : at + batch_rows] for at in range(0, len(bucket), batch_rows)]
    chance.shuffle(batches)
    return batches


def passes(batch: Sequence[EncodedRow], pass_tokens: int = PASS_TOKENS, *, packed: bool = False) -> Iterator[list[EncodedRow]]:
    """Cut a batch so that what goes through the model at once stays within `pass_tokens`, or is one row."""
    size = packed_tokens if packed else padded_tokens
    taken: list[EncodedRow] = []
    for row in sorted(batch, key=lambda row: len(row.ids)):
        if taken and size([*taken, row]) > pass_tokens:
            yield taken
            taken = []
        taken.append(row)
    if taken:
        yield taken


def padded_tokens(rows: Sequence[EncodedRow]) -> int:
    return len(rows) * max(len(row.ids) for row in rows)


def packed_tokens(rows: Sequence[EncodedRow]) -> int:
    return sum(len(row.ids) for row in rows) - (len(rows) - 1) * shared_start(rows)


def shared_start(rows: Sequence[EncodedRow]) -> int:
    """How many tokens all rows begin with; the last one of a prompt, which asks for the answer, is each row's own."""
    if len(rows) == 1:
        return 0
    most = min(row.answer_start for row in rows) - 1
    first, last = min(row.ids[:most] for row in rows), max(row.ids[:most] for row in rows)
    return next((at for at, (one, other) in enumerate(zip(first, last, strict=True)) if one != other), most)
