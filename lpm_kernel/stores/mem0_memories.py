"""Memories on Mem0 OSS: its pgvector collection in the application's own PostgreSQL, behind row-level security.

Belongs here: Mem0's store joined to a user's transaction, and the set-wise statements that it has none of.
Does not belong here: Mem0's `Memory` class. It needs a language model, embeds one text at a time, loads spaCy to search, and
keeps history in an SQLite file that parallel processes lock each other out of. Here history is the superseded rows themselves.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import StoreError
from lpm_kernel.records import Memory
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.stores.memories import (
    NEAR,
    Decide,
    Decision,
    MemoryHit,
    check_memory,
    from_payload,
    lock_memories,
    outlives,
    prepare_mem0,
    to_payload,
    write_all,
)
from lpm_kernel.stores.tables import Tables

if TYPE_CHECKING:
    import numpy as np
    from mem0.vector_stores.pgvector import PGVector
    from sqlalchemy import URL, Connection

COLLECTION = "memory"

_CONNECTION: ContextVar[Any] = ContextVar("connection of the user's transaction")


class Mem0Memories:
    """Safe to share between threads and to run in several processes: the writes of one user wait for each other."""

    def __init__(self, database_url: URL, embedder: Embedder) -> None:
        # Mem0 speaks to the server through psycopg 3
        self._tables = Tables(
            database_url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False), pool_size=4
        )
        self._embedder = embedder
        self._opened: PGVector | None = None
        self._opening = threading.Lock()

    def add_batch(self, user_id: str, memories: Sequence[Memory], decide: Decide = write_all) -> list[Decision]:
        for memory in memories:
            check_memory(user_id, memory)
        vectors = self._embedder.embed([memory.text for memory in memories])  # in one batch, before the lock is taken
        with self._transaction(user_id) as connection:
            lock_memories(connection, user_id)
            return [self._add(connection, memory, vector, decide) for memory, vector in zip(memories, vectors, strict=True)]

    def _add(self, connection: Connection, memory: Memory, vector: np.ndarray, decide: Decide) -> Decision:
        if self._get(memory.memory_id):
            return Decision("duplicate", memory, memory.memory_id)
        same_kind = {"user_id": memory.user_id, "kind": memory.kind, "until_s": {"gt": memory.created_at.timestamp()}}
        versions = self._versions(connection, memory.key) if memory.key else []
        decision = decide(memory, self._near(vector, NEAR, same_kind), versions)
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
        asked = self._embedder.embed([question])[0] if vector is None else vector
        filters = {"user_id": user_id, "from_s": {"lte": as_of.timestamp()}, "until_s": {"gt": as_of.timestamp()}}
        if kinds:
            filters["kind"] = {"in": sorted(kinds)}
        if domain is not None:
            filters["domain"] = domain
        with self._transaction(user_id):
            return self._near(asked, k, filters)

    def current(self, user_id: str, *, as_of: datetime, kinds: Collection[str] = (), domain: str | None = None) -> list[Memory]:
        from sqlalchemy import text

        values = {"as_of": as_of.timestamp(), "kinds": sorted(kinds), "domain": domain}
        with self._transaction(user_id) as connection:
            return [from_payload(str(row.id), row.payload) for row in connection.execute(text(_LIST), values)]

    def history(self, user_id: str, memory_id: str) -> list[Memory]:
        with self._transaction(user_id) as connection:
            memory = self._get(memory_id)
            if memory is None:
                return []
            return self._versions(connection, memory.key) if memory.key else [memory]

    def delete(self, user_id: str, memory_id: str) -> bool:
        with self._transaction(user_id) as connection:
            lock_memories(connection, user_id)
            there = self._get(memory_id) is not None
            self._store.delete(memory_id)
            return there

    def purge_expired(self, user_id: str, today: date) -> int:
        from sqlalchemy import text

        with self._transaction(user_id) as connection:
            lock_memories(connection, user_id)
            return connection.execute(text(_PURGE), {"today": today.isoformat()}).rowcount

    def delete_all(self, user_id: str) -> int:
        from sqlalchemy import text

        with self._transaction(user_id) as connection:
            lock_memories(connection, user_id)
            return connection.execute(text("delete from memory")).rowcount

    def reembed(self, user_id: str) -> int:
        from sqlalchemy import text

        own = self._embedder.fingerprint
        with self._transaction(user_id) as connection:
            lock_memories(connection, user_id)  # nobody adds a memory of the old model between the look and the change
            rows = connection.execute(text(_OF_OTHER_MODELS), {"fingerprint": own}).all()
            if rows:
                vectors = self._embedder.embed([row.text for row in rows])
                changes = [
                    {"id": row.id, "fingerprint": own, "vector": str(vector.tolist())}
                    for row, vector in zip(rows, vectors, strict=True)
                ]
                connection.execute(text(_REEMBED), changes)
            return len(rows)

    def close(self) -> None:
        self._tables.close()

    @property
    def _store(self) -> PGVector:
        """Mem0's store, upon whatever transaction the calling thread is in."""
        with self._opening:
            if self._opened is None:
                self._opened = _open_collection(self._embedder.dim)
            return self._opened

    @contextmanager
    def _transaction(self, user_id: str) -> Iterator[Connection]:
        import psycopg

        try:
            with self._tables.transaction(user_id) as connection:
                token = _CONNECTION.set(connection.connection.driver_connection)
                try:
                    yield connection
                finally:
                    _CONNECTION.reset(token)
        except psycopg.Error as error:  # of Mem0's own statements; SQLAlchemy's are translated already
            gone = isinstance(error, psycopg.OperationalError)
            said = error.diag.message_primary or type(error).__name__
            code = "tables_unavailable" if gone else "tables_refused"
            raise StoreError(code, f"PostgreSQL did not take what Mem0 sent: {said}", retryable=gone) from error

    def _near(self, vector: np.ndarray, k: int, filters: dict[str, Any]) -> list[MemoryHit]:
        filters = {**filters, "fingerprint": self._embedder.fingerprint}
        found = self._store.search("", vector.tolist(), top_k=k, filters=filters)
        return [MemoryHit(from_payload(str(item.id), item.payload or {}), float(item.score or 0)) for item in found]

    def _get(self, memory_id: str) -> Memory | None:
        found = self._store.get(memory_id)
        return from_payload(memory_id, found.payload or {}) if found else None

    def _update(self, memory: Memory) -> None:
        found = self._store.get(memory.memory_id)
        fingerprint = (found.payload or {})["fingerprint"]  # of the vector that stays
        self._store.update(memory.memory_id, payload=to_payload(memory, fingerprint))

    @staticmethod
    def _versions(connection: Connection, key: str) -> list[Memory]:
        from sqlalchemy import text

        return [from_payload(str(row.id), row.payload) for row in connection.execute(text(_VERSIONS), {"key": key})]


