"""Groups on Telegram: one look at each, as far as Telegram lets it.

Belongs here: what a look reads, how its cursor moves, and what becomes of a group that cannot be read.
Does not belong here: asking Telegram (`telegram_client.py`), and when to look (`twin_assets/social_sensors.py`).

A look begins a hundred messages before the cursor: what Telegram told out of order or left out of a page comes with the next.
Then what users said in the last days is asked for by its numbers: what is another is an edit, what is not there was deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from lpm_kernel.errors import IngestionError, SettingsError
from lpm_kernel.settings import SocialSettings
from lpm_kernel.social.records import Chat, Counts, SocialMessage
from lpm_kernel.social.store import owners_of, store_page
from lpm_kernel.social.telegram_client import PAGE, TelegramReader
from lpm_kernel.social.telegram_wire import message_of
from lpm_kernel.stores.social_cursors import Cursor, hold_cursor, list_cursors, read_cursor
from lpm_kernel.stores.social_messages import recent_ids
from lpm_kernel.stores.tables import Tables

FLOOD = "telegram_flood"
OVERLAP = 100
"""Messages before the cursor that are read again."""
NO_ACCESS_REST = timedelta(hours=1)
"""After which a group that may not be read is tried again: somebody may have let the account in."""


@dataclass(slots=True)
class ChatPoll:
    """One look at one group. `code` and `reason` where it failed, or had to end before all was read."""

    chat: str
    title: str = ""
    pages: int = 0
    counts: Counts = field(default_factory=Counts)
    code: str | None = None
    reason: str | None = None
    not_before: datetime | None = None
    left: bool = False
    """Whether there is more than one look may read."""


def look_at_groups(
    tables: Tables, open_reader: Callable[[], TelegramReader], social: SocialSettings, chats: Sequence[str], now: datetime
) -> list[ChatPoll]:
    """`poll_telegram` by a reader that is opened for it. Where Telegram lets nobody in, every group rests for an hour. During a
    pause that it asked for nothing is asked, whoever wants to know.

    Raises: StoreError; SettingsError; IngestionError `telegram_unreachable` (retryable).
    """
    with tables.operator_transaction() as connection:
        pause = pause_of(list_cursors(connection, "telegram"), now)
    if pause is not None:
        return [ChatPoll(name, code=FLOOD, reason=pause.reason, not_before=pause.not_before) for name in chats]
    try:
        reader = open_reader()
        try:
            return poll_telegram(tables, reader, social, chats, now)
        finally:
            reader.close()
    except (SettingsError, IngestionError) as error:
        if isinstance(error, IngestionError) and error.code != FLOOD:
            raise
        until = now + (timedelta(seconds=error.retry_after_s) if error.retry_after_s else NO_ACCESS_REST)
        for name in chats:
            with tables.operator_transaction() as connection:
                cursor = read_cursor(connection, "telegram", name)
                hold_cursor(connection, cursor, until, error.code, error.message, now)
        if isinstance(error, SettingsError):
            raise
        return [ChatPoll(name, code=error.code, reason=error.message, not_before=until) for name in chats]


def pause_of(held: Iterable[Cursor], now: datetime) -> Cursor | None:
    """The one of these cursors that says longest that nothing may be asked. The pause is the account's, so that one group's
    holds for all, also when that group is named no more."""
    pauses = [(cursor.not_before, cursor) for cursor in held if cursor.code == FLOOD and cursor.not_before is not None]
    until, longest = max(pauses, key=lambda pause: pause[0], default=(now, None))
    return longest if until > now else None


def poll_telegram(
    tables: Tables, reader: TelegramReader, social: SocialSettings, chats: Collection[str], now: datetime
) -> list[ChatPoll]:
    """Look at each of these groups; one that fails keeps no other from being read, but a pause holds for all.

    Idempotent: what is stored and the cursor move together, page by page. Raises: StoreError; SettingsError when the account is
    signed in no more.
    """
    owners = owners_of(tables, "telegram")
    looks = list[ChatPoll]()
    for name in chats:
        look = ChatPoll(name)
        looks.append(look)
        with tables.operator_transaction() as connection:
            cursor = read_cursor(connection, "telegram", name)
        try:
            _look(tables, reader, social, cursor, owners, now, look)
        except IngestionError as error:
            look.code, look.reason = error.code, error.message
            look.not_before = _rest(error, now)
            with tables.operator_transaction() as connection:
                hold_cursor(connection, cursor, look.not_before, error.code, error.message, now)
            if error.code == FLOOD:
                break
    return looks


def _look(
    tables: Tables,
    reader: TelegramReader,
    social: SocialSettings,
    cursor: Cursor,
    owners: Mapping[str, str],
    now: datetime,
    look: ChatPoll,
) -> None:
    chat = reader.open_chat(cursor.chat)
    look.title = chat.title
    position: int | None = cursor.position.get("message_id")
    before, after = position or 0, None if position is None else max(0, position - OVERLAP)
    seen: set[int] = set()
    for page in reader.pages(chat, after_id=after, since=now - timedelta(days=social.first_days)):
        look.pages += 1
        found = _own_words(page, chat, owners, before, look.counts)
        position = max(position or 0, *(wire.id for wire in page))
        moved = {"message_id": position}
        counts, after_page = store_page(tables, chat, found, owners, now, cursor=cursor, position=moved)
        cursor = after_page or cursor
        look.counts.add(counts)
        seen.update(wire.id for wire in page)
        if len(seen) >= social.messages_a_poll:
            look.left = True
            break
    if cursor.code is not None:  # nothing new was said, and it can be read again
        _, _ = store_page(tables, chat, [], owners, now, cursor=cursor, position=cursor.position)
    _look_again(tables, reader, chat, owners, now, now - timedelta(days=social.recheck_days), seen, look)


def _own_words(page: Sequence[Any], chat: Chat, owners: Mapping[str, str], before: int, counts: Counts) -> list[SocialMessage]:
    """What is not stored is counted by the look that meets it first; this one may read it again."""
    found: list[SocialMessage] = []
    for wire in page:
        met_now = wire.id > before
        message = message_of(wire, chat, counts if met_now else Counts())
        if message is not None and (met_now or message.account_id in owners):
            found.append(message)
    return found


def _look_again(
    tables: Tables,
    reader: TelegramReader,
    chat: Chat,
    owners: Mapping[str, str],
    now: datetime,
    since: datetime,
    seen: Collection[int],
    look: ChatPoll,
) -> None:
    """What was said lately, as it is now. A message that this very look has read is not asked for once more."""
    said_by: dict[int, str] = {}
    for user_id in sorted(set(owners.values())):
        with tables.transaction(user_id) as connection:
            ids = recent_ids(connection, user_id, "telegram", chat.chat_id, since)
        said_by.update((message_id, user_id) for message_id in ids if message_id not in seen)
    waiting = sorted(said_by)
    for first in range(0, len(waiting), PAGE):
        there = reader.by_ids(chat, waiting[first : first + PAGE])
        skipped = Counts()  # they were counted when they came
        found = [m for wire in there.values() if wire is not None and (m := message_of(wire, chat, skipped)) is not None]
        gone: dict[str, list[int]] = {}
        for message_id, wire in there.items():
            if wire is None:
                gone.setdefault(said_by[message_id], []).append(message_id)
        counts, _ = store_page(tables, chat, found, owners, now, deleted=gone)
        look.counts.add(counts)


def _rest(error: IngestionError, now: datetime) -> datetime | None:
    if error.retry_after_s is not None:
        return now + timedelta(seconds=error.retry_after_s)
    return None if error.retryable else now + NO_ACCESS_REST
