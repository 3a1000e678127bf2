"""Messages of a person that memory has yet to take in, and those that it could not: one kind of change among the others.

Belongs here: putting one, and looking at those that wait; in an archive they keep the form of a table of their own, which they
once were.
Does not belong here: what is written into memory (`recall/memory_queue.py`), and when it is tried again (`sync/worker.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from lpm_kernel.errors import UserInputError
from lpm_kernel.records import ChatMessage
from lpm_kernel.stores.change_schema import change
from lpm_kernel.stores.changes import Change, put_change
from lpm_kernel.stores.schema import chat_message

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

REMEMBER = "remember_message"


@dataclass(frozen=True, slots=True)
class MemoryWrite:
    """`turn`: of the message in its session, from 1. `code` and `reason` of the last try that failed, without its text.
    `request_id`: of the transaction that the message came with.
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
    request_id: str


def put_memory_write(connection: Connection, message: ChatMessage, turn: int) -> Change:
    """Belongs into the transaction that stores the message: then neither is there without the other. Idempotent."""
    reference = {"message_id": message.message_id, "turn": turn}
    return put_change(connection, message.user_id, "memories", REMEMBER, reference, at=message.ts)


def to_memory_write(of: Change) -> MemoryWrite:
    told = of.attempts, of.due_at, of.code, of.reason, of.created_at, of.transaction_id
    state: Literal["waiting", "failed"] = "failed" if of.given_up_at else "waiting"
    return MemoryWrite(of.user_id, of.reference["message_id"], of.reference["turn"], state, *told)


def list_memory_writes(connection: Connection, user_id: str) -> list[MemoryWrite]:
    """What waits and what failed, oldest first; of a message that is gone there is nothing to write."""
    from sqlalchemy import select

    from lpm_kernel.stores.changes import list_undone

    writes = [to_memory_write(item) for item in list_undone(connection, user_id) if item.kind == REMEMBER]
    named = [write.message_id for write in writes]
    there = select(chat_message.c.message_id).where(chat_message.c.user_id == user_id, chat_message.c.message_id.in_(named))
    known = set(connection.execute(there).scalars()) if named else set()
    return [write for write in writes if write.message_id in known]


def archived_writes() -> Table:
    """The form that they have in an archive."""
    from sqlalchemy import Column, DateTime, Integer, MetaData, Table, Text

    texts = [Column(name, Text) for name in ("user_id", "message_id", "state", "code", "reason")]
    numbers = [Column(name, Integer) for name in ("turn", "attempts")]
    times = [Column(name, DateTime(timezone=True)) for name in ("due_at", "created_at")]
    return Table("memory_write", MetaData(), *texts, *numbers, *times)


def restore_memory_writes(connection: Connection, user_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Of an archive: each waits again as it did.

    Raises: UserInputError `archive_damaged` for one whose message is not there.
    """
    from sqlalchemy import select, update

    for row in rows:
        message = select(chat_message.c.message_id).where(
            chat_message.c.user_id == user_id, chat_message.c.message_id == row["message_id"]
        )
        whole = isinstance(row["message_id"], str) and isinstance(row["turn"], int) and row["state"] in ("waiting", "failed")
        if not whole or connection.execute(message).first() is None:
            raise UserInputError("archive_damaged", "a message that waits for memory is not in the archive: export it again")
        reference = {"message_id": row["message_id"], "turn": row["turn"]}
        put = put_change(connection, user_id, "memories", REMEMBER, reference, at=row["created_at"])
        told = {name: row[name] for name in ("attempts", "due_at", "code", "reason")}
        told["given_up_at"] = row["due_at"] if row["state"] == "failed" else None
        connection.execute(update(change).where(change.c.user_id == user_id, change.c.change_id == put.change_id).values(told))
