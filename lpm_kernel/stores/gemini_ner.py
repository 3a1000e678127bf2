"""Named things by Gemini: which text an answer is for, and where in it each answered mention stands.

Belongs here: batches, retries, and the way from copied characters to exact ranges.
Does not belong here: the wire format (`gemini_wire.py`) and what reads a text that Gemini did not (`fallback_ner.py`).
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lpm_kernel.errors import NerError
from lpm_kernel.records import sha256_hex
from lpm_kernel.stores.breaker import Breaker
from lpm_kernel.stores.gemini_wire import BASE_URL, PROMPT_VERSION, Answer, ask_gemini, open_gemini
from lpm_kernel.stores.ner import NUMERIC, TYPES, Reading, exact_spans
from lpm_kernel.stores.ner_rules import Found, settle

if TYPE_CHECKING:
    import httpx

BATCH = 8
BATCH_CHARACTERS = 12_000
FAILURES_IN_A_ROW = 5
COOL_S = 60.0
LONGEST_PAUSE_S = 20.0
RANK = 50
_SPELT_ALIKE = ("'’‘ʼ", '"“”„', "-‐‑–—")

Results = dict[int, Reading | NerError]
"""By the position of the text that was asked for, so that no result can stand at another's."""


class GeminiNer:
    """Gemini, asked for some texts at a time. The key is tried at the first use.

    A text whose answer is missing, doubled or of another text is asked for once more on its own. A server that fails
    `FAILURES_IN_A_ROW` requests is left alone for `COOL_S` seconds; texts that come then fail at once.
    """

    def __init__(
        self,
        api_key: str | None,
        model: str,
        *,
        base_url: str | None = None,
        retries: int = 2,
        delay_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        breaker: Breaker | None = None,
    ) -> None:
        self._api_key = api_key
        self._model = model
        self._base_url = base_url or BASE_URL
        self._retries = retries
        self._delay_s = delay_s
        self._breaker = breaker or Breaker(FAILURES_IN_A_ROW, COOL_S, clock)

    @property
    def fingerprint(self) -> str:
        return f"{self._model}/prompt-{PROMPT_VERSION}"

    def extract(self, texts: Sequence[str]) -> list[Reading | NerError]:
        asked = {position: text for position, text in enumerate(texts) if text.strip()}
        results: Results = {position: Reading((), self.fingerprint) for position in range(len(texts))}
        if not self._api_key:
            missing = "Gemini has no key: set the variable that stores.gemini_api_key names"
            results.update(dict.fromkeys(asked, NerError("gemini_key_missing", missing)))
        elif asked:
            with open_gemini(self._base_url, self._api_key) as client:
                for batch in _batches(asked):
                    results.update(self._read_batch(client, batch))
        return [results[position] for position in range(len(texts))]

    def _read_batch(self, client: httpx.Client, batch: Mapping[int, str]) -> Results:
        """A result for each text; one that the common request failed, or whose answer was none, is asked for on its own."""
        results = self._ask(client, batch, self._retries)
        for position, text in batch.items():
            error = results[position]
            if isinstance(error, NerError) and (len(batch) > 1 or error.code == "gemini_answer_invalid"):
                alone = self._ask(client, {position: text}, 0)[position]
                if not (isinstance(alone, NerError) and alone.code == "gemini_resting"):  # then the first reason says more
                    results[position] = alone
        return results

    def _ask(self, client: httpx.Client, batch: Mapping[int, str], retries: int) -> Results:
        # An id says which text it is of by its content too: an answer that was moved by one has ids that nobody asked for.
        ids = {f"{position}-{sha256_hex(text.encode())[:8]}": position for position, text in batch.items()}
        try:
            answer = self._answer(client, {text_id: batch[position] for text_id, position in ids.items()}, retries)
        except NerError as error:
            return dict.fromkeys(batch, error)
        times = Counter(text_id for text_id, _ in answer)
        answered = dict(answer)
        return {
            position: self._place(batch[position], answered[text_id], alone=len(batch) == 1)
            if times[text_id] == 1
            else NerError("gemini_answer_invalid", f"Gemini answered {times[text_id]} times for one text")
            for text_id, position in ids.items()
        }

    def _answer(self, client: httpx.Client, texts: Mapping[str, str], retries: int) -> Answer:
        """Raises: NerError of `ask_gemini` after the retries, or `gemini_resting` while the breaker is open."""
        if not self._breaker.allows():
            raise NerError("gemini_resting", f"Gemini failed and is left alone for {COOL_S:.0f} seconds", retryable=True)
        try:
            answer = self._with_retries(client, texts, retries)
        except NerError as error:
            if error.code == "gemini_answer_invalid":
                self._breaker.succeeded()  # the server lives
            else:
                self._breaker.failed(for_good=not error.retryable)
            raise
        self._breaker.succeeded()
        return answer

    def _with_retries(self, client: httpx.Client, texts: Mapping[str, str], retries: int) -> Answer:
        for attempt in range(retries):
            try:
                return ask_gemini(client, self._model, texts)
            except NerError as error:
                if error.code != "gemini_unreachable":  # after a long silence fewer texts are a better try than the same again
                    raise
            time.sleep(min(LONGEST_PAUSE_S, self._delay_s * 2**attempt))
        return ask_gemini(client, self._model, texts)

    def _place(self, text: str, entities: Sequence[tuple[str, str]], *, alone: bool) -> Reading | NerError:
        found, unplaced = place_entities(text, entities)
        if not alone and unplaced > len(entities) / 2:
            return NerError(
                "gemini_answer_invalid", "most of what Gemini named is not in the text: it answered for another one"
            )
        return Reading(exact_spans(text, [(item, "gemini") for item in found]), self.fingerprint, unplaced=unplaced)


