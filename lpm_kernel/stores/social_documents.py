"""Rows of `social_document`: the days and threads of a user, and what was made of each.

Belongs here: queries on that table.
Does not belong here: making a document (`social/documents.py`).
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lpm_kernel.social.records import Chat, Network
from lpm_kernel.stores.social_schema import social_document

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection


@dataclass(frozen=True, slots=True)
class Part:
    """A day or a thread. `withdraw`: something in it was deleted, so what was made of it before must go. `change_id` names its
    newest change."""

    network: Network
    chat_id: str
    part: str
    title: str
    public: bool
    withdraw: bool
    change_id: str
    made_sha256s: tuple[str, ...]
    """Of every content that was made of it and is not withdrawn, the newest last; put here before it is made."""
    versions: int


def lock_social(connection: Connection, user_id: str) -> None:
    """Let one at a time make documents of what a user said; held until the transaction ends."""
    from sqlalchemy import text

    connection.execute(text("select pg_advisory_xact_lock(hashtext('social-documents:' || :user_id))"), {"user_id": user_id})


def mark_changed(
    connection: Connection, user_id: str, chat: Chat, newest: Mapping[str, datetime], *, withdraw: Collection[str] = ()
) -> None:
    """In the transaction that changed the messages. `newest`: when the last word of each changed part was said."""
    from sqlalchemy import func
    from sqlalchemy.dialects.postgresql import insert

    if not newest:
        return
    rows = [
        {
            "user_id": user_id,
            "network": chat.network,
            "chat_id": chat.chat_id,
            "part": part,
            "title": chat.title,
            "public": chat.public,
            "due": True,
            "withdraw": part in withdraw,
            "change_id": uuid.uuid4().hex,
            "newest_at": at,
        }
        for part, at in newest.items()
    ]
    row = insert(social_document)
    changed = {
        "due": True,
        "withdraw": social_document.c.withdraw | row.excluded.withdraw,
        "change_id": row.excluded.change_id,
        "transaction_id": row.excluded.transaction_id,
        "newest_at": func.greatest(social_document.c.newest_at, row.excluded.newest_at),
    }
    connection.execute(row.on_conflict_do_update(index_elements=["user_id", "network", "chat_id", "part"], set_=changed), rows)


def users_with_due(connection: Connection, rested_since: datetime) -> list[str]:
    """Who has a part to be made; for `Tables.operator_transaction`."""
    from sqlalchemy import select

    query = select(social_document.c.user_id).where(*_due(rested_since)).distinct().order_by(social_document.c.user_id)
    return list(connection.execute(query).scalars())


def due_parts(connection: Connection, user_id: str, rested_since: datetime) -> list[Part]:
    from sqlalchemy import select

    table = social_document.c
    query = select(social_document).where(table.user_id == user_id, *_due(rested_since))
    rows = connection.execute(query.order_by(table.network, table.chat_id, table.part))
    return [
        Part(
            row.network,
            row.chat_id,
            row.part,
            row.title,
            row.public,
            row.withdraw,
            row.change_id,
            tuple(row.made_sha256s),
            row.versions,
        )
        for row in rows
    ]


def begin_version(connection: Connection, user_id: str, part: Part, sha256: str) -> int:
    """Note what is about to be made of a part; the number of this version.

    Why before: a content that was made by a run that died must be found again when a message in it is deleted.
    """
    from sqlalchemy import update

    made = [*(earlier for earlier in part.made_sha256s if earlier != sha256), sha256]
    statement = (
        update(social_document)
        .where(*_of_part(user_id, part))
        .values(made_sha256s=made, versions=social_document.c.versions + 1)
        .returning(social_document.c.versions)
    )
    return connection.execute(statement).scalar_one()


def end_version(connection: Connection, user_id: str, part: Part, made_sha256s: Sequence[str]) -> None:
    """The part is made, unless it has changed since."""
    from sqlalchemy import update

    this = social_document.c.change_id == part.change_id
    changes: dict[str, Any] = {"made_sha256s": list(made_sha256s)}
    connection.execute(update(social_document).where(*_of_part(user_id, part)).values(changes))
    connection.execute(update(social_document).where(*_of_part(user_id, part), this).values(due=False, withdraw=False))


def _due(rested_since: datetime) -> tuple[ColumnElement[bool], ...]:
    """A deletion does not wait."""
    return (social_document.c.due, social_document.c.withdraw | (social_document.c.newest_at <= rested_since))


def _of_part(user_id: str, part: Part) -> tuple[ColumnElement[bool], ...]:
    table = social_document.c
    return (
        table.user_id == user_id,
        table.network == part.network,
        table.chat_id == part.chat_id,
        table.part == part.part,
    )
