"""What a caller may set of one answer: how long it gets, and at which words it ends.

Belongs here: a model as one request sees it, and why its answer ended.
Does not belong here: decoding itself.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Literal

from lpm_kernel.L2.prompt import declines
from lpm_kernel.records import Message
from lpm_kernel.stores.answerer import Answerer
from lpm_kernel.stores.llm import AdapterFile, Llm

FinishReason = Literal["stop", "length"]


class AskedLlm:
    """The model for one request: never more tokens than the caller asked for, and nothing from a stop sequence on.

    What comes out is what is stored and what is sent. Not for several threads at once.
    """

    def __init__(self, llm: Llm, max_tokens: int | None, stops: Sequence[str]) -> None:
        self._llm = llm
        self._max_tokens = max_tokens
        self._stops = tuple(stops)
        self._pieces = 0
        self._limit: int | None = None
        self.stopped = False
        """Whether a stop sequence ended the answer."""

    @property
    def base_sha256(self) -> str:
        return self._llm.base_sha256

    @property
    def context_tokens(self) -> int:
        return self._llm.context_tokens

    def prompt_tokens(self, messages: Sequence[Message]) -> int:
        return self._llm.prompt_tokens(messages)

    def stream(
        self,
        messages: Sequence[Message],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
        max_tokens: int,
        declining: str | None = None,
    ) -> Iterator[str]:
        limit = self.limit(max_tokens)
        pieces = self._llm.stream(messages, tenant=tenant, adapter=adapter, max_tokens=limit, declining=declining)
        return self.limited(pieces, limit, declining)

    def answer_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
        max_tokens: int,
        declining: str | None = None,
    ) -> list[str]:
        return self._llm.answer_batch(conversations, tenant=tenant, adapter=adapter, max_tokens=max_tokens, declining=declining)

    def limit(self, max_tokens: int) -> int:
        return min(max_tokens, self._max_tokens or max_tokens)

    def limited(self, pieces: Iterator[str], limit: int, declining: str | None = None) -> Iterator[str]:
        """The pieces up to a stop sequence; `limit` is what their model was told."""
        self._limit = limit
        return self._counted(pieces, declining)

    def score(
        self,
        prompts: Sequence[Sequence[Message]],
        options: Sequence[str],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
    ) -> list[list[float]]:
        return self._llm.score(prompts, options, tenant=tenant, adapter=adapter)

    def close(self) -> None:
        """The model is everybody's: nothing of it is closed."""

    def answer_tokens(self, text: str) -> int:
        """How many of the model's own tokens an answer took: one a piece at least, and a piece may be several."""
        bare = self._llm.prompt_tokens([Message("assistant", "")])
        return max(self._pieces, self._llm.prompt_tokens([Message("assistant", text)]) - bare)

    def finish_reason(self, text: str) -> FinishReason:
        """`length` where the model was cut off; nobody is cut off who declines, or whose answer is not the model's."""
        if self.stopped or declines(text) or self._limit is None or not self._pieces:
            return "stop"
        return "length" if self.answer_tokens(text) >= self._limit else "stop"

    def _counted(self, pieces: Iterator[str], declining: str | None) -> Iterator[str]:
        def counted() -> Iterator[str]:
            for piece in pieces:
                self._pieces += 1
                yield piece

        try:
            if not self._stops:
                yield from counted()
                return
            rest = counted()
            if declining is not None:
                # nothing comes before all of it is decoded, so that waiting for all of it costs nothing
                words = "".join(rest)
                if declines(words):
                    yield words
                    return
                rest = iter([words])
            self.stopped = yield from until_stop(rest, self._stops)
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()


class AskedAnswerer:
    """A model elsewhere that answers in the twin's place, held to the same."""

    def __init__(self, answerer: Answerer, asked: AskedLlm) -> None:
        self._answerer = answerer
        self._asked = asked

    def stream(self, messages: Sequence[Message], *, max_tokens: int) -> Iterator[str]:
        limit = self._asked.limit(max_tokens)
        return self._asked.limited(self._answerer.stream(messages, max_tokens=limit), limit)

    def close(self) -> None:
        """It is everybody's: nothing of it is closed."""


def until_stop(pieces: Iterator[str], stops: Sequence[str]) -> Generator[str, None, bool]:
    """The pieces up to the first stop sequence that is complete; True when there was one. Text that may be the beginning of one
    is held back until that is known."""
    held = ""
    for piece in pieces:
        held += piece
        ends = [(at + len(stop), at) for stop in stops if (at := held.find(stop)) >= 0]
        if ends:
            if before := held[: min(ends)[1]]:
                yield before
            return True
        kept = max((n for stop in stops for n in range(1, min(len(stop), len(held) + 1)) if held.endswith(stop[:n])), default=0)
        if ready := held[: len(held) - kept]:
            yield ready
        held = held[len(held) - kept :]
    if held:
        yield held
    return False
