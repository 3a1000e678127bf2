"""A model for many threads that takes its time: it says which adapter answers, a word a piece, and counts who is at work.

Belongs here: that double. Does not belong here: assertions.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from lpm_kernel.errors import LlmError
from lpm_kernel.L2.prompt import render_chatml
from lpm_kernel.records import Message
from lpm_kernel.stores.llm import AdapterFile


class PacedLlm:
    """`Llm`. Each piece takes `piece_s`; with `gate` cleared all stop before their next piece until it is set."""

    base_sha256 = "b" * 64

    def __init__(self, *, pieces: int = 4, piece_s: float = 0.0, context_tokens: int = 4096) -> None:
        self.context_tokens = context_tokens
        self.pieces = pieces
        self.piece_s = piece_s
        self.gate = threading.Event()
        self.gate.set()
        self.refuses: set[str | None] = set()
        """Adapters; None is the bare base."""
        self.checked: Counter[str | None] = Counter()
        """How often each adapter was brought into memory."""
        self.answered: list[tuple[str, str | None]] = []
        """Tenant and adapter, in the order in which answers began."""
        self.at_work: Counter[str] = Counter()
        self.most_at_work = 0
        self.most_of_one = 0
        self.closed = False
        self._lock = threading.Lock()

    def prompt_tokens(self, messages: Sequence[Message]) -> int:
        return len(render_chatml(messages, open_answer=True).split())

    def stream(
        self,
        messages: Sequence[Message],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
        max_tokens: int,
        declining: str | None = None,
    ) -> Iterator[str]:
        if self.closed:
            raise LlmError("engine_closed", "the model is closed", retryable=False)
        sha256 = adapter.sha256 if adapter else None
        self.checked[sha256] += 1
        if sha256 in self.refuses:
            raise LlmError("adapter_refused", "told to", retryable=False)
        if self.prompt_tokens(messages) + max_tokens > self.context_tokens:
            raise LlmError("prompt_too_long", "no room", retryable=False)
        return self._pieces(tenant, sha256, max_tokens)

    def answer_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
        max_tokens: int,
        declining: str | None = None,
    ) -> list[str]:
        return ["".join(self.stream(one, tenant=tenant, adapter=adapter, max_tokens=max_tokens)) for one in conversations]

    def score(
        self,
        prompts: Sequence[Sequence[Message]],
        options: Sequence[str],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
    ) -> list[list[float]]:
        self.answer_batch(prompts, tenant=tenant, adapter=adapter, max_tokens=1)
        return [[-1.0 - len(option) for option in options] for _ in prompts]

    def _pieces(self, tenant: str, sha256: str | None, max_tokens: int) -> Iterator[str]:
        with self._lock:
            self.answered.append((tenant, sha256))
            self.at_work[tenant] += 1
            self.most_at_work = max(self.most_at_work, self.at_work.total())
            self.most_of_one = max(self.most_of_one, self.at_work[tenant])
        try:
            for number in range(min(self.pieces, max_tokens)):
                assert self.gate.wait(60)
                time.sleep(self.piece_s)
                yield f" {sha256 if number == 0 else 'word'}"
        finally:
            with self._lock:
                self.at_work[tenant] -= 1

    def close(self) -> None:
        self.closed = True


def wait_until(happens, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)
