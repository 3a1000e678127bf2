"""A page of messages into the tables, and how far its chat was read, in one transaction.

Belongs here: which messages are stored, for whom, and which documents change by them.
Does not belong here: reading pages, and making the documents (`documents.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import UserInputError
from lpm_kernel.social.records import Chat, Counts, Network, SocialMessage
from lpm_kernel.stores.deletions import check_not_going
from lpm_kernel.stores.social_accounts import (
    act_as,
    add_account,
    check_account,
    list_accounts,
    lock_accounts,
    owners_among,
    remove_account,
)
from lpm_kernel.stores.social_cursors import Cursor, drop_account_cursors, move_cursor, rewind_cursors
from lpm_kernel.stores.social_documents import mark_changed
from lpm_kernel.stores.social_messages import (
    account_messages,
    has_spoken,
    mark_messages_deleted,
    move_to_part,
    put_messages,
    raise_version,
    said_elsewhere,
    stored_messages,
    threads_of,
)
from lpm_kernel.stores.tables import Tables

if TYPE_CHECKING:
    from sqlalchemy import Connection


def owners_of(tables: Tables, network: Network) -> dict[str, str]:
    """Whose account is whose, as it stands now."""
    with tables.operator_transaction() as connection:
        return {account.account_id: account.user_id for account in list_accounts(connection, network)}


def store_page(
    tables: Tables,
    chat: Chat,
    messages: Sequence[SocialMessage],
    owners: Mapping[str, str] | None,
    at: datetime,
    *,
    cursor: Cursor | None = None,
    position: dict[str, Any] | None = None,
    counted_to: int = 0,
    deleted: Mapping[str, Collection[int]] | None = None,
) -> tuple[Counts, Cursor | None]:
    """Store what users said, in any order and however often it is told, and move the cursor in the same transaction.

    `owners`: user by account, whose words are wanted; None: everybody's who is known. Whose an account is is read in the
    transaction, so that one that becomes known or unknown meanwhile is neither passed over for good nor stored once more; what
    anybody else says is counted by account, after the message `counted_to`, and not stored. `cursor`: where the reader began,
    which is to move to `position`; None where a file is read. `deleted`: ids of messages that are gone, by user. With either of
    them messages are as their network has them now, so that what is another in the same second is an edit.
    Idempotent. Raises: StoreError, `cursor_moved` where another run has read on; nothing is stored then. UserInputError
    `account_unknown` where the cursor is that of an account that is no longer its user's.
    """
    gone = {user_id: ids for user_id, ids in (deleted or {}).items() if ids}
    by_user: dict[str, list[SocialMessage]] = {}
    counts = Counts()
    with tables.operator_transaction() as connection:
        lock_accounts(connection, chat.network)
        known = owners_among(connection, chat.network, {*(owners or ()), *(message.account_id for message in messages)})
        for message in messages:
            user_id = known.get(message.account_id)
            if user_id is not None and (owners is None or owners.get(message.account_id) == user_id):
                by_user.setdefault(user_id, []).append(message)
            elif message.message_id > counted_to:
                counts.of_others[message.account_id] += 1
        if cursor is not None and owners and (lost := [name for name in owners if known.get(name) != owners[name]]):
            raise UserInputError("account_unknown", f"{chat.network} accounts that were removed meanwhile: {', '.join(lost)}")
        moved = move_cursor(connection, cursor, position or {}, at) if cursor is not None else None
        for user_id in sorted({*by_user, *gone}):  # in one order: two pages of the same people never wait for each other
            act_as(connection, user_id)
            if _is_going(connection, user_id):
                counts.of_others.update(message.account_id for message in by_user.get(user_id, ()))
                continue
            own, of_now = by_user.get(user_id, []), cursor is not None or deleted is not None
            counts.add(_store_of_user(connection, user_id, chat, own, gone.get(user_id, ()), at, of_now))
    return counts, moved


def link_account(tables: Tables, user_id: str, network: str, account_id: str, at: datetime) -> bool:
    """Make an account known as a user's, and have its groups or its posts read anew for what it said before; whether it is new.

    Raises: what `add_account` raises.
    """
    known, account_id = check_account(network, account_id)
    with tables.transaction(user_id) as connection:
        lock_accounts(connection, known, to_change=True)
        new = add_account(connection, user_id, network, account_id, at)
        if new and network == "x":
            rewind_cursors(connection, "x", at, account_id)
        elif new:
            rewind_cursors(connection, "telegram", at)
    return new


def unlink_account(tables: Tables, user_id: str, network: str, account_id: str, at: datetime, *, withdraw: bool) -> int:
    """Take nothing more from an account. `withdraw`: and all it ever said goes, as if deleted there; how many messages.

    What is withdrawn is due to be made anew (`documents.py`). A withdrawal that broke off is asked for again, and so is one of
    an account that was removed before: what it said is stored still. Raises: what `remove_account` raises.
    """
    known, account_id = check_account(network, account_id)
    with tables.transaction(user_id) as connection:
        lock_accounts(connection, known, to_change=True)
        if known == "x":
            drop_account_cursors(connection, user_id, account_id)
        try:
            remove_account(connection, user_id, known, account_id)
        except UserInputError:
            if not withdraw or not has_spoken(connection, user_id, known, account_id):
                raise
        if not withdraw:
            return 0
        found = account_messages(connection, user_id, known, account_id)
        for chat_id, ids in found.items():
            parts = set(mark_messages_deleted(connection, user_id, known, chat_id, ids, at))
            mark_changed(connection, user_id, Chat(known, chat_id, "", False), dict.fromkeys(parts, at), withdraw=parts)
    return sum(map(len, found.values()))


def _is_going(connection: Connection, user_id: str) -> bool:
    """Whether this user is being deleted: nothing of theirs is stored any more, and nobody else waits for it."""
    try:
        check_not_going(connection, user_id)
    except UserInputError:
        return True
    return False


def _store_of_user(
    connection: Connection,
    user_id: str,
    chat: Chat,
    messages: Sequence[SocialMessage],
    deleted: Collection[int],
    at: datetime,
    of_now: bool,
) -> Counts:
    counts = Counts()
    newest: dict[str, datetime] = {}
    told = _newest_versions(messages)
    counts.known += len(messages) - len(told)
    stored = stored_messages(connection, user_id, chat.network, chat.chat_id, [message.message_id for message in told])
    hashes = [message.content_sha256 for message in told if message.text and message.message_id not in stored]
    elsewhere = said_elsewhere(connection, user_id, chat.network, chat.chat_id, hashes) if hashes else set()
    written: list[SocialMessage] = []
    for message in told:
        before = stored.get(message.message_id)
        if before is None and message.text and message.content_sha256 in elsewhere:
            counts.repeated += 1
        elif before is None:
            counts.new += 1
            counts.media += message.media is not None
            written.append(message)
        elif before.deleted or message.version < before.version:
            counts.known += 1
        elif message.content_sha256 == before.content_sha256:
            counts.known += 1
            if message.version > before.version:
                raise_version(connection, user_id, chat.network, chat.chat_id, message.message_id, message.version)
        elif message.version == before.version and not of_now:  # of a file, which may be older than what is stored
            counts.known += 1
        else:
            counts.edited += 1
            kept = message if before.part == message.part else _in_part(message, before.part)
            written.append(kept)
            newest[before.part] = max(newest.get(before.part, message.sent_at), message.sent_at)
    written = _with_threads(connection, user_id, chat, written)
    put_messages(connection, user_id, written, at)
    for message in written:
        if message.text or message.part in newest:
            newest[message.part] = max(newest.get(message.part, message.sent_at), message.sent_at)
    for part in _gather_threads(connection, user_id, chat, written):
        newest.setdefault(part, at)
    parts = mark_messages_deleted(connection, user_id, chat.network, chat.chat_id, deleted, at) if deleted else []
    counts.deleted += len(parts)
    for part in parts:
        newest.setdefault(part, at)
    mark_changed(connection, user_id, chat, newest, withdraw=set(parts))
    return counts


def _newest_versions(messages: Iterable[SocialMessage]) -> list[SocialMessage]:
    """Each message once, as it was told last, in the order of their ids."""
    newest: dict[int, SocialMessage] = {}
    for message in messages:
        known = newest.get(message.message_id)
        if known is None or message.version > known.version:
            newest[message.message_id] = message
    return [newest[message_id] for message_id in sorted(newest)]


def _in_part(message: SocialMessage, part: str) -> SocialMessage:
    """An edited post stays in the thread that it was found to begin."""
    return replace(message, thread_id=int(part.removeprefix("thread-"))) if part.startswith("thread-") else message


def _with_threads(connection: Connection, user_id: str, chat: Chat, written: Sequence[SocialMessage]) -> list[SocialMessage]:
    """Posts that a stored one goes on belong to its thread."""
    alone = [message.message_id for message in written if chat.network == "x" and message.thread_id is None]
    begun = threads_of(connection, user_id, chat.network, chat.chat_id, alone) if alone else set()
    return [replace(message, thread_id=message.message_id) if message.message_id in begun else message for message in written]


def _gather_threads(connection: Connection, user_id: str, chat: Chat, written: Iterable[SocialMessage]) -> set[str]:
    """The first post of a thread is one of its day until another goes on it: it moves then. The days that are left."""
    left: set[str] = set()
    for thread in {message.thread_id for message in written if message.thread_id is not None}:
        left |= move_to_part(connection, user_id, chat.network, chat.chat_id, [thread], f"thread-{thread}")
    return left


def now() -> datetime:
    return datetime.now(UTC)
