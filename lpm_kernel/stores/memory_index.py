"""The memories of the users who are asked about now, held in this process as they are ranked, and kept true to the table.

Belongs here: reading what changed since last time, and how much memory this may take.
Does not belong here: writing (`mem0_memories.py`), and the scores themselves (`text_index.py`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import StoreError
from lpm_kernel.records import Memory
from lpm_kernel.settings import MemoryRankingSettings
from lpm_kernel.stores.memories import Allowed, MemoryHit, from_payload
from lpm_kernel.stores.text_index import IndexedText, TextIndex, index_text

if TYPE_CHECKING:
    import numpy as np
    from sqlalchemy import Connection

Connect = Callable[[str], AbstractContextManager["Connection"]]
"""A transaction of a user, opened when it is needed."""
WAIT_S = 3.0
MEMORY_BYTES = 2000
"""Of a memory beside its vector and its words, roughly: the record and what Python needs to hold it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """`row_version` tells a row that was written again from the one that was read; from `begins` until `ends` it holds."""

    row_version: str
    memory: Memory
    item: IndexedText
    vector: np.ndarray
    begins: float
    ends: float


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """A user's memories as of one version, in the order of the index."""

    version: int
    rows: tuple[_Row, ...]
    index: TextIndex
    begins: np.ndarray
    ends: np.ndarray

    def among(self, as_of: datetime, kinds: Collection[str]) -> np.ndarray:
        """A mask over the rows: those that hold at `as_of`, of some kinds or of all."""
        import numpy as np

        moment = as_of.timestamp()
        mask = (self.begins <= moment) & (self.ends > moment)
        return mask & np.array([row.memory.kind in kinds for row in self.rows], dtype=bool) if kinds else mask

    def mask(self, allowed: Allowed) -> np.ndarray:
        import numpy as np

        return np.array([allowed(row.memory) for row in self.rows], dtype=bool)

    @property
    def size_bytes(self) -> int:
        return self.index.size_bytes + MEMORY_BYTES * len(self.rows)


class MemoryIndexes:
    """Indexes of users by the time of their last use; the oldest go when they take more than `max_bytes` together.

    Why in this process: ranking 10,000 memories by words and meaning is 5 ms of arithmetic, and reading them is 150 ms.
    """

    def __init__(self, fingerprint: str, memory_ranking: MemoryRankingSettings) -> None:
        self._fingerprint = fingerprint
        self.memory_ranking = memory_ranking
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}

    def search(
        self,
        connect: Connect,
        user_id: str,
        question: str,
        vector: np.ndarray,
        k: int,
        *,
        as_of: datetime,
        kinds: Collection[str] = (),
        allowed: Allowed | None = None,
    ) -> list[MemoryHit]:
        held = self._current(connect, user_id)
        among = held.among(as_of, kinds)
        if allowed is not None:
            among &= held.mask(allowed)
        found = held.index.rank(question, vector, among, k)
        return [
            MemoryHit(held.rows[position].memory, float(score), float(cosine))
            for position, score, cosine in zip(found.positions, found.scores, found.cosines, strict=True)
        ]

    def list_held(
        self, connect: Connect, user_id: str, kinds: Collection[str], *, as_of: datetime
    ) -> tuple[list[Memory], np.ndarray]:
        import numpy as np

        held = self._current(connect, user_id)
        positions = np.flatnonzero(held.among(as_of, kinds))
        return [held.rows[position].memory for position in positions], held.index.vectors[positions]

    def _current(self, connect: Connect, user_id: str) -> _Held:
        """Raises: StoreError `memories_busy` when another thread reads the same user's for too long.

        Why the wait comes before the connection: those who wait for one large user would hold every connection of the pool.
        """
        with self._lock:
            loading = self._loading.setdefault(user_id, threading.Lock())
        if not loading.acquire(timeout=WAIT_S):
            raise StoreError("memories_busy", f"the memories of user {user_id} are still being read; ask again in a moment")
        try:
            with connect(user_id) as connection:
                version = self._version(connection)
                with self._lock:
                    held = self._held.get(user_id)
                if held is None or held.version != version:
                    held = self._load(connection, version, held)
            self._keep(user_id, held)
            return held
        finally:
            loading.release()

    @staticmethod
    def _version(connection: Connection) -> int:
        from sqlalchemy import text

        return connection.execute(text("select coalesce(max(version), 0) from memory_version")).scalar_one()

    def _load(self, connection: Connection, version: int, before: _Held | None) -> _Held:
        """Only new or changed rows are read whole. What is written after `version` was read is read again next time."""
        import numpy as np
        from sqlalchemy import text

        known = {row.memory.memory_id: row for row in before.rows} if before else {}
        versions = {row.id: row.row_version for row in connection.execute(text(_ROWS), {"fingerprint": self._fingerprint})}
        fresh = [i for i, row_version in versions.items() if i not in known or known[i].row_version != row_version]
        read = connection.execute(text(_READ), {"ids": fresh}) if fresh else ()
        known |= {row.id: _as_row(row.id, row.row_version, row.payload, row.vector) for row in read}
        rows = [known[i] for i in sorted(versions) if i in known]
        vectors = np.stack([row.vector for row in rows]) if rows else np.zeros((0, 1), dtype=np.float32)
        index = TextIndex([row.item for row in rows], vectors, self.memory_ranking)
        rows = [replace(row, vector=vector) for row, vector in zip(rows, vectors, strict=True)]  # one copy of each, not two
        return _Held(version, tuple(rows), index, np.array([row.begins for row in rows]), np.array([row.ends for row in rows]))

    def _keep(self, user_id: str, held: _Held) -> None:
        with self._lock:
            self._held[user_id] = held
            self._held.move_to_end(user_id)
            budget = self.memory_ranking.index_mb * 1_000_000
            while len(self._held) > 1 and sum(other.size_bytes for other in self._held.values()) > budget:
                gone, _ = self._held.popitem(last=False)
                self._loading.pop(gone, None)


def _as_row(memory_id: str, row_version: str, payload: dict[str, Any], vector: str) -> _Row:
    import numpy as np

    memory = from_payload(memory_id, payload)
    # a summary is no turn of its session: beside the last one it would lend it the words of all
    session_id = None if memory.kind == "summary" else memory.session_id
    item = index_text(memory_id, memory.text, session_id, memory.turn or 0)
    values = np.fromstring(vector[1:-1], sep=",", dtype=np.float32)
    return _Row(row_version, memory, item, values, float(payload["from_s"]), float(payload["until_s"]))


_ROWS = """
select id::text as id, xmin::text || ':' || ctid::text as row_version from memory where fingerprint = :fingerprint
"""
_READ = """
select id::text as id, xmin::text || ':' || ctid::text as row_version, payload, vector::text as vector
from memory where id = any(cast(:ids as uuid[]))
"""