class _JoinedPool:
    """What Mem0 takes for a connection pool: it hands out the connection of the user's transaction, again and again."""

    @contextmanager
    def connection(self) -> Iterator[_Joined]:
        yield _Joined(_CONNECTION.get())

    def close(self) -> None:
        """Mem0 closes its pool when it is collected; the connection belongs to the transaction."""


class _Joined:
    """A connection whose commit and rollback are left to the transaction around all of Mem0's statements."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def cursor(self) -> Any:
        return self._connection.cursor()

    def commit(self) -> None:
        pass

    def rollback(self) -> None:
        pass


def _open_collection(dim: int) -> PGVector:
    prepare_mem0()
    from mem0.vector_stores.pgvector import PGVector

    # it logs a traceback of each error that it raises all the same
    logging.getLogger("mem0.vector_stores.pgvector").setLevel(logging.CRITICAL)
    unused: dict[str, Any] = dict.fromkeys(("dbname", "user", "password", "host", "port"))
    # exact search: an HNSW index behind a tenant filter loses rows
    return PGVector(
        collection_name=COLLECTION,
        embedding_model_dims=dim,
        diskann=False,
        hnsw=False,
        connection_pool=_JoinedPool(),
        **unused,
    )


_LIST = """
select id, payload from memory
where (payload ->> 'from_s')::double precision <= :as_of and (payload ->> 'until_s')::double precision > :as_of
  and (cardinality(cast(:kinds as text[])) = 0 or payload ->> 'kind' = any(cast(:kinds as text[])))
  and (cast(:domain as text) is null or payload ->> 'domain' = :domain)
order by (payload ->> 'from_s')::double precision, id
"""
_VERSIONS = (
    "select id, payload from memory where payload ->> 'key' = :key order by (payload ->> 'from_s')::double precision, id"
)
_PURGE = "delete from memory where payload ->> 'expiration_date' < :today"
_OF_OTHER_MODELS = (
    "select id, payload ->> 'data' as text from memory where payload ->> 'fingerprint' <> :fingerprint order by id"
)
_REEMBED = """
update memory set vector = cast(:vector as vector),
                  payload = jsonb_set(payload, '{fingerprint}', to_jsonb(cast(:fingerprint as text)))
where id = :id
"""
