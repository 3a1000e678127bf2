"""Memories on the Mem0 platform, through its own client.

Belongs here: the platform's calls and pages, and what it does not do itself: deciding under a lock, and time.
Does not belong here: texts sent to be rewritten. `infer=False` keeps what was said, word for word.

Two things are weaker than on PostgreSQL. The platform writes one memory a call, so a batch that breaks off is partly written;
sent again, it is completed. It knows nothing of our time, so rows are told apart here, after they were fetched.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import StoreError
from lpm_kernel.records import Memory
from lpm_kernel.stores.breaker import Breaker
from lpm_kernel.stores.changes import transaction_id
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.stores.mem0_client import await_event, open_client, platform_errors
from lpm_kernel.stores.memories import (
    NEAR,
    Allowed,
    Decide,
    Decision,
    MemoryHit,
    Place,
    check_forgettable,
    check_memory,
    check_memory_id,
    corrected,
    end_of,
    forgotten,
    from_payload,
    is_forgotten,
    lock_memories,
    outlives,
    stays_on_record,
    to_payload,
    write_all,
)
from lpm_kernel.stores.tables import Tables

if TYPE_CHECKING:
    import numpy as np
    from mem0 import MemoryClient

PAGE_SIZE = 100
DELETE_SIZE = 1000
HOST = "https://api.mem0.ai"
BREAKER = 3, 5.0
"""Of calls in a row, and how long the platform is then left alone."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A memory under the platform's own id."""

    row_id: str
    memory: Memory


