"""Whether a text says only what other texts say: its numbers, its names, its content words, and its "not".

Belongs here: that comparison, by words and without a model.
Does not belong here: what becomes of a text that fails (`L2/enrich.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from lpm_kernel.L0.voice import FUNCTION_WORDS, PERSONS
from lpm_kernel.stores.stems import stems_of

Flaw = Literal["number", "name", "word"]

_NEGATIONS = {"not", "never", "no", "none", "nobody", "nothing", "nowhere", "neither", "nor", "without", "cannot"}
_LINKS = (
    "am being having got get gets really quite well yes now own up out off down around back called call name named thing "
    "things one ones let lot bit kind sort my our your their its mine ours yours theirs"
)
_FREE = frozenset(
    stems_of(" ".join([*FUNCTION_WORDS, *_LINKS.split(), *(word for words in PERSONS.values() for word in words)]))
)
_FREE_WORDS = frozenset(FUNCTION_WORDS) | {word for words in PERSONS.values() for word in words} | set(_LINKS.split())

_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SHORT_FORMS = (
    (re.compile(r"\b(ca|sha)n['’]t\b", re.IGNORECASE), "can not"),
    (re.compile(r"\bwon['’]t\b", re.IGNORECASE), "will not"),
    (re.compile(r"n['’]t\b", re.IGNORECASE), " not"),
    (re.compile(r"\bcannot\b", re.IGNORECASE), "can not"),
    (re.compile(r"['’](?:m|re|ve|ll|d|s)\b", re.IGNORECASE), ""),
)


@dataclass(frozen=True, slots=True)
class Claims:
    """What of a text must be true: numbers as written but for thousands marks, names in lower case, stems of content words."""

    numbers: frozenset[str]
    names: frozenset[str]
    stems: frozenset[str]
    words: frozenset[str]
    """Every word in lower case; what a name may be found among."""
    negated: bool


def read_claims(text: str) -> Claims:
    plain = text
    for pattern, full in _SHORT_FORMS:
        plain = pattern.sub(full, plain)
    words = [match.group().casefold() for match in _WORD.finditer(plain)]
    return Claims(
        numbers=frozenset(_number(match.group()) for match in _NUMBER.finditer(plain)),
        names=frozenset(_names(plain)),
        stems=frozenset(stems_of(_NUMBER.sub(" ", plain))) - _FREE,
        words=frozenset(words),
        negated=not _NEGATIONS.isdisjoint(words),
    )


def find_flaw(text: str, sources: Sequence[str], allowed_words: Collection[str] = ()) -> Flaw | None:
    """The first kind of thing in the text that no source says; None where all of it is said somewhere.

    English. Words are compared by their stems; which of two things a word belongs to is not looked at.
    """
    said, known = read_claims(text), [read_claims(source) for source in sources]
    if not said.numbers <= frozenset().union(*(source.numbers for source in known)):
        return "number"
    if not said.names <= frozenset().union(*(source.words for source in known)):
        return "name"
    if not said.stems <= frozenset(stems_of(" ".join(allowed_words))).union(*(source.stems for source in known)):
        return "word"
    return None


def _number(written: str) -> str:
    return re.sub(r",(?=\d{3}(?!\d))", "", written)


def _names(text: str) -> list[str]:
    """Words with a capital that do not merely begin a sentence."""
    names = []
    for match in _WORD.finditer(text):
        before = text[: match.start()].rstrip(" \t\n\"'“‘(–—-*")
        begins = not before or before[-1] in ".!?:;…"
        word = match.group().casefold()
        if match.group()[0].isupper() and not begins and word not in _FREE_WORDS and len(word) > 1:
            names.append(word)
    return names
