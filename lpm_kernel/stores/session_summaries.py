"""Rows of `session_summary`: how far each session of the person was summed up, whatever became of it.

Belongs here: queries on that table, and which sessions are due.
Does not belong here: making a summary (`recall/session_summaries.py`); it is a memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lpm_kernel.stores.change_schema import change
from lpm_kernel.stores.schema import WRITTEN_NOW, chat_message, session_summary

if TYPE_CHECKING:
    from sqlalchemy import Connection


FORGET = "forget_memory"
"""The kind of a change by which a memory is forgotten."""


@dataclass(frozen=True, slots=True)
class DueSession:
    session_id: str
    messages: int
    """That the person has written in it."""


def list_due(connection: Connection, user_id: str, *, rested_since: datetime, grown_by: int) -> list[DueSession]:
    """The person's own sessions in which they wrote since the last summary, and that were at rest since then, or have grown by
    so many messages of theirs; the longest at rest first."""
    from sqlalchemy import func, select

    said = func.count().filter(chat_message.c.sender == "user").label("said")
    last = func.max(chat_message.c.ts).label("last")
    sessions = (
        select(chat_message.c.session_id, said, last)
        .where(chat_message.c.user_id == user_id, chat_message.c.asker.is_(None))
        .group_by(chat_message.c.session_id)
        .subquery()
    )
    summed = func.coalesce(session_summary.c.messages, 0)
    is_same = (session_summary.c.user_id == user_id) & (session_summary.c.session_id == sessions.c.session_id)
    rows = connection.execute(
        select(sessions.c.session_id, sessions.c.said)
        .outerjoin(session_summary, is_same)
        .where(
            sessions.c.said > summed,
            (sessions.c.last <= rested_since) | (sessions.c.said - summed >= grown_by),
        )
        .order_by(sessions.c.last, sessions.c.session_id)
    )
    return [DueSession(row.session_id, row.said) for row in rows]


def count_forgettings(connection: Connection, user_id: str) -> tuple[int, int]:
    """The number of the newest change by which the person had something forgotten, and how many of those are yet to be done:
    while both are the same nothing more was forgotten. 0 where there is none."""
    from sqlalchemy import func, select

    newest, undone = func.coalesce(func.max(change.c.seq), 0), func.count().filter(change.c.done_at.is_(None))
    row = connection.execute(select(newest, undone).where(change.c.user_id == user_id, change.c.kind == FORGET)).one()
    return int(row[0]), int(row[1])


def mark_summed(connection: Connection, user_id: str, session_id: str, messages: int, made_at: datetime) -> None:
    """Whatever was worth a summary in so many messages is in one. Idempotent; never goes back."""
    from sqlalchemy import func
    from sqlalchemy.dialects.postgresql import insert

    values = {"messages": messages, "made_at": made_at}
    given = insert(session_summary).values(user_id=user_id, session_id=session_id, **values)
    connection.execute(
        given.on_conflict_do_update(
            index_elements=[session_summary.c.user_id, session_summary.c.session_id],
            set_={
                "messages": func.greatest(session_summary.c.messages, given.excluded.messages),
                "made_at": given.excluded.made_at,
                **WRITTEN_NOW,
            },
        )
    )


def unmark_summed(connection: Connection, user_id: str, session_id: str) -> None:
    """As if it had never been summed up. Idempotent."""
    from sqlalchemy import delete

    this = (session_summary.c.user_id == user_id, session_summary.c.session_id == session_id)
    connection.execute(delete(session_summary).where(*this))
