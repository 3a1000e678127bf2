"""Rows of `chat_message`: what was said between a person and a twin, in order.

Belongs here: queries on that table. A session is one asker's: of two who name theirs alike, neither sees the other's.
Does not belong here: answering.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lpm_kernel.records import ChatMessage, Citation
from lpm_kernel.stores.schema import chat_message

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Row


@dataclass(frozen=True, slots=True)
class Talk:
    """One session with one release of the twin."""

    session_id: str
    release_id: str
    began: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """One conversation: how much was said in it, and when. `first` is the place of its first message, which never changes."""

    session_id: str
    first: int
    messages: int
    began: datetime
    ended: datetime


def append_message(connection: Connection, message: ChatMessage) -> bool:
    """Whether it was not there yet. Idempotent by message id; of two transactions at once the second waits for the first."""
    from dataclasses import asdict

    from sqlalchemy.dialects.postgresql import insert

    stored = connection.execute(
        insert(chat_message)
        .values(
            user_id=message.user_id,
            message_id=message.message_id,
            session_id=message.session_id,
            sender=message.sender,
            ts=message.ts,
            content=message.content,
            citations=[asdict(citation) for citation in message.citations],
            release_id=message.release_id,
            degraded=list(message.degraded),
            cut_off=message.cut_off,
            asker=message.asker,
        )
        .on_conflict_do_nothing()
        .returning(chat_message.c.message_id)
    )
    return stored.first() is not None


def last_messages(
    connection: Connection, user_id: str, session_id: str, limit: int | None, *, asker: str | None = None
) -> list[ChatMessage]:
    """The newest `limit` messages (None: all) of a session, oldest first: of the person's own, or of an asker's."""
    own = (chat_message.c.user_id == user_id, chat_message.c.session_id == session_id, _of(asker))
    return _newest(connection, limit, *own)


def messages_before(connection: Connection, message: ChatMessage, limit: int) -> list[ChatMessage]:
    """The newest `limit` messages of its session before this one, oldest first."""
    own = (
        chat_message.c.user_id == message.user_id,
        chat_message.c.session_id == message.session_id,
        _of(message.asker),
    )
    return _newest(connection, limit, *own, chat_message.c.position < _place_of(message))


def find_message(connection: Connection, user_id: str, message_id: str) -> ChatMessage | None:
    found = _newest(connection, 1, chat_message.c.user_id == user_id, chat_message.c.message_id == message_id)
    return found[0] if found else None


def _newest(connection: Connection, limit: int | None, *where: ColumnElement[bool]) -> list[ChatMessage]:
    from sqlalchemy import select

    query = select(chat_message).where(*where).order_by(chat_message.c.position.desc()).limit(limit)
    rows = connection.execute(query).all()
    return [_message(row) for row in reversed(rows)]


def list_messages(
    connection: Connection, user_id: str, session_id: str, *, after: int = 0, limit: int
) -> list[tuple[int, ChatMessage]]:
    """At most `limit` messages of a session of the person's own, behind the place `after`; oldest first, with their places."""
    from sqlalchemy import select

    session = (chat_message.c.user_id == user_id, chat_message.c.session_id == session_id, _of(None))
    own = (*session, chat_message.c.position > after)
    rows = connection.execute(select(chat_message).where(*own).order_by(chat_message.c.position).limit(limit))
    return [(row.position, _message(row)) for row in rows]


def list_sessions(connection: Connection, user_id: str, *, before: int | None = None, limit: int) -> list[Session]:
    """At most `limit` of the person's own sessions that began before the place `before`, the one that began last first.

    Why by their beginning: one that is gone on with would move while somebody turns the pages.
    """
    from sqlalchemy import func, select

    first = func.min(chat_message.c.position).label("first")
    query = (
        select(
            chat_message.c.session_id,
            first,
            func.count().label("messages"),
            func.min(chat_message.c.ts).label("began"),
            func.max(chat_message.c.ts).label("ended"),
        )
        .where(chat_message.c.user_id == user_id, _of(None))
        .group_by(chat_message.c.session_id)
    )
    if before is not None:
        query = query.having(first < before)
    rows = connection.execute(query.order_by(first.desc()).limit(limit))
    return [Session(row.session_id, row.first, row.messages, row.began, row.ended) for row in rows]


