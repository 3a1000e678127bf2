"""Two extractors behind one port: what the first cannot read, the second reads, and the reading says so.

Belongs here: which of the two reads a text.
Does not belong here: how either of them reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lpm_kernel.errors import NerError
from lpm_kernel.stores.ner import Ner, Reading


class FallbackNer:
    """The first extractor, text by text replaced by the second where it fails.

    Its fingerprint is the first one's: a text that the second one read has another recipe, and so is read again later.
    """

    def __init__(self, first: Ner, second: Ner) -> None:
        self._first = first
        self._second = second

    @property
    def fingerprint(self) -> str:
        return self._first.fingerprint

    def extract(self, texts: Sequence[str]) -> list[Reading | NerError]:
        results: list[Reading | NerError] = []
        try:
            results = self._first.extract(texts)
        except NerError as error:
            results += [error] * len(texts)
        missing = {i: result for i, result in enumerate(results) if isinstance(result, NerError)}
        if missing:
            instead: list[Reading | NerError]
            try:
                instead = self._second.extract([texts[i] for i in missing])
            except NerError as error:
                if len(missing) == len(texts):
                    raise
                instead = [error] * len(missing)  # what the first one read is kept
            for (i, error), result in zip(missing.items(), instead, strict=True):
                results[i] = _both_failed(error, result) if isinstance(result, NerError) else replace(result, instead_of=error)
        return results


def _both_failed(first: NerError, second: NerError) -> NerError:
    return NerError(second.code, f"{second.message}; before that {first.code}: {first.message}", retryable=first.retryable)
