"""Which of a person's preferences stand in a prompt: those that bear on the question, the firm ones first, within a budget.

Belongs here: a pure choice over preferences and their vectors.
Does not belong here: finding preferences (`turn_preferences.py`, `L0/preferences.py`) and the rest of a pack.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from lpm_kernel.errors import UserInputError
from lpm_kernel.records import Memory, Preference

if TYPE_CHECKING:
    import numpy as np

MOST = 512
"""Preferences that are compared with each other: those nearest to the question, where there are more."""
DOMAIN_NEIGHBOURS = 8
DOMAIN_WEIGHT = 1.0
"""Of how near its domain is to the question, beside how near it is itself."""
FIRMNESS_WEIGHT = 0.05
NAMED_WEIGHT = 0.05

Told = TypeVar("Told", Preference, Memory)

_WORD = re.compile(r"[^\W_]+")


def choose_preferences(
    question_vector: np.ndarray,
    question: str,
    preferences: Sequence[Told],
    vectors: np.ndarray,
    budget_tokens: int,
    count_tokens: Callable[[str], int],
) -> list[Told]:
    """The preferences for a prompt, best first: all of them where they fit, else by similarity, domain and firmness.

    Shapes: question_vector (dim,), vectors (len(preferences), dim), all of norm 1.
    Units: `budget_tokens` is spent on the texts alone, one token more for each line's end.
    Why the domain: "Where shall we eat in Rome?" is nearer to another word about food than to "gluten makes me ill", but what
    that is near to, it is near to as well. The domain of a preference is its nearest others by meaning.
    Raises: UserInputError `vectors_not_matching`.
    """
    import numpy as np

    if vectors.shape[0] != len(preferences):
        raise UserInputError("vectors_not_matching", f"{len(preferences)} preferences have {vectors.shape[0]} vectors")
    if not preferences:
        return []
    if len(preferences) > MOST:
        nearest = np.argsort(-(vectors @ question_vector), kind="stable")[:MOST]
        preferences, vectors = [preferences[position] for position in nearest], vectors[nearest]
    asked = _words(question)
    scores = _nearness(question_vector, vectors) + np.array(
        [FIRMNESS_WEIGHT * _firmness(item) + NAMED_WEIGHT * _is_named(item.domain, asked) for item in preferences]
    )
    chosen: list[Told] = []
    known: set[str] = set()
    for position in np.argsort(-scores, kind="stable"):
        item = preferences[position]
        words, cost = " ".join(_WORD.findall(item.text.casefold())), count_tokens(item.text) + 1
        if words in known or cost > budget_tokens:
            continue
        known.add(words)
        budget_tokens -= cost
        chosen.append(item)
    return chosen


def _nearness(question_vector: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Similarity to the question, of each and of its nearest others."""
    import numpy as np

    own = vectors @ question_vector
    count = min(DOMAIN_NEIGHBOURS, len(own) - 1)
    if count < 1:
        return own
    between = vectors @ vectors.T
    np.fill_diagonal(between, -np.inf)
    nearest = np.argpartition(-between, count - 1, axis=1)[:, :count]
    return own + DOMAIN_WEIGHT * own[nearest].mean(axis=1)


def _firmness(item: Preference | Memory) -> float:
    return item.strength if isinstance(item, Preference) else item.importance


def _is_named(domain: str, asked: set[str]) -> bool:
    words = _words(domain)
    return bool(words) and words <= asked


def _words(text: str) -> set[str]:
    """Without case and the ending of a plural."""
    return {word[:-1] if len(word) > 3 and word.endswith("s") else word for word in _WORD.findall(text.casefold())}