def delete_asked(connection: Connection, asker: str) -> int:
    """Every talk of this person with others' twins, in the operator's transaction; how many messages went. Idempotent."""
    from sqlalchemy import delete, text

    connection.execute(text("select pg_advisory_xact_lock(hashtext(:talks))"), {"talks": f"talks:{asker}"})
    connection.execute(text("select set_config('app.asker', :asker, true)"), {"asker": asker})
    return connection.execute(delete(chat_message).where(chat_message.c.asker == asker)).rowcount


def is_still_asked(connection: Connection, message: ChatMessage) -> bool:
    """Whether an asker's question still stands, which a deletion of the asker takes along; none begins before this
    transaction ends."""
    from sqlalchemy import text

    connection.execute(text("select pg_advisory_xact_lock_shared(hashtext(:talks))"), {"talks": f"talks:{message.asker}"})
    return find_message(connection, message.user_id, message.message_id) is not None


def delete_said(connection: Connection, user_id: str, asker: str, transaction_id: str) -> int:
    """What one request of an asker has left, their question and its answer; how many messages went. Idempotent."""
    from sqlalchemy import delete

    own = (chat_message.c.user_id == user_id, _of(asker), chat_message.c.transaction_id == transaction_id)
    return connection.execute(delete(chat_message).where(*own)).rowcount


def count_messages(connection: Connection, user_id: str) -> tuple[int, int]:
    """How many sessions of the person's own there are, and messages in them."""
    from sqlalchemy import distinct, func, select

    counts = select(func.count(distinct(chat_message.c.session_id)), func.count()).where(
        chat_message.c.user_id == user_id, _of(None)
    )
    sessions, messages = connection.execute(counts).one()
    return sessions, messages


def _message(row: Row[Any]) -> ChatMessage:
    return ChatMessage(
        message_id=row.message_id,
        user_id=row.user_id,
        session_id=row.session_id,
        sender=row.sender,
        ts=row.ts,
        content=row.content,
        citations=tuple(Citation(**citation) for citation in row.citations),
        release_id=row.release_id,
        degraded=tuple(row.degraded),
        cut_off=row.cut_off,
        asker=row.asker,
    )


def list_talks(connection: Connection, user_id: str) -> list[Talk]:
    """When each of the person's own sessions began to be answered by which release, oldest first."""
    from sqlalchemy import func, select

    own = (
        chat_message.c.user_id == user_id,
        chat_message.c.sender == "twin",
        chat_message.c.release_id.is_not(None),
        _of(None),
    )
    began = func.min(chat_message.c.ts).label("began")
    rows = connection.execute(
        select(chat_message.c.session_id, chat_message.c.release_id, began)
        .where(*own)
        .group_by(chat_message.c.session_id, chat_message.c.release_id)
        .order_by(began, chat_message.c.session_id)
    )
    return [Talk(row.session_id, row.release_id, row.began) for row in rows]


def number_of_question(connection: Connection, message: ChatMessage) -> int:
    """Its place among what the person, or this asker, has said in its session, from 1; the same however much has come since."""
    from sqlalchemy import func, select

    session = (chat_message.c.user_id == message.user_id, chat_message.c.session_id == message.session_id)
    own = (*session, chat_message.c.sender == "user", _of(message.asker), chat_message.c.position <= _place_of(message))
    return connection.execute(select(func.count()).select_from(chat_message).where(*own)).scalar_one()


def _place_of(message: ChatMessage) -> Any:
    from sqlalchemy import select

    own = (chat_message.c.user_id == message.user_id, chat_message.c.message_id == message.message_id)
    return select(chat_message.c.position).where(*own).scalar_subquery()


def _of(asker: str | None) -> ColumnElement[bool]:
    return chat_message.c.asker.is_(None) if asker is None else chat_message.c.asker == asker
