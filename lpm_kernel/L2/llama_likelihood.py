"""How likely llama.cpp finds given answers: the model that serves, asked for its opinion and not for words.

Belongs here: one prompt, several answers, their log-likelihoods.
Does not belong here: what is concluded from them (`canaries.py`) and answering (`llama.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lpm_kernel.L2.adapter_cache import AdapterCache
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.llama_adapters import LlamaAdapters
from lpm_kernel.L2.llama_batch import common_prefix
from lpm_kernel.L2.llama_native import Context, Weights
from lpm_kernel.L2.prompt import neutralise, render_chatml
from lpm_kernel.records import Message
from lpm_kernel.stores.llm import AdapterFile

ADAPTERS_BYTES = 64 * 2**20
"""Of adapters kept between two questions: one is asked about many times in a row."""


class LlamaLikelihood:
    """A context of its own on the base that is served. Not for two threads at once."""

    def __init__(self, base: BaseModel, context_tokens: int) -> None:
        """Raises: LlmError `base_unreadable`."""
        self._weights = Weights(base.gguf_path)
        self._adapters = AdapterCache(LlamaAdapters(self._weights), base.sha256, ADAPTERS_BYTES)
        self._context = Context(self._weights, 1, context_tokens)

    def nats(self, messages: Sequence[Message], answers: Sequence[str], adapter: AdapterFile | None) -> list[float]:
        """Of each answer the log-likelihood as the beginning of a reply, but for what all answers have in common.

        Raises: LlmError `adapter_refused`, `decode_failed`.
        """
        prompt = render_chatml(messages, open_answer=True)
        ids = [self._weights.tokenize(prompt + neutralise(answer)) for answer in answers]
        shared = min(common_prefix(ids[0], other) for other in ids)
        shared = max(1, min(shared, min(map(len, ids)) - 1))
        with self._adapters.borrow(adapter) as attached:
            self._context.forget()
            self._context.attach(attached)
            try:
                self._context.extend(0, 0, ids[0][:shared])
                found = []
                for tokens in ids:
                    self._context.cut(0, shared - 1)
                    found.append(sum(self._context.score(0, shared - 1, tokens[shared - 1 :])))
                return found
            finally:
                self._context.attach(None)

    def close(self) -> None:
        self._context.close()
        self._adapters.close()
        self._weights.close()


@contextmanager
def open_likelihood(base: BaseModel, context_tokens: int) -> Iterator[LlamaLikelihood]:
    opened = LlamaLikelihood(base, context_tokens)
    try:
        yield opened
    finally:
        opened.close()
