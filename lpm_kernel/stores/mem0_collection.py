"""Mem0's pgvector store, joined to a transaction of the application's own.

Belongs here: the pool that hands out the connection of the user's transaction, and opening Mem0's store upon it; the
statement of Mem0's that would not say who wrote.
Does not belong here: what is asked of it (`mem0_memories.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from lpm_kernel.stores.memories import prepare_mem0

if TYPE_CHECKING:
    from mem0.vector_stores.pgvector import PGVector

COLLECTION = "memory"
CONNECTION: ContextVar[Any] = ContextVar("connection of the user's transaction")


class JoinedPool:
    """What Mem0 takes for a connection pool: it hands out the connection of the user's transaction, again and again."""

    @contextmanager
    def connection(self) -> Iterator[_Joined]:
        yield _Joined(CONNECTION.get())

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


def replace_payload(memory_id: str, payload: dict[str, Any]) -> None:
    """In the transaction around. By a statement of our own: Mem0's leaves the row to the transaction that wrote it first."""
    from psycopg.types.json import Jsonb

    statement = "update memory set payload = %s, transaction_id = default where id = %s"
    with CONNECTION.get().cursor() as cursor:
        cursor.execute(statement, (Jsonb(payload), memory_id))


def open_collection(dim: int) -> PGVector:
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
        connection_pool=JoinedPool(),
        **unused,
    )
