"""A stand-in for the Mem0 platform on loopback: it speaks the wire format that Mem0's own client is built for.

Belongs here: the paths, the bodies and the queue of the platform as far as they are used, and what of it hurts (pages, events).
Does not belong here: tests; they are in `contracts/test_memories.py`.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes import FakeEmbedder
from tests.json_server import JsonServer

MAX_PAGE = 4
"""Smaller than asked for, so that nothing is found which is looked for on the first page only."""


class Mem0Platform(JsonServer):
    """Start with `with`. A memory is there at the second time its event is asked for, as on the platform: later."""

    def __init__(self, api_key: str = "m0-key") -> None:
        self.api_key = api_key
        self.rows: dict[str, dict[str, Any]] = {}
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.failing: int | None = None
        """The status that every request is answered with, from now on."""
        self.event_status = "SUCCEEDED"
        self._lock = threading.Lock()
        self._embedder = FakeEmbedder()
        super().__init__()
        self.host = self.url

    def respond(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> tuple[int, Any]:
        url = urlsplit(path)
        with self._lock:
            self.requests.append((method, url.path, body))
            if self.failing:
                return self.failing, {"detail": "told to"}
            if headers.get("Authorization") != f"Token {self.api_key}":
                return 401, {"detail": "Invalid token"}
            return self.answer(method, url.path, parse_qs(url.query), body)

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        parts = path.strip("/").split("/")
        match method, parts:
            case "GET", ["v1", "ping"]:
                return 200, {"status": "ok", "org_id": "o", "project_id": "p", "user_email": "someone@example.org"}
            case "POST", ["v3", "memories", "add"]:
                return self._add(body)
            case "GET", ["v1", "event", event_id]:
                return self._event(event_id)
            case "POST", ["v3", "memories"]:
                found = self._visible(body)
                page = int(query.get("page", ["1"])[0])
                last = page * MAX_PAGE
                following = f"{self.host}{path}?page={page + 1}" if last < len(found) else None
                return 200, {"count": len(found), "next": following, "results": found[last - MAX_PAGE : last]}
            case "POST", ["v3", "memories", "search"]:
                return 200, {"results": self._search(body)}
            case "PUT", ["v1", "memories", row_id] if row_id in self.rows:
                self.rows[row_id].update(body)
                return 200, self.rows[row_id]
            case "DELETE", ["v1", "batch"]:
                for item in body["memories"]:
                    del self.rows[item["memory_id"]]
                return 200, {"message": "deleted"}
        return 404, {"detail": "Not found"}

    def _add(self, body: Any) -> tuple[int, Any]:
        if body.get("infer") is not False or not body.get("user_id"):
            return 400, {"detail": "this stand-in has no language model"}
        event_id = str(uuid.uuid4())
        moment = datetime.fromtimestamp(body["timestamp"], UTC).isoformat()
        row = {
            "id": str(uuid.uuid4()),
            "memory": body["messages"][0]["content"],
            "user_id": body["user_id"],
            "metadata": body.get("metadata"),
            "expiration_date": body.get("expiration_date"),
            "created_at": moment,
        }
        self.events[event_id] = [row]
        return 200, {"message": "queued", "status": "PENDING", "event_id": event_id}

    def _event(self, event_id: str) -> tuple[int, Any]:
        waiting = self.events[event_id]
        if len(waiting) == 1:
            waiting.append({})
            return 200, {"id": event_id, "status": "PENDING", "results": []}
        if self.event_status == "SUCCEEDED":
            self.rows[waiting[0]["id"]] = waiting[0]
        return 200, {"id": event_id, "status": self.event_status, "results": []}

    def _visible(self, body: Any) -> list[dict[str, Any]]:
        """Newest first, as the platform lists them."""
        [entity] = body["filters"]["AND"]
        found = [row for row in self.rows.values() if row["user_id"] == entity["user_id"]]
        if not body.get("show_expired"):
            today = date.today().isoformat()
            found = [row for row in found if not row["expiration_date"] or row["expiration_date"] >= today]
        return found[::-1]

    def _search(self, body: Any) -> list[dict[str, Any]]:
        asked = self._embedder.embed([body["query"]])[0]
        scored = [{**row, "score": float(self._embedder.embed([row["memory"]])[0] @ asked)} for row in self._visible(body)]
        best = sorted(scored, key=lambda row: -row["score"])
        return [row for row in best if row["score"] >= body.get("threshold", 0.1)][: body.get("top_k", 10)]
