"""Answerer: a large model elsewhere that may answer in a twin's place, in OpenAI's language.

Belongs here: the Protocol, its class for OpenAI and compatible servers, its circuit breaker, and which one the settings name.
Does not belong here: prompts (`L2/prompt.py`) and who answers when it does not (`answering.py`).

Each request is made once: somebody waits, and the twin itself answers when this does not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from lpm_kernel.errors import LlmError
from lpm_kernel.records import Message, is_text
from lpm_kernel.settings import Settings
from lpm_kernel.stores.addresses import read_openai_address
from lpm_kernel.stores.breaker import Breaker, Breakers
from lpm_kernel.stores.openai_client import open_openai, openai_errors

if TYPE_CHECKING:
    from openai import OpenAI

THE_TWIN = "twin"
FAILURES, PAUSE_S = 3, 30.0
"""After so many failures in a row the server is left alone for so long."""

BAD_QUESTION = "answerer_refused"
"""The code of a request that this server will answer to nobody: no failure of the server, and nobody else is asked instead."""


class Answerer(Protocol):
    def stream(self, messages: Sequence[Message], *, max_tokens: int) -> Iterator[str]:
        """Pieces of the answer as they come; the request is made when the first is asked for. Safe to call from many threads.

        Raises: LlmError `answerer_unavailable`, `answerer_unreadable` and `answerer_paused` (retryable), `answerer_closed` (no
        request would fare better), `answerer_refused` (this request).
        """
        ...

    def close(self) -> None: ...


class OpenAiAnswerer:
    """A chat model by name, streamed."""

    def __init__(self, client: Callable[[], OpenAI], model: str, breaker: Breaker | None = None) -> None:
        """`client` is called at the first request."""
        self._make_client = client
        self._client: OpenAI | None = None
        self._lock = threading.Lock()
        self._model = model
        self._breaker = breaker or Breaker(FAILURES, PAUSE_S)

    def stream(self, messages: Sequence[Message], *, max_tokens: int) -> Iterator[str]:
        if not self._breaker.allows():
            raise LlmError("answerer_paused", f"{self._model} has failed several times in a row and is left alone for a while")
        try:
            yield from self._pieces(messages, max_tokens)
        except LlmError as error:
            if error.code == BAD_QUESTION:
                self._breaker.succeeded()
            else:
                self._breaker.failed(for_good=error.code == "answerer_closed")
            raise
        except GeneratorExit:  # the listener left, and the server had answered
            self._breaker.succeeded()
            raise
        self._breaker.succeeded()

    def _pieces(self, messages: Sequence[Message], max_tokens: int) -> Iterator[str]:
        with _stream_errors():
            stream = self._opened().chat.completions.create(
                model=self._model,
                messages=[{"role": message.role, "content": message.content} for message in messages],  # type: ignore[misc]
                max_tokens=max_tokens,  # not max_completion_tokens: compatible servers know this name
                temperature=0.0,
                stream=True,
            )
        said = ended = False
        with stream:
            chunks = iter(stream)
            while True:
                with _stream_errors():
                    chunk = next(chunks, None)
                if chunk is None:
                    break
                piece, last = _piece_of(chunk)
                ended = ended or last
                if piece:
                    said = said or bool(piece.strip())
                    yield piece
        if not ended:
            raise LlmError("answerer_unavailable", f"the answer of {self._model} broke off")
        if not said:
            raise LlmError("answerer_unreadable", f"{self._model} ended without a word")

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _opened(self) -> OpenAI:
        with self._lock:
            if self._client is None:
                self._client = self._make_client()
            return self._client


def open_answerer(
    settings: Settings, environ: Mapping[str, str] | None = None, breakers: Breakers | None = None
) -> OpenAiAnswerer | None:
    """The model of `models.answerer`; None where the twin itself answers. Nothing is asked yet.

    Raises: SettingsError `address_missing` when a model is named and its key is not set.
    """
    model = settings.models.answerer
    if model == THE_TWIN:
        return None
    address = read_openai_address(settings, environ)
    timeout_s = settings.models.answerer_timeout_s
    breaker = (breakers or Breakers()).named("openai_answerer", FAILURES, PAUSE_S)
    return OpenAiAnswerer(lambda: open_openai(address, timeout_s).with_options(max_retries=0), model, breaker)


def _piece_of(chunk: Any) -> tuple[str, bool]:
    """Its words, and whether they are the last."""
    choice = chunk.choices[0] if getattr(chunk, "choices", None) else None
    if choice is None:  # usage, or a comment of a compatible server
        return "", False
    if getattr(choice.delta, "refusal", None) or choice.finish_reason == "content_filter":
        raise LlmError(BAD_QUESTION, "the model that answers declines this question", retryable=False)
    piece = (choice.delta.content if choice.delta else None) or ""
    if not is_text(piece):
        raise LlmError("answerer_unreadable", "the model that answers wrote what is no text")
    return piece, choice.finish_reason is not None


@contextmanager
def _stream_errors() -> Iterator[None]:
    """As `openai_errors`; an error that comes within the stream is of the bare class: the server gave up in the middle."""
    import openai

    with openai_errors("answerer", "an answer", closed="closed"):
        try:
            yield
        except openai.APIError as error:
            if type(error) is not openai.APIError:
                raise
            raise LlmError("answerer_unavailable", "the server that answers broke off its answer") from error
