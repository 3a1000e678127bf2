"""Memories on Mem0 OSS: its pgvector collection in the application's own PostgreSQL, behind row-level security.

Belongs here: Mem0's store joined to a user's transaction, and the statements that it has none of or only slow ones.
Does not belong here: Mem0's `Memory` class. It needs a language model, embeds one text at a time, loads spaCy to search, and
keeps history in an SQLite file that parallel processes lock each other out of. Here history is the superseded rows themselves.

Why a search of our own over Mem0's rows: its search reads every row of the user with its JSON, however many they are.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING

from lpm_kernel.errors import StoreError
from lpm_kernel.records import Memory
from lpm_kernel.settings import MemoryRankingSettings
from lpm_kernel.stores import mem0_statements as sql
from lpm_kernel.stores.breaker import Breaker
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.stores.mem0_collection import CONNECTION, open_collection, replace_payload
from lpm_kernel.stores.memories import (
    NEAR,
    Allowed,
    Decide,
    Decision,
    MemoryHit,
    Place,
    as_literal,
    check_forgettable,
    check_memory,
    check_memory_id,
    corrected,
    forgotten,
    from_payload,
    lock_memories,
    outlives,
    stays_on_record,
    to_payload,
    write_all,
)
from lpm_kernel.stores.memory_index import MemoryIndexes
from lpm_kernel.stores.tables import Tables

if TYPE_CHECKING:
    import numpy as np
    from mem0.vector_stores.pgvector import PGVector
    from sqlalchemy import URL, Connection

HALF_DIM = 1000
"""Up to here a vector of half precision stands in the index, see migration 0006."""
PURGE_BATCH = 1000
"""Rows that are removed under one lock: a chat of the same user waits for no more."""


class Mem0Memories:
    """Safe to share between threads and to run in several processes: the writes of one user wait for each other."""

    def __init__(
        self,
        database_url: URL,
        embedder: Embedder,
        ranking: MemoryRankingSettings,
        run_id: str | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        """`run_id`, `breaker`: as of the `Tables` in the same database."""
        url = database_url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)  # as Mem0 speaks to it
        self._tables = Tables(url, pool_size=12, run_id=run_id, breaker=breaker)
        self._embedder = embedder
        self._indexes = MemoryIndexes(embedder.fingerprint, ranking)
        self._opened: PGVector | None = None
        self._opening = threading.Lock()

    def add_batch(self, user_id: str, memories: Sequence[Memory], decide: Decide = write_all) -> list[Decision]:
        from sqlalchemy import text

        for memory in memories:
            check_memory(user_id, memory)
        vectors = self._embedder.embed([memory.text for memory in memories])  # in one batch, before the lock is taken
        with self._transaction(user_id) as connection:
            lock_memories(connection, user_id)
            connection.execute(text(sql.BY_INDEX))
            decisions = [self._add(connection, *item, decide) for item in zip(memories, vectors, strict=True)]
            if any(
                decision.outcome in ("written", "duplicate") for decision in decisions
            ):  # a duplicate may have prolonged one
                _touch(connection, user_id)
            return decisions

    def _add(self, connection: Connection, memory: Memory, vector: np.ndarray, decide: Decide) -> Decision:
        if self._get(memory.memory_id):
            return Decision("duplicate", memory, memory.memory_id)
        versions = self._versions(connection, memory.key) if memory.key else []
        near: list[MemoryHit] = []
        if decide is not write_all:  # which asks for nothing, and a search a row is most of the work of a large batch
            near = self._near(connection, vector, NEAR, ends_after=memory.created_at, kinds=[memory.kind])
        decision = decide(memory, near, versions)
        known = self._get(decision.other_id) if decision.other_id else None
        if decision.outcome == "duplicate" and known and outlives(memory, known):
            self._update(replace(known, expiration_date=memory.expiration_date))
        if decision.outcome == "written":
            payload = to_payload(decision.memory, self._embedder.fingerprint)
            self._store.insert([vector.tolist()], [payload], [memory.memory_id])
            if known:
                self._update(replace(known, superseded_by=memory.memory_id, superseded_at=memory.created_at))
        return decision

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
        from sqlalchemy import text

        asked = self._embedder.embed([question])[0] if vector is None else vector
        with self._transaction(user_id) as connection:
            connection.execute(text(sql.BY_INDEX))
            return self._near(connection, asked, k, ends_after=as_of, begun_by=as_of, kinds=kinds, domain=domain)

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
        return self._indexes.search(self._by_index, user_id, question, vector, k, as_of=as_of, kinds=kinds, allowed=allowed)

    def with_vectors(self, user_id: str, kinds: Collection[str], *, as_of: datetime) -> tuple[list[Memory], np.ndarray]:
        return self._indexes.list_held(self._by_index, user_id, kinds, as_of=as_of)

    @contextmanager
    def _by_index(self, user_id: str) -> Iterator[Connection]:
        from sqlalchemy import text

        with self._tables.transaction(user_id) as connection:
            connection.execute(text(sql.BY_INDEX))
            yield connection

    def current(self, user_id: str, *, as_of: datetime, kinds: Collection[str] = (), domain: str | None = None) -> list[Memory]:
        from sqlalchemy import text

        among, values = sql.among(as_of, as_of, kinds, domain)
        with self._transaction(user_id) as connection:
            if kinds:
                connection.execute(text(sql.BY_INDEX))
            rows = connection.execute(text(f"select id, payload from memory where {among} order by from_s, id"), values)
            return [from_payload(str(row.id), row.payload) for row in rows]

    def page(
        self, user_id: str, *, as_of: datetime, kinds: Collection[str] = (), before: Place | None = None, limit: int
    ) -> list[Memory]:
        from sqlalchemy import text

        among, values = sql.among(as_of, as_of, kinds, None)
        if before is not None:
            among += " and (from_s, id) < (:before_s, cast(:before_id as uuid))"
            values |= {"before_s": before[0].timestamp(), "before_id": before[1]}
        query = f"select id, payload from memory where {among} order by from_s desc, id desc limit :limit"
        with self._transaction(user_id) as connection:
            rows = connection.execute(text(query), {**values, "limit": limit})
            return [from_payload(str(row.id), row.payload) for row in rows]

    def count(self, user_id: str, *, as_of: datetime) -> dict[str, int]:
        from sqlalchemy import text

        among, values = sql.among(as_of, as_of, (), None)
        with self._by_index(user_id) as connection:
            query = f"select kind, count(*) as memories from memory where {among} group by kind order by kind"
            return {row.kind: row.memories for row in connection.execute(text(query), values)}

    def every(self, user_id: str) -> list[Memory]:
        from sqlalchemy import text

        with self._transaction(user_id) as connection:
            rows = connection.execute(text("select id, payload from memory order by from_s, id"))
            return [from_payload(str(row.id), row.payload) for row in rows]

    def correct(self, user_id: str, memory_id: str, text: str, *, by: str, at: datetime) -> Memory:
        words = text.strip()
        vector = self._embedder.embed([words])[0] if words else None  # before the lock; what is empty is refused below
        with self._transaction(user_id) as connection:
            lock_memories(connection, user_id)
            old = self._get(check_memory_id(user_id, memory_id))
            made = self._get(old.superseded_by) if old and old.superseded_by else None
            if made and (made.text, made.written_by) == (words, by):
                return made
            ended, new = corrected(old, words, by, at, user_id)
            assert vector is not None
            self._store.insert([vector.tolist()], [to_payload(new, self._embedder.fingerprint)], [new.memory_id])
            self._update(ended)
            _touch(connection, user_id)
            return new

    def forget(self, user_id: str, memory_id: str) -> int:
        from sqlalchemy import text

        with self._transaction(user_id) as connection:
            lock_memories(connection, user_id)
            memory = self._get(check_memory_id(user_id, memory_id))
            versions = self._versions(connection, memory.key) if memory and memory.key else [memory] if memory else []
            check_forgettable(versions, user_id)
            connection.execute(text(sql.DELETE), {"ids": [version.memory_id for version in versions]})
            left = [forgotten(version) for version in versions if stays_on_record(version)]
            if left:
                vector = self._embedder.embed([left[0].text])[0].tolist()  # not that of the words that are gone
                payloads = [to_payload(version, self._embedder.fingerprint) for version in left]
                self._store.insert([vector] * len(left), payloads, [version.memory_id for version in left])
            _touch(connection, user_id)
            return len(versions)

    def history(self, user_id: str, memory_id: str) -> list[Memory]:
        with self._transaction(user_id) as connection:
            memory = self._get(memory_id)
            if memory is None:
                return []
            return self._versions(connection, memory.key) if memory.key else [memory]

    def delete(self, user_id: str, memory_ids: Collection[str]) -> int:
        from sqlalchemy import text

        with self._transaction(user_id) as connection:
            lock_memories(connection, user_id)
            _touch(connection, user_id)
            return connection.execute(text(sql.DELETE), {"ids": sorted(memory_ids)}).rowcount

    def purge_expired(self, user_id: str, today: date) -> int:
        from sqlalchemy import text

        began_s = datetime.combine(today, time(), UTC).timestamp()
        values = {"today": today.isoformat(), "began_s": began_s, "batch": PURGE_BATCH}
        purged = 0
        while True:
            with self._transaction(user_id) as connection:
                lock_memories(connection, user_id)
                connection.execute(text(sql.BY_INDEX))
                gone = connection.execute(text(sql.PURGE), values).rowcount
                if gone:
                    _touch(connection, user_id)
            purged += gone
            if gone < PURGE_BATCH:
                return purged

    def delete_all(self, user_id: str) -> int:
        from sqlalchemy import text

        with self._transaction(user_id) as connection:
            lock_memories(connection, user_id)
            gone = connection.execute(text("delete from memory")).rowcount
            if gone:  # of a user who is not known any more there is no version to count
                _touch(connection, user_id)
            return gone

    def reembed(self, user_id: str) -> int:
        from sqlalchemy import text

        own = self._embedder.fingerprint
        with self._transaction(user_id) as connection:
            lock_memories(connection, user_id)  # nobody adds a memory of the old model between the look and the change
            rows = connection.execute(text(sql.OF_OTHER_MODELS), {"fingerprint": own}).all()
            if rows:
                _touch(connection, user_id)
                vectors = self._embedder.embed([row.text for row in rows])
                changes = [
                    {"id": row.id, "fingerprint": own, "vector": str(vector.tolist())}
                    for row, vector in zip(rows, vectors, strict=True)
                ]
                connection.execute(text(sql.REEMBED), changes)
            return len(rows)

    def close(self) -> None:
        self._tables.close()

    @property
    def _store(self) -> PGVector:
        """Mem0's store, upon whatever transaction the calling thread is in."""
        with self._opening:
            if self._opened is None:
                self._opened = open_collection(self._embedder.dim)
            return self._opened

    @contextmanager
    def _transaction(self, user_id: str) -> Iterator[Connection]:
        import psycopg

        try:
            with self._tables.transaction(user_id) as connection:
                token = CONNECTION.set(connection.connection.driver_connection)
                try:
                    yield connection
                finally:
                    CONNECTION.reset(token)
        except psycopg.Error as error:  # of Mem0's own statements; SQLAlchemy's are translated already
            gone = isinstance(error, psycopg.OperationalError)
            said = error.diag.message_primary or type(error).__name__
            code = "tables_unavailable" if gone else "tables_refused"
            raise StoreError(code, f"PostgreSQL did not take what Mem0 sent: {said}", retryable=gone) from error

    def _near(
        self,
        connection: Connection,
        vector: np.ndarray,
        k: int,
        *,
        ends_after: datetime,
        begun_by: datetime | None = None,
        kinds: Collection[str] = (),
        domain: str | None = None,
    ) -> list[MemoryHit]:
        """The nearest of all of the user's that are asked for: an exact search, ranked by half precision first."""
        from sqlalchemy import text

        among, values = sql.among(ends_after, begun_by, kinds, domain)
        values |= {"vector": as_literal(vector), "fingerprint": self._embedder.fingerprint, "k": k, "candidates": 2 * k + 16}
        order = sql.BY_HALF if self._embedder.dim <= HALF_DIM else "vector <=> cast(:vector as vector)"
        rows = connection.execute(text(sql.SEARCH.format(among=among, order=order)), values)
        return [MemoryHit(from_payload(str(row.id), row.payload), max(0.0, 1.0 - row.distance)) for row in rows]

    def _get(self, memory_id: str) -> Memory | None:
        found = self._store.get(memory_id)
        return from_payload(memory_id, found.payload or {}) if found else None

    def _update(self, memory: Memory) -> None:
        found = self._store.get(memory.memory_id)
        fingerprint = (found.payload or {})["fingerprint"]  # of the vector that stays
        replace_payload(memory.memory_id, to_payload(memory, fingerprint))

    @staticmethod
    def _versions(connection: Connection, key: str) -> list[Memory]:
        from sqlalchemy import text

        return [from_payload(str(row.id), row.payload) for row in connection.execute(text(sql.VERSIONS), {"key": key})]


def _touch(connection: Connection, user_id: str) -> None:
    """Say that the user's memories are others now, so that every process reads them again."""
    from sqlalchemy import text

    connection.execute(text(sql.TOUCH), {"user_id": user_id})
