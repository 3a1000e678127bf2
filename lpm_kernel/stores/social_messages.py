"""Rows of `social_message`: what a user said on Telegram and X, message by message.

Belongs here: queries on that table, in a transaction of the user's own.
Does not belong here: which messages are stored (`social/store.py`) and what documents become of them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lpm_kernel.social.records import Network, SocialMessage
from lpm_kernel.stores.schema import WRITTEN_NOW
from lpm_kernel.stores.social_schema import social_message

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection


REWRITTEN = ("version", "text", "content_sha256", "media", "part", "stored_at", "transaction_id")
"""Of a message that was edited."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """What is known of a message. Of a deleted one its id and that it was there."""

    message_id: int
    version: int
    part: str
    content_sha256: str | None
    deleted: bool


@dataclass(frozen=True, slots=True)
class SaidWords:
    message_id: int
    sent_at: datetime
    text: str


def stored_messages(
    connection: Connection, user_id: str, network: Network, chat_id: str, message_ids: Collection[int]
) -> dict[int, StoredMessage]:
    from sqlalchemy import select

    table = social_message.c
    query = select(table.message_id, table.version, table.part, table.content_sha256, table.deleted_at)
    rows = connection.execute(query.where(*_of_chat(user_id, network, chat_id), table.message_id.in_(sorted(message_ids))))
    return {
        row.message_id: StoredMessage(row.message_id, row.version, row.part, row.content_sha256, row.deleted_at is not None)
        for row in rows
    }


def said_elsewhere(connection: Connection, user_id: str, network: Network, chat_id: str, hashes: Collection[str]) -> set[str]:
    """Those of the contents that are stored of another chat of this network."""
    from sqlalchemy import select

    table = social_message.c
    query = select(table.content_sha256).where(
        table.user_id == user_id,
        table.network == network,
        table.chat_id != chat_id,
        table.content_sha256.in_(sorted(hashes)),
    )
    return set(connection.execute(query).scalars())


def put_messages(connection: Connection, user_id: str, messages: Sequence[SocialMessage], at: datetime) -> None:
    """Insert them, or overwrite what is stored under their ids."""
    from sqlalchemy.dialects.postgresql import insert

    if not messages:
        return
    rows = [
        {
            "user_id": user_id,
            "network": message.network,
            "chat_id": message.chat_id,
            "message_id": message.message_id,
            "version": message.version,
            "account_id": message.account_id,
            "sent_at": message.sent_at,
            "part": message.part,
            "text": message.text,
            "content_sha256": message.content_sha256,
            "media": message.media,
            "stored_at": at,
        }
        for message in messages
    ]
    row = insert(social_message)
    kept = {name: row.excluded[name] for name in REWRITTEN}
    connection.execute(
        row.on_conflict_do_update(index_elements=["user_id", "network", "chat_id", "message_id"], set_=kept), rows
    )


def raise_version(connection: Connection, user_id: str, network: Network, chat_id: str, message_id: int, version: int) -> None:
    """Of a message that was told anew without another word, as when somebody reacts to it."""
    from sqlalchemy import update

    one = (*_of_chat(user_id, network, chat_id), social_message.c.message_id == message_id)
    connection.execute(update(social_message).where(*one).values(version=version, **WRITTEN_NOW))


def move_to_part(
    connection: Connection, user_id: str, network: Network, chat_id: str, message_ids: Collection[int], part: str
) -> set[str]:
    """Have messages belong to another document; the parts that they came from. They stand in no document then, so that what is
    withdrawn of the one before takes none of them along."""
    from sqlalchemy import select, update

    table = social_message.c
    these = (*_of_chat(user_id, network, chat_id), table.message_id.in_(sorted(message_ids)), table.part != part)
    left = set(connection.execute(select(table.part).where(*these)).scalars())
    if left:
        connection.execute(update(social_message).where(*these).values(part=part, document_sha256=None))
    return left


def threads_of(connection: Connection, user_id: str, network: Network, chat_id: str, message_ids: Collection[int]) -> set[int]:
    """Those of the messages that a stored one goes on."""
    from sqlalchemy import select

    table = social_message.c
    wanted = [f"thread-{message_id}" for message_id in message_ids]
    parts = connection.execute(select(table.part).where(*_of_chat(user_id, network, chat_id), table.part.in_(wanted)))
    return {int(part.removeprefix("thread-")) for part in parts.scalars()}


def words_of_part(connection: Connection, user_id: str, network: Network, chat_id: str, part: str) -> list[SaidWords]:
    """In the order in which they were said; only messages with words."""
    from sqlalchemy import select

    table = social_message.c
    rows = connection.execute(
        select(table.message_id, table.sent_at, table.text)
        .where(*_of_chat(user_id, network, chat_id), table.part == part, table.text != "")
        .order_by(table.sent_at, table.message_id)
    )
    return [SaidWords(row.message_id, row.sent_at, row.text) for row in rows]


def mark_made(
    connection: Connection, user_id: str, network: Network, chat_id: str, message_ids: Collection[int], sha256: str
) -> None:
    """Note in which document these words now stand."""
    from sqlalchemy import update

    these = (*_of_chat(user_id, network, chat_id), social_message.c.message_id.in_(sorted(message_ids)))
    connection.execute(update(social_message).where(*these).values(document_sha256=sha256))


def recent_ids(connection: Connection, user_id: str, network: Network, chat_id: str, since: datetime) -> list[int]:
    """Of what is stored and was sent since then, the oldest first."""
    from sqlalchemy import select

    table = social_message.c
    there = (*_of_chat(user_id, network, chat_id), table.sent_at >= since, table.deleted_at.is_(None))
    return list(connection.execute(select(table.message_id).where(*there).order_by(table.message_id)).scalars())


def mark_messages_deleted(
    connection: Connection, user_id: str, network: Network, chat_id: str, message_ids: Collection[int], at: datetime
) -> list[str]:
    """Leave nothing of these messages but that they were there; the part of each that was not deleted yet.

    Why they are not forgotten altogether: an older export that is read once more would bring them back.
    """
    return _delete(connection, (*_of_chat(user_id, network, chat_id), social_message.c.message_id.in_(sorted(message_ids))), at)


def forget_words_of(connection: Connection, user_id: str, sha256s: Collection[str], at: datetime) -> int:
    """As if the messages in these documents had been deleted where they were sent: whoever deletes such a document in person
    would else find its words in the next one of that day. How many there were."""
    words = (social_message.c.user_id == user_id, social_message.c.document_sha256.in_(sorted(sha256s)))
    return len(_delete(connection, words, at))


def account_messages(connection: Connection, user_id: str, network: Network, account_id: str) -> dict[str, list[int]]:
    """Ids of what an account said and is not deleted, by chat."""
    from sqlalchemy import select

    table = social_message.c
    query = select(table.chat_id, table.message_id).where(
        table.user_id == user_id, table.network == network, table.account_id == account_id, table.deleted_at.is_(None)
    )
    found: dict[str, list[int]] = {}
    for row in connection.execute(query.order_by(table.chat_id, table.message_id)):
        found.setdefault(row.chat_id, []).append(row.message_id)
    return found


def has_spoken(connection: Connection, user_id: str, network: Network, account_id: str) -> bool:
    """Whether anything an account said is stored, be it that it was there."""
    from sqlalchemy import select

    table = social_message.c
    of_account = (table.user_id == user_id, table.network == network, table.account_id == account_id)
    return connection.execute(select(table.message_id).where(*of_account).limit(1)).first() is not None


def count_messages(connection: Connection, user_id: str) -> dict[tuple[str, str], int]:
    """What is stored of a user and not deleted, by network and account."""
    from sqlalchemy import func, select

    table = social_message.c
    query = select(table.network, table.account_id, func.count().label("messages")).where(
        table.user_id == user_id, table.deleted_at.is_(None)
    )
    rows = connection.execute(query.group_by(table.network, table.account_id))
    return {(row.network, row.account_id): row.messages for row in rows}


def _delete(connection: Connection, which: tuple[ColumnElement[bool], ...], at: datetime) -> list[str]:
    from sqlalchemy import update

    gone: dict[str, Any] = {"text": None, "content_sha256": None, "media": None, "document_sha256": None, "deleted_at": at}
    rows = connection.execute(
        update(social_message)
        .where(*which, social_message.c.deleted_at.is_(None))
        .values(gone | WRITTEN_NOW)
        .returning(social_message.c.part)
    )
    return list(rows.scalars())


def _of_chat(user_id: str, network: Network, chat_id: str) -> tuple[ColumnElement[bool], ...]:
    table = social_message.c
    return (table.user_id == user_id, table.network == network, table.chat_id == chat_id)
