"""Rows of `feedback`: what a person thinks of a reply of their twin.

Belongs here: queries on that table, and what may stand in it.
Does not belong here: what is learnt from it (`L2/preference_pairs.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from lpm_kernel.errors import UserInputError
from lpm_kernel.records import Citation, is_text
from lpm_kernel.stores.schema import WRITTEN_NOW, chat_message, feedback

if TYPE_CHECKING:
    from sqlalchemy import Connection

Rating = Literal[-1, 0, 1]
"""Down, neither, up."""

MAX_EDITED_CHARACTERS = 4000


@dataclass(frozen=True, slots=True)
class RatedReply:
    """A reply, what it answered, and what its person thinks of it. None: they said nothing of that."""

    message_id: str
    session_id: str
    question: str
    reply: str
    citations: tuple[Citation, ...]
    voice: Rating | None
    """Whether it sounds like them."""
    truth: Rating | None
    """Whether it is so."""
    edited: str | None
    """What they would have said."""
    created_at: datetime


def keep_feedback(
    connection: Connection,
    user_id: str,
    message_id: str,
    *,
    voice: int | None = None,
    truth: int | None = None,
    edited: str | None = None,
    created_at: datetime,
) -> None:
    """One row a reply: the newest by `created_at` wins, whole; of two of one instant the one that came last. Idempotent.

    Raises: UserInputError `feedback_empty`, `rating_invalid`, `edit_invalid`, `message_unknown` (also another user's),
    `not_a_reply` for a message that the person wrote, or `not_own_talk` for a reply to somebody else: what an asker's words
    led to is not learnt from.
    """
    from sqlalchemy import select
    from sqlalchemy.dialects.postgresql import insert

    edited = edited.strip() if edited is not None else None
    if voice is None and truth is None and edited is None:
        raise UserInputError("feedback_empty", "feedback needs a rating of voice or truth, or an edited text")
    if any(rating not in (None, -1, 0, 1) for rating in (voice, truth)):
        raise UserInputError("rating_invalid", "a rating is -1, 0 or 1")
    if edited is not None and not (0 < len(edited) <= MAX_EDITED_CHARACTERS and is_text(edited)):
        raise UserInputError("edit_invalid", f"an edited text is 1-{MAX_EDITED_CHARACTERS} characters that UTF-8 has a form of")
    own = (chat_message.c.user_id == user_id, chat_message.c.message_id == message_id)
    asked = select(chat_message.c.sender, chat_message.c.asker).where(*own)
    said = connection.execute(asked).one_or_none() if is_text(message_id) else None
    if said is None:
        raise UserInputError("message_unknown", f"the user {user_id!r} has no such message")
    if said.sender != "twin":
        raise UserInputError("not_a_reply", "only what the twin said can be rated")
    if said.asker is not None:
        raise UserInputError("not_own_talk", "only what the twin said to its own person can be rated")
    values = {"voice": voice, "truth": truth, "edited": edited, "created_at": created_at, **WRITTEN_NOW}
    given = insert(feedback).values(user_id=user_id, message_id=message_id, **values)
    connection.execute(
        given.on_conflict_do_update(
            index_elements=[feedback.c.user_id, feedback.c.message_id],
            set_=values,
            where=feedback.c.created_at <= given.excluded.created_at,
        )
    )


def list_rated(connection: Connection, user_id: str) -> list[RatedReply]:
    """Every reply with feedback and the question it answered, in the order of the talk.

    A reply that no question of its session stands before is left out: what it answers is not known.
    """
    from sqlalchemy import select

    asked = chat_message.alias()
    question = (
        select(asked.c.content)
        .where(
            asked.c.user_id == chat_message.c.user_id,
            asked.c.session_id == chat_message.c.session_id,
            asked.c.sender == "user",
            asked.c.asker.is_(None),
            asked.c.position < chat_message.c.position,
        )
        .order_by(asked.c.position.desc())
        .limit(1)
        .scalar_subquery()
    )
    rows = connection.execute(
        select(
            chat_message, feedback.c.voice, feedback.c.truth, feedback.c.edited, feedback.c.created_at, question.label("asked")
        )
        .join(feedback, (feedback.c.user_id == chat_message.c.user_id) & (feedback.c.message_id == chat_message.c.message_id))
        .where(
            chat_message.c.user_id == user_id,
            chat_message.c.sender == "twin",
            chat_message.c.asker.is_(None),
            question.is_not(None),
        )
        .order_by(chat_message.c.position)
    )
    return [
        RatedReply(
            message_id=row.message_id,
            session_id=row.session_id,
            question=row.asked,
            reply=row.content,
            citations=tuple(Citation(**citation) for citation in row.citations),
            voice=row.voice,
            truth=row.truth,
            edited=row.edited,
            created_at=row.created_at,
        )
        for row in rows
    ]