def place_entities(text: str, entities: Sequence[tuple[str, str]]) -> tuple[list[Found], int]:
    """Where the named characters stand in the text, and how many names stand nowhere or have a type that does not exist.

    A name of one type is a mention wherever its characters stand as whole words. A number ("one" may be a pronoun the next
    time) and a name of several types are matched in the order of the text. Of two that overlap the longer stays.
    """
    types: dict[str, list[str]] = {}
    unplaced = 0
    for name, kind in entities:
        if kind in TYPES and name.strip():
            types.setdefault(" ".join(name.split()), []).append(kind)
        else:
            unplaced += 1
    found: list[Found] = []
    for name, kinds in types.items():
        places = [match.span() for match in _pattern(name).finditer(text)]
        if not places:
            unplaced += len(kinds)
        if len(set(kinds)) == 1 and kinds[0] not in NUMERIC:
            kinds = kinds[:1] * len(places)
        found += [Found(start, end, kind, RANK) for (start, end), kind in zip(places, kinds, strict=False)]
    return settle(found), unplaced


def _pattern(name: str) -> re.Pattern[str]:
    """The name as whole words, however its spaces, quotes and dashes are typed."""
    words = r"\s+".join("".join(_spelt(character) for character in word) for word in name.split())
    before = r"(?<!\w)(?<!\d[.,])" if name[0].isalnum() else ""
    after = r"(?!\w|[.,]\d)" if name[-1].isalnum() else ""
    return re.compile(f"{before}{words}{after}")


def _spelt(character: str) -> str:
    alike = next((group for group in _SPELT_ALIKE if character in group), None)
    return f"[{re.escape(alike)}]" if alike else re.escape(character)


def _batches(texts: Mapping[int, str]) -> Iterator[dict[int, str]]:
    batch: dict[int, str] = {}
    for position, text in texts.items():
        if batch and (len(batch) == BATCH or sum(map(len, batch.values())) + len(text) > BATCH_CHARACTERS):
            yield batch
            batch = {}
        batch[position] = text
    if batch:
        yield batch
