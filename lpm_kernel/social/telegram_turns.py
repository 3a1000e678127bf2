"""Whose turn it is: which group on Telegram is looked at first, and whether any may be.

Belongs here: decisions by the cursors, and those cursors by the keys of their groups.
Does not belong here: a look (`telegram.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from lpm_kernel.records import sha256_hex
from lpm_kernel.social.telegram_names import key_of, without_invitations
from lpm_kernel.stores.social_cursors import Cursor, list_cursors, rename_cursor

if TYPE_CHECKING:
    from sqlalchemy import Connection

FLOOD = "telegram_flood"


def pause_of(held: Iterable[Cursor], now: datetime) -> Cursor | None:
    """The one of these cursors that says longest that nothing may be asked. The pause is the account's, so that one group's
    holds for all, also when that group is named no more."""
    pauses = [(cursor.not_before, cursor) for cursor in held if cursor.code == FLOOD and cursor.not_before is not None]
    until, longest = max(pauses, key=lambda pause: pause[0], default=(now, None))
    return longest if until > now else None


def longest_ago_first(keys: Iterable[str], cursors: Mapping[str, Cursor]) -> list[str]:
    """Those that were never looked at before all others; else in the order given.

    Why: a pause ends a poll, and where one comes each time those at the end would never be read. One that met it was looked at.
    """

    def looked_at(key: str) -> float:
        at = cursors[key].changed_at if key in cursors else None
        return at.timestamp() if at is not None else 0.0

    return sorted(keys, key=looked_at)


def cursors_by_key(connection: Connection) -> dict[str, Cursor]:
    """Cursors by key. Those that were written under an invitation, as once they were, are under its key from then on."""
    cursors = {cursor.chat: cursor for cursor in list_cursors(connection, "telegram")}
    for cursor in list(cursors.values()):
        key = key_of(cursor.chat)
        if key == cursor.chat:
            continue
        if key in cursors:  # another way to write the same invitation; that one is read on
            key = f"invitation-{sha256_hex(cursor.chat.encode())[:12]}"
        reason = cursor.reason and without_invitations(cursor.reason)
        rename_cursor(connection, cursor, key, reason)
        cursors[key] = replace(cursors.pop(cursor.chat), chat=key, reason=reason)
    return cursors
