"""Rows of `social_cursor`: how far each chat was read, and when it may be asked again.

Belongs here: queries on that table. It belongs to no user, since a group does not.
Does not belong here: what a position means; that is its reader's (`social/telegram.py`, `social/x.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import StoreError
from lpm_kernel.social.records import Network
from lpm_kernel.stores.social_schema import social_account, social_cursor

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Cursor:
    """`chat`: the key of a group (`social/telegram_names.py`), or the account on X. A position that is empty, or holds a place
    alone: nothing was read yet."""

    network: Network
    chat: str
    position: dict[str, Any] = field(default_factory=dict)
    not_before: datetime | None = None
    code: str | None = None
    """Of the last try, where it failed."""
    reason: str | None = None
    changed_at: datetime | None = field(default=None, compare=False)
    """When it was last moved, held or rewound; None: never."""


PLACE = "peer"
"""Of a position: by what the chat is asked for. It stays when a chat is read anew."""


def read_cursor(connection: Connection, network: Network, chat: str) -> Cursor:
    from sqlalchemy import select

    row = connection.execute(
        select(social_cursor).where(social_cursor.c.network == network, social_cursor.c.chat == chat)
    ).one_or_none()
    return _cursor(row) if row else Cursor(network, chat)


def move_cursor(connection: Connection, before: Cursor, position: dict[str, Any], at: datetime) -> Cursor:
    """In the transaction that stores what lies between, and nowhere else. What kept it from being read is over.

    Raises: StoreError `cursor_moved` (retryable): somebody else has read on from there, and what is stored in this transaction
    is rolled back.
    """
    from sqlalchemy import text

    lock = text("select pg_advisory_xact_lock(hashtext('social:' || :network || ':' || :chat))")
    connection.execute(lock, {"network": before.network, "chat": before.chat})
    if read_cursor(connection, before.network, before.chat).position != before.position:
        raise StoreError("cursor_moved", f"{before.network} {before.chat} was read on by another run: it goes on from there")
    _put(connection, before, {"position": position, "not_before": None, "code": None, "reason": None, "changed_at": at})
    return Cursor(before.network, before.chat, position, changed_at=at)


def hold_cursor(
    connection: Connection, before: Cursor, not_before: datetime | None, code: str, reason: str, at: datetime
) -> None:
    """Note why a chat could not be read, and when it may be asked again; the position stays."""
    _put(connection, before, {"not_before": not_before, "code": code, "reason": reason, "changed_at": at})


def rewind_cursors(connection: Connection, network: Network, at: datetime, chat: str | None = None) -> None:
    """Have every chat of a network, or one, read again from the beginning of its window.

    Why: what an account said before it was known as somebody's was passed over. What is stored already is not stored twice.
    """
    from sqlalchemy import func, update

    these = [social_cursor.c.network == network, *([] if chat is None else [social_cursor.c.chat == chat])]
    place = func.jsonb_strip_nulls(func.jsonb_build_object(PLACE, social_cursor.c.position[PLACE]))
    connection.execute(update(social_cursor).where(*these).values(position=place, changed_at=at))


def rename_cursor(connection: Connection, before: Cursor, chat: str, reason: str | None) -> None:
    """In `Tables.operator_transaction`: call its chat by another name. Raises: StoreError where it is taken."""
    from sqlalchemy import update

    this = (social_cursor.c.network == before.network, social_cursor.c.chat == before.chat)
    connection.execute(update(social_cursor).where(*this).values(chat=chat, reason=reason))


def drop_account_cursors(connection: Connection, user_id: str, account_id: str | None = None) -> int:
    """In a transaction of the user's own, while the account is theirs: how far it was read on X, of one account or of all; how
    many there were. Of groups nothing goes: they are nobody's."""
    from sqlalchemy import delete, select

    mine = [social_account.c.network == "x", social_account.c.user_id == user_id]
    if account_id is not None:
        mine.append(social_account.c.account_id == account_id)
    these = (social_cursor.c.network == "x", social_cursor.c.chat.in_(select(social_account.c.account_id).where(*mine)))
    return connection.execute(delete(social_cursor).where(*these)).rowcount


def list_cursors(connection: Connection, network: Network) -> list[Cursor]:
    from sqlalchemy import select

    rows = connection.execute(select(social_cursor).where(social_cursor.c.network == network).order_by(social_cursor.c.chat))
    return [_cursor(row) for row in rows]


def _cursor(row: Any) -> Cursor:
    return Cursor(row.network, row.chat, row.position, row.not_before, row.code, row.reason, row.changed_at)


def _put(connection: Connection, cursor: Cursor, values: dict[str, Any]) -> None:
    from sqlalchemy.dialects.postgresql import insert

    row = insert(social_cursor).values(network=cursor.network, chat=cursor.chat, **values)
    connection.execute(row.on_conflict_do_update(index_elements=["network", "chat"], set_=values))
