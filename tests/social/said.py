"""Messages that were never sent, and a twin that hears of them.

Belongs here: what several tests of Telegram and X say.
Does not belong here: the forms of either network (`telegram_stand_in.py`, `x_stand_in.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpm_kernel.layout import raw_key
from lpm_kernel.records import sha256_hex
from lpm_kernel.social.documents import MadeCounts, make_documents
from lpm_kernel.social.records import Chat, Counts, SocialMessage
from lpm_kernel.social.store import link_account, store_page
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.documents import list_documents
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.social_accounts import add_account
from lpm_kernel.stores.social_documents import mark_changed
from lpm_kernel.stores.social_messages import put_messages
from lpm_kernel.stores.users import find_user

if TYPE_CHECKING:
    from sqlalchemy import Connection

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
CHAT = Chat("telegram", "-1001234567", "Canteen", public=False)


def said(message_id: int, text: str, account_id: str, **changes: Any) -> SocialMessage:
    """One a minute from noon of 2026-03-04."""
    chat = changes.pop("chat", CHAT)
    sent_at = changes.pop("sent_at", NOON + timedelta(minutes=message_id))
    return SocialMessage(chat.network, chat.chat_id, message_id, account_id, sent_at, text, **changes)


def say_something(connection: Connection, user_id: str, text: str) -> None:
    """One row of the user in every table of Telegram and X, in a transaction of theirs."""
    account_id = account_of(user_id, "telegram")
    add_account(connection, user_id, "telegram", account_id, NOON)
    put_messages(connection, user_id, [said(1, text, account_id)], NOON)
    mark_changed(connection, user_id, CHAT, {"2026-03-04": NOON})


def account_of(user_id: str, network: str) -> str:
    """Numbers come from the user's id, so that tests never meet."""
    return str(int(sha256_hex(f"{network}:{user_id}".encode())[:12], 16))


class Speaker:
    """A user and their account."""

    def __init__(self, stores: Stores, user_id: str, network: str = "telegram") -> None:
        self.stores, self.user_id = stores, user_id
        self.account_id = account_of(user_id, network)
        self.adapters = Path("/nonexistent")
        assert link_account(stores.tables, user_id, network, self.account_id, NOON)

    def says(self, *messages: SocialMessage, chat: Chat = CHAT, **options: Any) -> Counts:
        return store_page(self.stores.tables, chat, messages, {self.account_id: self.user_id}, NOON, **options)[0]

    def words(self, words: Iterable[tuple[int, str]], **changes: Any) -> list[SocialMessage]:
        return [said(message_id, text, self.account_id, **changes) for message_id, text in words]

    def make(self, rested_since: datetime = datetime(9999, 1, 1, tzinfo=UTC)) -> MadeCounts:
        return make_documents(self.stores, self.user_id, self.adapters, rested_since)

    def documents(self) -> dict[str, str]:
        """The words of the documents that count, by name."""
        with self.stores.tables.transaction(self.user_id) as connection:
            if find_user(connection, self.user_id) is None:
                return {}
            rows = [row for row in list_documents(connection, self.user_id) if row.status in ("received", "read")]
        newest = {row.filename: row for row in sorted(rows, key=lambda row: row.created_at)}
        own = TenantBlobs(self.stores.blobs, self.user_id)
        return {name: own.get(raw_key(self.user_id, row.sha256)).decode() for name, row in newest.items()}
