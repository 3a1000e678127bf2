"""Golden questions: known answers about one user, kept to measure with.

Belongs here: reading the file, whether an answer holds the fact, and whether a training question is too near a golden one.
Does not belong here: asking the twin (`evaluate.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import yaml

from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.layout import golden_key
from lpm_kernel.records import GoldenQuestion, GoldenSet, sha256_hex
from lpm_kernel.stores.blobs import Blobs, TenantBlobs
from lpm_kernel.stores.embedder import Embedder

if TYPE_CHECKING:
    import numpy as np

PARAPHRASE_COSINE = 0.8
"""Above this two questions ask the same. Source: MiniLM gives paraphrases 0.79 on average and unrelated pairs 0.05."""


def parse_golden(data: bytes) -> GoldenSet:
    """Raises: UserInputError `golden_invalid`."""
    try:
        content = yaml.safe_load(data)
        questions = tuple(
            GoldenQuestion(str(item["id"]), str(item["question"]), _strings(item["expected"]), str(item["document"]))
            for item in content["questions"]
        )
        unanswerable = tuple(str(item["question"]) for item in content["unanswerable"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserInputError(
            "golden_invalid", f"the golden file lacks questions or unanswerable ones: {type(error).__name__}"
        ) from error
    if not questions or not all(question.expected and all(map(_plain, question.expected)) for question in questions):
        raise UserInputError("golden_invalid", "the golden file has no question, or one without an expected answer")
    return GoldenSet(questions, unanswerable, sha256_hex(data))


def load_golden(blobs: Blobs, user_id: str) -> GoldenSet | None:
    """The user's golden set, or None when nobody gave one."""
    try:
        return parse_golden(TenantBlobs(blobs, user_id).get(golden_key(user_id)))
    except StoreError as error:
        if error.code == "blob_not_found":
            return None
        raise


def holds_fact(text: str, expected: Sequence[str]) -> bool:
    """Whether one of the expected strings stands in the text as whole words, case and white space aside."""
    plain = _plain(text)
    return any(re.search(_as_pattern(_plain(fact)), plain) for fact in expected)


def too_close(questions: Sequence[str], golden: GoldenSet | None, embedder: Embedder) -> list[bool]:
    """For each question whether it is a golden one or a paraphrase of it, the unanswerable included."""

    if golden is None or not questions:
        return [False] * len(questions)
    kept_out = [item.question for item in golden.questions] + list(golden.unanswerable)
    same = {_plain(question) for question in kept_out}
    nearest: np.ndarray = (embedder.embed(questions) @ embedder.embed(kept_out).T).max(axis=1)
    return [_plain(q) in same or bool(near >= PARAPHRASE_COSINE) for q, near in zip(questions, nearest, strict=True)]


def _strings(values: Sequence[object]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise TypeError  # its letters would each be an accepted answer
    return tuple(str(value) for value in values)


def _as_pattern(fact: str) -> str:
    """The fact as whole words; a number also not as a part of a longer one: "265" is not in "1,265", nor "8" in "5.8"."""
    before = r"(?<!\w)(?<!\d[.,])" if fact[:1].isdigit() else r"(?<!\w)"
    after = r"(?!\w)(?![.,]\d)" if fact[-1:].isdigit() else r"(?!\w)"
    return f"{before}{re.escape(fact)}{after}"


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace("’", "'").split()).strip(" .!?\"'“”")
