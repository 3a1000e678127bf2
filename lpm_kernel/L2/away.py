"""An engine that could not be opened: turns go on with whoever answers in its place.

Belongs here: that one stand-in of the `Llm` port.
Does not belong here: opening engines (`engine.py`) and who answers instead (`answering.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lpm_kernel.errors import LlmError
from lpm_kernel.L0.chunk import count_tokens
from lpm_kernel.L2.prompt import render_chatml
from lpm_kernel.records import Message
from lpm_kernel.stores.llm import AdapterFile

SAFETY = 1.25
"""Another tokenizer than the engine's measures the prompt, and may find fewer tokens in it."""


class AwayLlm:
    """Fails each answer as opening the engine failed, and measures prompts by estimate, so that they fit all the same."""

    base_sha256 = ""

    def __init__(self, failure: LlmError, context_tokens: int) -> None:
        self._failure = failure
        self.context_tokens = context_tokens

    def prompt_tokens(self, messages: Sequence[Message]) -> int:
        return int(SAFETY * count_tokens(render_chatml(messages, open_answer=True)))

    def stream(
        self,
        messages: Sequence[Message],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
        max_tokens: int,
        declining: str | None = None,
    ) -> Iterator[str]:
        raise self._failed()

    def answer_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
        max_tokens: int,
        declining: str | None = None,
    ) -> list[str]:
        raise self._failed()

    def score(
        self,
        prompts: Sequence[Sequence[Message]],
        options: Sequence[str],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
    ) -> list[list[float]]:
        raise self._failed()

    def close(self) -> None:
        pass

    def _failed(self) -> LlmError:
        return LlmError(self._failure.code, self._failure.message, retryable=self._failure.retryable)