class Mem0CloudMemories:
    """The key is tried at the first use. Writers of one user wait for each other by a lock in the application's tables."""

    def __init__(
        self,
        api_key: str,
        embedder: Embedder,
        tables: Tables,
        *,
        host: str = HOST,
        event_wait_s: float = 0.2,
        breaker: Breaker | None = None,
    ) -> None:
        self._breaker = breaker or Breaker(*BREAKER)
        self._api_key = api_key
        self._host = host
        self._event_wait_s = event_wait_s
        self._embedder = embedder
        self._tables = tables
        self._opened: MemoryClient | None = None
        self._opening = threading.Lock()

    def add_batch(self, user_id: str, memories: Sequence[Memory], decide: Decide = write_all) -> list[Decision]:
        for memory in memories:
            check_memory(user_id, memory)
        vectors = self._embedder.embed([memory.text for memory in memories])
        with self._tables.transaction(user_id) as connection:
            lock_memories(connection, user_id)
            writer = transaction_id(connection)
            before = {row.memory.memory_id: row for row in self._rows(user_id)}
            held = {memory_id: row.memory for memory_id, row in before.items()}
            decided = [self._decide(held, memory, vector, decide) for memory, vector in zip(memories, vectors, strict=True)]
            # the old version ends after the new one is there: what breaks off between them loses nothing
            changed = sorted(held.values(), key=lambda memory: memory.memory_id in before)
            for memory in changed:
                row = before.get(memory.memory_id)
                if row is None:
                    self._add(memory, writer)
                elif row.memory != memory:
                    self._change(row.row_id, memory, writer)
        return decided

    def _decide(self, held: dict[str, Memory], memory: Memory, vector: np.ndarray, decide: Decide) -> Decision:
        """Decide on one candidate, and make `held` what is to be held after it."""
        if memory.memory_id in held:
            return Decision("duplicate", memory, memory.memory_id)
        versions = sorted((m for m in held.values() if memory.key and m.key == memory.key), key=_place)
        decision = decide(memory, self._near(held, memory, vector), versions)
        known = held.get(decision.other_id or "")
        if decision.outcome == "duplicate" and known and outlives(memory, known):
            held[known.memory_id] = replace(known, expiration_date=memory.expiration_date)
        if decision.outcome == "written":
            held[memory.memory_id] = decision.memory
            if known:
                held[known.memory_id] = replace(known, superseded_by=memory.memory_id, superseded_at=memory.created_at)
        return decision

    def _near(self, held: dict[str, Memory], memory: Memory, vector: np.ndarray) -> list[MemoryHit]:
        """The platform's candidates and those of this batch, by our own cosine: its score is none."""
        found = {row.memory.memory_id for row, _ in self._found(memory.user_id, memory.text, NEAR * 4)}
        fresh = list(held)[-NEAR * 4 :]
        others = [
            held[memory_id]
            for memory_id in dict.fromkeys([*found, *fresh])
            if memory_id in held
            and held[memory_id].kind == memory.kind
            and end_of(held[memory_id]) > memory.created_at.timestamp()
        ]
        cosines = self._embedder.embed([other.text for other in others]) @ vector
        hits = [MemoryHit(other, max(0.0, float(cosine))) for other, cosine in zip(others, cosines, strict=True)]
        return sorted(hits, key=lambda hit: -hit.score)[:NEAR]

    def search(
        self,
        user_id: str,
        question: str,
        k: int,
        *,
        as_of: datetime,
        kinds: Collection[str] = (),
        domain: str | None = None,
        vector: np.ndarray | None = None,
    ) -> list[MemoryHit]:
        return self._searched(user_id, question, k, lambda memory: _holds(memory, as_of, kinds, domain))

    def _searched(self, user_id: str, question: str, k: int, wished: Allowed) -> list[MemoryHit]:
        wanted = max(60, 4 * k)
        while True:
            found = self._found(user_id, question, wanted)
            hits = [MemoryHit(row.memory, score) for row, score in found if wished(row.memory)]
            if len(hits) >= k or len(found) < wanted:
                return hits[:k]
            wanted *= 4

    def with_vectors(self, user_id: str, kinds: Collection[str], *, as_of: datetime) -> tuple[list[Memory], np.ndarray]:
        """Vectors are made anew: the platform keeps its own to itself."""
        memories = self.current(user_id, as_of=as_of, kinds=kinds)
        return memories, self._embedder.embed([memory.text for memory in memories])

    def recall(
        self,
        user_id: str,
        question: str,
        vector: np.ndarray,
        k: int,
        *,
        as_of: datetime,
        kinds: Collection[str] = (),
        allowed: Allowed | None = None,
    ) -> list[MemoryHit]:
        def wished(memory: Memory) -> bool:
            return _holds(memory, as_of, kinds, None) and (allowed is None or allowed(memory))

        return self._searched(user_id, question, k, wished)

    def current(self, user_id: str, *, as_of: datetime, kinds: Collection[str] = (), domain: str | None = None) -> list[Memory]:
        held = (row.memory for row in self._rows(user_id))
        return sorted((memory for memory in held if _holds(memory, as_of, kinds, domain)), key=_place)

    def page(
        self, user_id: str, *, as_of: datetime, kinds: Collection[str] = (), before: Place | None = None, limit: int
    ) -> list[Memory]:
        """Everything is fetched for each page: the platform's own order and pages know nothing of what holds when."""
        held = [
            memory for memory in self.current(user_id, as_of=as_of, kinds=kinds) if before is None or _place(memory) < before
        ]
        return held[::-1][:limit]

    def count(self, user_id: str, *, as_of: datetime) -> dict[str, int]:
        return dict(sorted(Counter(memory.kind for memory in self.current(user_id, as_of=as_of)).items()))

    def every(self, user_id: str) -> list[Memory]:
        return sorted((row.memory for row in self._rows(user_id)), key=_place)

    def correct(self, user_id: str, memory_id: str, text: str, *, by: str, at: datetime) -> Memory:
        with self._tables.transaction(user_id) as connection:
            lock_memories(connection, user_id)
            rows = {row.memory.memory_id: row for row in self._rows(user_id)}
            row = rows.get(check_memory_id(user_id, memory_id))
            made = rows.get(row.memory.superseded_by or "") if row else None
            if made and (made.memory.text, made.memory.written_by) == (text.strip(), by):
                return made.memory
            ended, new = corrected(row.memory if row else None, text, by, at, user_id)
            writer = transaction_id(connection)
            self._add(new, writer)
            assert row is not None
            self._change(row.row_id, ended, writer)
            return new

    def forget(self, user_id: str, memory_id: str) -> int:
        """What stays of a document's is written before the words go: what breaks off between is finished by the next try."""
        with self._tables.transaction(user_id) as connection:
            lock_memories(connection, user_id)
            rows = self._rows(user_id)
            wanted = check_memory_id(user_id, memory_id)
            key = next((row.memory.key for row in rows if row.memory.memory_id == wanted and row.memory.key), None)
            versions = [row for row in rows if row.memory.memory_id == wanted or (key and row.memory.key == key)]
            check_forgettable([row.memory for row in versions], user_id)
            blank = {row.memory.memory_id for row in rows if is_forgotten(row.memory)}
            for row in versions:
                if stays_on_record(row.memory) and row.memory.memory_id not in blank:
                    self._add(forgotten(row.memory), transaction_id(connection))
            return self._drop([row for row in versions if not is_forgotten(row.memory)])

    def history(self, user_id: str, memory_id: str) -> list[Memory]:
        held = {row.memory.memory_id: row.memory for row in self._rows(user_id)}
        memory = held.get(memory_id)
        if memory is None or memory.key is None:
            return [memory] if memory else []
        return sorted((other for other in held.values() if other.key == memory.key), key=_place)

    def delete(self, user_id: str, memory_ids: Collection[str]) -> int:
        return self._drop([row for row in self._rows(user_id) if row.memory.memory_id in memory_ids])

    def purge_expired(self, user_id: str, today: date) -> int:
        rows = self._rows(user_id)
        return self._drop([row for row in rows if row.memory.expiration_date and row.memory.expiration_date < today])

    def delete_all(self, user_id: str) -> int:
        return self._drop(self._rows(user_id))

    def reembed(self, user_id: str) -> int:
        """The platform has a model of its own."""
        return 0

    def close(self) -> None:
        with self._opening:
            if self._opened is not None:
                self._opened.client.close()
                self._opened = None

    @property
    def _client(self) -> MemoryClient:
        with self._opening:
            if self._opened is None:
                self._opened = open_client(self._api_key, self._host)
            return self._opened

    @contextmanager
    def _asking(self) -> Iterator[None]:
        resting = StoreError("memories_unavailable", "Mem0 did not answer a moment ago")
        with self._breaker.guarding(lambda: resting, lambda error: error.code == "memories_unavailable"), platform_errors():
            yield

    def _rows(self, user_id: str) -> list[_Row]:
        """Everything of a user, the expired and the superseded too, page by page."""
        rows: dict[str, _Row] = {}
        page = 1
        with self._asking():
            while True:
                answer = self._client.get_all(filters=_only(user_id), page=page, page_size=PAGE_SIZE, show_expired=True)
                rows.update((row.row_id, row) for row in _own_rows(user_id, answer["results"]))
                if not answer.get("next"):
                    return list(rows.values())
                page += 1

    def _found(self, user_id: str, question: str, top_k: int) -> list[tuple[_Row, float]]:
        with self._asking():
            answer = self._client.search(question, filters=_only(user_id), top_k=top_k, threshold=0.0, show_expired=True)
        items = answer["results"]
        scores = {str(item["id"]): float(item.get("score") or 0) for item in items}
        # a row that another program wrote has none of our fields, and is none of our memories
        return [(row, scores[row.row_id]) for row in _own_rows(user_id, items)]

    def _add(self, memory: Memory, writer: str) -> None:
        with self._asking():
            answer = self._client.add(
                [{"role": "user", "content": memory.text}],
                user_id=memory.user_id,
                metadata=_metadata(memory, writer),
                infer=False,
                timestamp=int(memory.created_at.timestamp()),
                expiration_date=memory.expiration_date and memory.expiration_date.isoformat(),
            )
            if answer.get("event_id"):
                await_event(self._client, str(answer["event_id"]), self._event_wait_s)

    def _change(self, row_id: str, memory: Memory, writer: str) -> None:
        expires = memory.expiration_date and memory.expiration_date.isoformat()
        with self._asking():
            self._client.update(row_id, metadata=_metadata(memory, writer), expiration_date=expires)

    def _drop(self, rows: Sequence[_Row]) -> int:
        with self._asking():
            for first in range(0, len(rows), DELETE_SIZE):
                self._client.batch_delete([{"memory_id": row.row_id} for row in rows[first : first + DELETE_SIZE]])
        return len(rows)


