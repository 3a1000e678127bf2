"""Exported files taken in: what a user said in them, stored and made documents at once.

Belongs here: both imports, and what each says when it is done.
Does not belong here: the forms of the files (`telegram_export.py`, `x_archive.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lpm_kernel.errors import UserInputError
from lpm_kernel.social.documents import MadeCounts, make_documents
from lpm_kernel.social.records import Chat, Counts, Network, SocialMessage
from lpm_kernel.social.store import link_account, store_page
from lpm_kernel.social.telegram_export import TelegramExport
from lpm_kernel.social.x_archive import open_x_archive
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.social_accounts import list_accounts
from lpm_kernel.stores.users import get_user

BATCH = 1000
"""Messages of one transaction."""
EVERYTHING = datetime(9999, 1, 1, tzinfo=UTC)
"""A file is of the past: nothing in it waits for a day to end."""
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class FileImport:
    chats: int
    counts: Counts
    made: MadeCounts


def import_telegram(stores: Stores, user_id: str, path: Path, adapters: Path, at: datetime) -> FileImport:
    """Take what a user's own accounts said from a `result.json`; what others said in it is counted and not stored.

    Idempotent: what is known is not stored again, and what was deleted does not come back. What was stored before a file turns
    out damaged stays. Raises: UserInputError `twin_not_found`, `no_account`, `file_unreadable`; IngestionError of
    `TelegramExport`; StoreError.
    """
    owners = own_accounts(stores, user_id, "telegram")
    if not owners:
        raise UserInputError(
            "no_account", f"user {user_id} has no account on Telegram: name it by `twin accounts add {user_id} telegram NUMBER`"
        )
    try:
        with path.open("rb") as file:
            export = TelegramExport(file, stores.settings.social.import_mb * MB)
            counts = _store(stores, export.messages(), owners, at)
            counts.add(export.counts)
    except OSError as error:
        raise UserInputError("file_unreadable", f"{path} cannot be read: {error.strerror}") from error
    return FileImport(export.chats, counts, make_documents(stores, user_id, adapters, EVERYTHING))


def import_x_archive(
    stores: Stores, user_id: str, path: Path, adapters: Path, at: datetime, *, public: bool = False
) -> FileImport:
    """Take a user's own posts from an archive of X: the zip file, its folder, or its `tweets.js`.

    An archive says whose account it is, and that account is the user's from then on; a bare `tweets.js` does not, and is taken
    for that of the one account on X that the user has. It does not say whether that is protected, so its documents are for the
    person alone unless `public`. Idempotent, as above. Raises: UserInputError `twin_not_found`,
    `no_account`, `account_taken`, `file_unreadable`; IngestionError of `open_x_archive`; StoreError.
    """
    known = sorted(own_accounts(stores, user_id, "x"))
    with open_x_archive(path, stores.settings.social.import_mb * MB, public=public) as archive:
        account_id = archive.account_id or (known[0] if len(known) == 1 else None)
        if account_id is None:
            raise UserInputError(
                "no_account", f"the file does not tell its account: name it by `twin accounts add {user_id} x NUMBER`"
            )
        link_account(stores.tables, user_id, "x", account_id, at)
        counts = _store(stores, archive.messages(account_id), {account_id: user_id}, at)
        counts.add(archive.counts)
    return FileImport(1, counts, make_documents(stores, user_id, adapters, EVERYTHING))


def own_accounts(stores: Stores, user_id: str, network: Network) -> dict[str, str]:
    """Raises: UserInputError `twin_not_found`, `deletion_under_way`."""
    with stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)
        return {account.account_id: user_id for account in list_accounts(connection, network)}


def _store(stores: Stores, messages: Iterable[tuple[Chat, SocialMessage]], owners: dict[str, str], at: datetime) -> Counts:
    counts = Counts()
    for chat, batch in _batches(messages):
        counts.add(store_page(stores.tables, chat, batch, owners, at)[0])
    return counts


def _batches(messages: Iterable[tuple[Chat, SocialMessage]]) -> Iterator[tuple[Chat, list[SocialMessage]]]:
    """Messages of one chat, BATCH at a time."""
    waiting, of_chat = list[SocialMessage](), None
    for chat, message in messages:
        if of_chat is not None and (chat.chat_id != of_chat.chat_id or len(waiting) >= BATCH):
            yield of_chat, waiting
            waiting = []
        of_chat = chat
        waiting.append(message)
    if of_chat is not None:
        yield of_chat, waiting
