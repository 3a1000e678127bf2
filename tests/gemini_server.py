"""A stand-in for the Gemini API on loopback: it speaks the wire format of `models:generateContent`.

Belongs here: the path, the bodies and the statuses as far as they are used, and what an answer of a model does wrong.
Does not belong here: tests; they are in `contracts/test_ner.py` and `stores/test_gemini_ner.py`.
"""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.json_server import JsonServer

Texts = dict[str, str]
Named = list[dict[str, str]]
KEY = "g-key"


@dataclass(frozen=True, slots=True)
class Question:
    """One request: the model's name and the texts by their ids."""

    model: str
    texts: Texts
    body: dict[str, Any]


Reply = Callable[[Question], tuple[int, Any]]
"""Status and body of one answer."""


def read_capitals(text: str) -> Named:
    """Every word with a capital is a PERSON, as in `FakeNer`."""
    return [{"text": word, "type": "PERSON"} for word in re.findall(r"\b[A-ZÀ-Þ]\w+", text)]


def say(items: Any, finish: str = "STOP") -> tuple[int, Any]:
    """A body as the API sends it, with these items as the model's JSON."""
    text = items if isinstance(items, str) else json.dumps(items)
    return 200, {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": finish}]}


def answer_well(question: Question) -> tuple[int, Any]:
    return say([{"id": text_id, "entities": read_capitals(text)} for text_id, text in question.texts.items()])


class GeminiServer(JsonServer):
    """Start with `with`. Answers come from `queue` first, then from `reply`; `history` holds what was asked."""

    def __init__(self, api_key: str = KEY) -> None:
        self.queue: deque[Reply] = deque()
        self.reply: Reply = answer_well
        self.history: list[Question] = []
        self._lock = threading.Lock()
        self.api_key = api_key
        super().__init__()

    def respond(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> tuple[int, Any]:
        match = re.fullmatch(r"/v1beta/models/([\w.-]+):generateContent", path)
        if headers.get("x-goog-api-key") != self.api_key:
            return 400, {"error": {"code": 400, "details": [{"reason": "API_KEY_INVALID"}]}}
        if match is None or "responseSchema" not in body["generationConfig"]:
            return 404, {"error": {"code": 404, "message": "not found"}}
        return self._answer(match[1], body)

    def _answer(self, model: str, body: dict[str, Any]) -> tuple[int, Any]:
        texts = {item["id"]: item["text"] for item in json.loads(body["contents"][0]["parts"][0]["text"])}
        question = Question(model, texts, body)
        with self._lock:
            self.history.append(question)
            reply = self.queue.popleft() if self.queue else self.reply
        return reply(question)
