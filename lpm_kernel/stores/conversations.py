"""Rows of `chat_message`: what was said between a person and a twin, in order.

Belongs here: queries on that table.
Does not belong here: answering.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lpm_kernel.records import ChatMessage, Citation
from lpm_kernel.stores.schema import chat_message

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Talk:
    """One session with one release of the twin."""

    session_id: str
    release_id: str
    began: datetime


def append_message(connection: Connection, message: ChatMessage) -> None:
    """Idempotent by message id."""
    from dataclasses import asdict

    from sqlalchemy.dialects.postgresql import insert

    connection.execute(
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
        )
        .on_conflict_do_nothing()
    )


def last_messages(connection: Connection, user_id: str, session_id: str, limit: int) -> list[ChatMessage]:
    """The newest `limit` messages of a session, oldest first."""
    from sqlalchemy import select

    rows = connection.execute(
        select(chat_message)
        .where(chat_message.c.user_id == user_id, chat_message.c.session_id == session_id)
        .order_by(chat_message.c.position.desc())
        .limit(limit)
    ).all()
    return [
        ChatMessage(
            message_id=row.message_id,
            user_id=row.user_id,
            session_id=row.session_id,
            sender=row.sender,
            ts=row.ts,
            content=row.content,
            citations=tuple(Citation(**citation) for citation in row.citations),
            release_id=row.release_id,
        )
        for row in reversed(rows)
    ]


def list_talks(connection: Connection, user_id: str) -> list[Talk]:
    """When each session began to be answered by which release, oldest first."""
    from sqlalchemy import func, select

    own = (chat_message.c.user_id == user_id, chat_message.c.sender == "twin", chat_message.c.release_id.is_not(None))
    began = func.min(chat_message.c.ts).label("began")
    rows = connection.execute(
        select(chat_message.c.session_id, chat_message.c.release_id, began)
        .where(*own)
        .group_by(chat_message.c.session_id, chat_message.c.release_id)
        .order_by(began, chat_message.c.session_id)
    )
    return [Talk(row.session_id, row.release_id, row.began) for row in rows]


def count_questions(connection: Connection, user_id: str, session_id: str) -> int:
    """How often the person has spoken in a session."""
    from sqlalchemy import func, select

    own = (chat_message.c.user_id == user_id, chat_message.c.session_id == session_id, chat_message.c.sender == "user")
    return connection.execute(select(func.count()).select_from(chat_message).where(*own)).scalar_one()
