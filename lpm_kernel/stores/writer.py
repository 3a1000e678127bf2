"""Writer: a language model that writes on request, for work that is done ahead and not in a chat.

Belongs here: the Protocol, its class for OpenAI and whatever speaks OpenAI's language, and which one the settings name.
Does not belong here: prompts (`L2/write_prompts.py`), and many requests at once or twice (`llm_items.py`).

The embedded profile has none: the small base writes nothing worth learning from, and every stage does without.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from lpm_kernel.errors import LlmError
from lpm_kernel.records import Message, is_text, sha256_hex
from lpm_kernel.settings import Settings
from lpm_kernel.stores.addresses import OpenAiAddress, read_openai_address
from lpm_kernel.stores.breaker import Breaker, Breakers
from lpm_kernel.stores.openai_client import BREAKER, asking_openai, open_openai

if TYPE_CHECKING:
    from openai import OpenAI

TIMEOUT_S = 90.0
NO_WRITER = "none"


class Writer(Protocol):
    @property
    def fingerprint(self) -> str:
        """What decides its answers beside the request; two of one fingerprint are one model."""
        ...

    def write(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        schema: Mapping[str, Any] | None = None,
    ) -> str:
        """The model's answer; with a JSON schema, an object of that form, as far as the server keeps to it.

        Safe to call from several threads.
        Raises: LlmError `writer_unavailable` (retryable), `writer_unreadable` (retryable: it wrote nothing, or what is no
        text), `writer_cut`, `writer_refused` (this request), `writer_closed` (any request).
        """
        ...


class OpenAiWriter:
    """A chat model by name. `calls`, `input_tokens` and `output_tokens` count over all threads what was answered."""

    def __init__(self, client: Callable[[], OpenAI], model: str, server: str = "", breaker: Breaker | None = None) -> None:
        """`client` is called at the first request. `server` tells models of one name apart: two servers may each have one."""
        self._make_client = client
        self._breaker = breaker
        self._client: OpenAI | None = None
        self._lock = threading.Lock()
        self._model = model
        self.fingerprint = f"{model}@{sha256_hex(server.encode())[:12]}" if server else model
        self.calls = 0
        self.input_tokens = 0
        self.output_tokens = 0

    def write(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        schema: Mapping[str, Any] | None = None,
    ) -> str:
        request: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            # not max_completion_tokens: compatible servers know this name, and the models meant here take it
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        if schema is not None:
            form = {"name": "answer", "strict": True, "schema": dict(schema)}
            request["response_format"] = {"type": "json_schema", "json_schema": form}
        with asking_openai(self._breaker, "writer", "text", closed="closed"):
            answer = self._opened().chat.completions.create(**request)
        if answer.usage is not None:
            with self._lock:
                self.calls += 1
                self.input_tokens += answer.usage.prompt_tokens
                self.output_tokens += answer.usage.completion_tokens
        return _text_of(answer, max_tokens)

    def cost_usd(self, usd_per_million_input_tokens: float, usd_per_million_output_tokens: float) -> float:
        """Of everything written so far."""
        input_usd = self.input_tokens * usd_per_million_input_tokens
        return (input_usd + self.output_tokens * usd_per_million_output_tokens) / 1e6

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


def open_writer(
    settings: Settings, environ: Mapping[str, str] | None = None, breakers: Breakers | None = None
) -> OpenAiWriter | None:
    """The writer of `models.writer`; None where it is `none`. Nothing is asked yet.

    Raises: SettingsError `address_missing` when a model is named and its key is not set: a run that was to be written must
    not quietly go without.
    """
    model = settings.models.writer
    if model == NO_WRITER:
        return None
    address = read_openai_address(settings, environ)
    return writer_at(address, model, (breakers or Breakers()).named("openai_writer", *BREAKER))


def writer_at(address: OpenAiAddress, model: str, breaker: Breaker | None = None) -> OpenAiWriter:
    return OpenAiWriter(lambda: open_openai(address, TIMEOUT_S), model, address.base_url or "", breaker)


def _text_of(answer: Any, max_tokens: int) -> str:
    choice = answer.choices[0] if getattr(answer, "choices", None) else None
    if choice is None or choice.message is None:
        raise LlmError("writer_unreadable", "the writer's answer has no message")
    if getattr(choice.message, "refusal", None) or choice.finish_reason == "content_filter":
        raise LlmError("writer_refused", "the writer declines to answer this request", retryable=False)
    if choice.finish_reason == "length":
        raise LlmError(
            "writer_cut",
            f"the writer's answer did not end within {max_tokens} tokens: raise writing.max_tokens",
            retryable=False,
        )
    text = choice.message.content or ""
    if not text.strip() or not is_text(text):
        raise LlmError("writer_unreadable", "the writer wrote nothing, or what is no text")
    return text