def _only(user_id: str) -> dict[str, Any]:
    return {"AND": [{"user_id": user_id}]}


def _metadata(memory: Memory, writer: str) -> dict[str, Any]:
    """What the platform has no field for, and by which transaction it was written, which is no part of the memory; the text,
    the user and the vector are its own."""
    payload = to_payload(memory, "mem0-platform")
    for its_own in ("data", "hash", "user_id", "fingerprint"):
        del payload[its_own]
    return {"memory_id": memory.memory_id, "transaction_id": writer, **payload}


def _own_rows(user_id: str, items: Sequence[dict[str, Any]]) -> Iterator[_Row]:
    for item in items:
        metadata = item.get("metadata") or {}
        if item.get("user_id") != user_id:
            raise StoreError("foreign_memory", f"Mem0 returned a memory that is not of user {user_id}", retryable=False)
        if "memory_id" in metadata:
            payload = {**metadata, "data": item["memory"], "user_id": user_id}
            yield _Row(str(item["id"]), from_payload(metadata["memory_id"], payload))


def _holds(memory: Memory, as_of: datetime, kinds: Collection[str], domain: str | None) -> bool:
    now = memory.created_at <= as_of and as_of.timestamp() < end_of(memory)
    return now and (not kinds or memory.kind in kinds) and domain in (None, memory.domain)


def _place(memory: Memory) -> tuple[datetime, str]:
    return memory.created_at, memory.memory_id
