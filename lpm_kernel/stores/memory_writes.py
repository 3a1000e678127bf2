"""Rows of `memory_write`: messages of a person that memory has yet to take in, and those that it could not.

Belongs here: queries on that table; a row that was worked off is gone.
Does not belong here: what is written into memory, and when to give up (`recall/memory_queue.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from lpm_kernel.records import ChatMessage
from lpm_kernel.request_context import request_id
from lpm_kernel.stores.schema import memory_write

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection


@dataclass(frozen=True, slots=True)
class MemoryWrite:
    """`turn`: of the message in its session, from 1. `code` and `reason` of the last try that failed, without its text.
    `request_id`: of the request that the message came with, if it came with one.
    """

    user_id: str
    message_id: str
    turn: int
    state: Literal["waiting", "failed"]
    attempts: int
    due_at: datetime
    code: str | None
    reason: str | None
    created_at: datetime
    request_id: str | None


def put_memory_write(connection: Connection, message: ChatMessage, turn: int) -> None:
    """Belongs into the transaction that stores the message: then neither is there without the other. Idempotent."""
    from sqlalchemy.dialects.postgresql import insert

    values = {"state": "waiting", "attempts": 0, "due_at": message.ts, "created_at": message.ts, "request_id": request_id()}
    statement = insert(memory_write).values(user_id=message.user_id, message_id=message.message_id, turn=turn, **values)
    connection.execute(statement.on_conflict_do_nothing())


def users_with_due_writes(connection: Connection, now: datetime, limit: int) -> list[str]:
    """As the operator: whose writes are due, those first that have waited for longest."""
    from sqlalchemy import func, select

    oldest = func.min(memory_write.c.due_at)
    due = (memory_write.c.state == "waiting", memory_write.c.due_at <= now)
    query = select(memory_write.c.user_id).where(*due).group_by(memory_write.c.user_id).order_by(oldest).limit(limit)
    return list(connection.execute(query).scalars())


def claim_memory_write(connection: Connection, user_id: str, now: datetime, lease_s: float) -> MemoryWrite | None:
    """The oldest that is due, counted as tried and nobody else's for `lease_s`; None when there is none.

    Why a lease and not a lock that is held: a try that takes the process along must count as one.
    """
    from sqlalchemy import select, update

    due = (memory_write.c.user_id == user_id, memory_write.c.state == "waiting", memory_write.c.due_at <= now)
    first = (
        select(memory_write.c.message_id)
        .where(*due)
        .order_by(memory_write.c.created_at, memory_write.c.message_id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    row = connection.execute(
        update(memory_write)
        .where(memory_write.c.user_id == user_id, memory_write.c.message_id == first)
        .values(attempts=memory_write.c.attempts + 1, due_at=now + timedelta(seconds=lease_s))
        .returning(memory_write)
    ).first()
    return MemoryWrite(**row._mapping) if row else None


def finish_memory_write(connection: Connection, write: MemoryWrite) -> None:
    from sqlalchemy import delete

    connection.execute(delete(memory_write).where(*_this(write)))


def put_off_memory_write(connection: Connection, write: MemoryWrite, due_at: datetime, code: str, reason: str) -> None:
    from sqlalchemy import update

    connection.execute(update(memory_write).where(*_this(write)).values(due_at=due_at, code=code, reason=reason))


def give_up_memory_write(connection: Connection, write: MemoryWrite, code: str, reason: str) -> None:
    """The row stays and says why."""
    from sqlalchemy import update

    connection.execute(update(memory_write).where(*_this(write)).values(state="failed", code=code, reason=reason))


def list_memory_writes(connection: Connection, user_id: str) -> list[MemoryWrite]:
    """What waits and what failed, oldest first."""
    from sqlalchemy import select

    own = select(memory_write).where(memory_write.c.user_id == user_id)
    rows = connection.execute(own.order_by(memory_write.c.created_at, memory_write.c.message_id))
    return [MemoryWrite(**row._mapping) for row in rows]


def _this(write: MemoryWrite) -> tuple[ColumnElement[bool], ...]:
    return memory_write.c.user_id == write.user_id, memory_write.c.message_id == write.message_id
