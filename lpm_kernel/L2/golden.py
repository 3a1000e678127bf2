"""Golden questions: known answers about one user, kept to measure with.

Belongs here: reading the file, whether an answer holds the fact, and whether a training question is too near a golden one.
Does not belong here: asking the twin (`evaluate.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import yaml

from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.L2.records import GoldenQuestion, GoldenSet, Side, Stance
from lpm_kernel.layout import golden_key
from lpm_kernel.records import sha256_hex
from lpm_kernel.stores.blobs import Blobs, TenantBlobs
from lpm_kernel.stores.embedder import Embedder

if TYPE_CHECKING:
    import numpy as np

PARAPHRASE_COSINE = 0.8
"""Above this two questions ask the same, whatever answers them."""

SAME_FACT_COSINE = 0.3
"""Above this they ask the same when the answer gives the golden fact of the same document and the question does not name it.
Source: paraphrases in other words fall to 0.31 ("Who double-checked your night data by hand?", "Who checked a sample of 50 jobs
by hand?"), where cosine alone could not tell them from their neighbours."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question a row would ask, and the answer it would teach."""

    question: str
    answer: str


def parse_golden(data: bytes) -> GoldenSet:
    """Raises: UserInputError `golden_invalid`."""
    try:
        content = yaml.safe_load(data)
        questions = tuple(
            GoldenQuestion(
                str(item["id"]),
                str(item["question"]),
                _strings(item["expected"]),
                str(item["document"]),
                str(item.get("evidence", "")),
            )
            for item in content["questions"]
        )
        unanswerable = tuple(str(item["question"]) for item in content["unanswerable"])
        stances = _opinions(content.get("opinions", ())) + _preferences(content.get("preferences", ()))
    except (
        yaml.YAMLError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:  # ValueError: `2024-13-45` is a date to YAML
        raise UserInputError(
            "golden_invalid", f"the golden file lacks questions or unanswerable ones: {type(error).__name__}"
        ) from error
    if not questions or not all(question.expected and all(map(_plain, question.expected)) for question in questions):
        raise UserInputError("golden_invalid", "the golden file has no question, or one without an expected answer")
    if not all(map(_plain, [*(question.question for question in questions), *unanswerable])):
        raise UserInputError("golden_invalid", "the golden file has a question without words")
    return GoldenSet(questions, unanswerable, sha256_hex(data), stances)


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


def too_close(asked: Sequence[Asked], golden: GoldenSet | None, embedder: Embedder) -> list[bool]:
    """For each question whether it is a golden one or a paraphrase of it, the unanswerable included."""
    if golden is None or not asked:
        return [False] * len(asked)
    kept_out = [item.question for item in golden.questions] + list(golden.unanswerable)
    same = {_plain(question) for question in kept_out}
    cosines: np.ndarray = embedder.embed([item.question for item in asked]) @ embedder.embed(kept_out).T
    return [
        _plain(item.question) in same or bool(near.max() >= PARAPHRASE_COSINE) or _asks_the_same_fact(item, golden, near)
        for item, near in zip(asked, cosines, strict=True)
    ]


def leave_out_taught(golden: GoldenSet, taught: Sequence[str], embedder: Embedder) -> tuple[GoldenSet, int]:
    """The set without what was asked, in these or other words, in teaching what every adapter begins with; and how many went.

    Why: who learnt to decline "How tall are you?" proves nothing by declining it.
    """
    kept_out = [item.question for item in golden.questions] + list(golden.unanswerable)
    if not taught or not kept_out:
        return golden, 0
    nearest = (embedder.embed(kept_out) @ embedder.embed(taught).T).max(axis=1)
    new = [cosine < PARAPHRASE_COSINE for cosine in nearest]
    told = len(golden.questions)
    questions = tuple(item for item, fits in zip(golden.questions, new[:told], strict=True) if fits)
    unanswerable = tuple(item for item, fits in zip(golden.unanswerable, new[told:], strict=True) if fits)
    return replace(golden, questions=questions, unanswerable=unanswerable), len(new) - sum(new)


def _asks_the_same_fact(item: Asked, golden: GoldenSet, cosines: np.ndarray) -> bool:
    return any(
        cosine >= SAME_FACT_COSINE and holds_fact(item.answer, known.expected) and not holds_fact(item.question, known.expected)
        for known, cosine in zip(golden.questions, cosines, strict=False)
    )


def _opinions(items: Sequence[dict]) -> tuple[Stance, ...]:
    """Raises: ValueError on a stance that is none."""
    sides: dict[str, Side] = {"for": "for", "against": "against", "abstain": "undecided"}
    if strange := {item["stance"] for item in items} - set(sides):
        raise ValueError(f"stances {strange}")
    return tuple(
        Stance(f"{item['proposal']}, {item['title']}", sides[item["stance"]], (str(item["evidence"]),)) for item in items
    )


def _preferences(items: Sequence[dict]) -> tuple[Stance, ...]:
    """One stance a topic: a question about the topic may be answered by any of what is preferred in it."""
    told: dict[str, list[str]] = {}
    for item in items:
        told.setdefault(str(item["topic"]), []).extend((str(item["evidence"]), str(item["preference"])))
    return tuple(Stance(topic, None, tuple(sentences)) for topic, sentences in told.items())


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
