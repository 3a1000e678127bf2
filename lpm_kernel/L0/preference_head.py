"""A learned judgement beside the grammar: whether a sentence of a chat tells a lasting preference of its writer.

Belongs here: the features of one sentence, and the logistic regression over them, fitted at first use on written examples.
Does not belong here: which sentences of a turn are asked and what becomes of them (`recall/turn_preferences.py`).

Why beside the grammar: people say it in more ways than rules name ("Strobe lights give me migraines").
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from lpm_kernel.english import parse_sentences
from lpm_kernel.L0.preference_grammar import Found, find_preference
from lpm_kernel.L0.sentences import Sentence, split_sentences
from lpm_kernel.stores.embedder import Embedder

if TYPE_CHECKING:
    import numpy as np

PRIOR_VARIANCE = 10.0  # of a weight
FLAG_SCALE = 0.5  # of what is not an embedding, whose coordinates are near 0.05
NEWTON_STEPS = 20

_FIRST_PERSON = re.compile(r"\b(?:I|i|[Mm]e|[Mm]y|[Mm]ine|[Mm]yself)\b")


class Judged(NamedTuple):
    score: float
    """Share of such sentences that tell a preference, as the examples have it; 0 to 1."""
    found: Found | None
    """What the grammar reads of it."""
    parsed: Any


class PreferenceHead:
    """Fitted once, for one embedder; the same examples and embedder give the same judgement."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._weights: np.ndarray | None = None
        self._lock = threading.Lock()

    def judge(self, sentences: Sequence[Sentence]) -> list[Judged]:
        """One a sentence, in order. Raises: IngestionError `parser_missing`; LlmError `embedder_unavailable`."""
        import numpy as np

        if not sentences:
            return []
        features, read = self._features(sentences)
        scores = 1 / (1 + np.exp(-features @ self._fitted()))
        return [Judged(float(score), found, parsed) for score, (found, parsed) in zip(scores, read, strict=True)]

    def fit(self) -> None:
        """Now, and not at the first sentence. Raises: as `judge`."""
        self._fitted()

    def _fitted(self) -> np.ndarray:
        with self._lock:
            if self._weights is None:
                examples = read_examples()
                sentences = [(sentence, told) for text, told in examples for sentence in split_sentences(text)]
                features, _ = self._features([sentence for sentence, _ in sentences])
                self._weights = _fit(features, [told for _, told in sentences])
            return self._weights

    def _features(self, sentences: Sequence[Sentence]) -> tuple[np.ndarray, list[tuple[Found | None, Any]]]:
        """Shapes: (len(sentences), dim + 5): embedding, grammar's strength, first person, question, imperative, one."""
        import numpy as np

        texts = [sentence.text for sentence in sentences]
        parsed = list(parse_sentences(texts))
        found = [find_preference(grammar, sentence.is_quoted) for grammar, sentence in zip(parsed, sentences, strict=True)]
        flags = [
            (
                item.strength if item else 0.0,
                bool(_FIRST_PERSON.search(text)),
                text.rstrip().endswith("?"),
                grammar[0].tag_ == "VB",
                1 / FLAG_SCALE,
            )
            for text, grammar, item in zip(texts, parsed, found, strict=True)
        ]
        vectors = self._embedder.embed(texts)
        return np.hstack([vectors, FLAG_SCALE * np.asarray(flags, dtype=np.float64)]), list(zip(found, parsed, strict=True))


def read_examples() -> list[tuple[str, bool]]:
    """Sentences written for this purpose, and whether each tells a preference."""
    lines = resources.files("lpm_kernel.L0").joinpath("preference_examples.txt").read_text(encoding="utf-8").splitlines()
    return [(line[2:], line[0] == "+") for line in lines if not line.startswith("#")]


def _fit(features: np.ndarray, told: Sequence[bool]) -> np.ndarray:
    """Logistic regression with a normal prior on every weight but the last, by Newton's method."""
    import numpy as np

    target = np.asarray(told, dtype=np.float64)
    precision = np.full(features.shape[1], 1 / PRIOR_VARIANCE)
    precision[-1] = 1e-6
    weights = np.zeros(features.shape[1])
    for _ in range(NEWTON_STEPS):
        share = 1 / (1 + np.exp(-features @ weights))
        slope = features.T @ (share - target) + precision * weights
        curve = (features.T * (share * (1 - share))) @ features + np.diag(precision)
        weights = weights - np.linalg.solve(curve, slope)
    return weights
