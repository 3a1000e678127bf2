"""Words as they are compared in a search: lower case, without what says nothing, reduced to their English stems.

Belongs here: the one form of a word that an index and a question share.
Does not belong here: weighing words (`text_index.py`) and the words of the temporal graph, whose servers stem on their own.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any

from lpm_kernel.stores.graph_search import STOP_WORDS

_WORD = re.compile(r"[^\W_]+")
_POSSESSIVE = re.compile(r"['’]s\b")


def stems_of(text: str) -> list[str]:
    """Stems in their order, repetitions kept. Source: Snowball's English stemmer."""
    words = _WORD.findall(_POSSESSIVE.sub("", text.casefold()))
    return [_stem(word) for word in words if word not in STOP_WORDS]


@lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    return _stemmer().stemWord(word)


@cache
def _stemmer() -> Any:
    import Stemmer

    return Stemmer.Stemmer("english")
