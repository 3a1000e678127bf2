"""Groups on Telegram: one look at each, as far as Telegram lets it.

Belongs here: what a look reads, how its cursor moves, and what becomes of a group that cannot be read.
Does not belong here: asking Telegram (`telegram_client.py`), whose turn it is (`telegram_turns.py`), and when to look
(`twin_assets/social_sensors.py`).

A look begins with what the last one took in (`telegram_reach.py`): what Telegram told out of order or left out of a page comes
with the next. Then what users said in the last days is asked for by its numbers: what is another is an edit, what is not there
was deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from lpm_kernel.errors import IngestionError, SettingsError, StoreError
from lpm_kernel.settings import SocialSettings
from lpm_kernel.social.records import Chat, Counts, SocialMessage
from lpm_kernel.social.store import owners_of, store_page
from lpm_kernel.social.telegram_client import PAGE, TelegramReader
from lpm_kernel.social.telegram_names import names_by_key
from lpm_kernel.social.telegram_peers import same_group
from lpm_kernel.social.telegram_reach import after_look, after_page, reach_of
from lpm_kernel.social.telegram_turns import FLOOD, cursors_by_key, longest_ago_first, pause_of
from lpm_kernel.social.telegram_wire import message_of
from lpm_kernel.stores.social_cursors import PLACE, Cursor, hold_cursor, read_cursor
from lpm_kernel.stores.social_messages import recent_ids
from lpm_kernel.stores.tables import Tables

NO_ACCESS_REST = timedelta(hours=1)
"""After which a group that may not be read is tried again: somebody may have let the account in."""


@dataclass(slots=True)
class ChatPoll:
    """One look at one group, by its key. `code` and `reason` where it failed, or had to end before all was read."""

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
    pause that it asked for nothing is asked, whoever wants to know. `chats`: names of groups, or keys of those in the settings.

    Raises: StoreError; SettingsError; IngestionError `telegram_unreachable` (retryable).
    """
    keys = names_by_key(chats, social.telegram_chats)
    with tables.operator_transaction() as connection:
        pause = pause_of(cursors_by_key(connection).values(), now)  # under the keys of now before any is written
    if pause is not None:
        return [ChatPoll(key, code=FLOOD, reason=pause.reason, not_before=pause.not_before) for key in keys]
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
        for key in keys:
            with tables.operator_transaction() as connection:
                cursor = read_cursor(connection, "telegram", key)
                hold_cursor(connection, cursor, until, error.code, error.message, now)
        if isinstance(error, SettingsError):
            raise
        return [ChatPoll(key, code=error.code, reason=error.message, not_before=until) for key in keys]


def poll_telegram(
    tables: Tables, reader: TelegramReader, social: SocialSettings, chats: Collection[str], now: datetime
) -> list[ChatPoll]:
    """Look at each of these groups, first at the one that was looked at longest ago; one that fails keeps no other from being
    read, but a pause holds for all.

    Idempotent: what is stored and the cursor move together, page by page. Raises: StoreError; SettingsError when the account is
    signed in no more.
    """
    names = names_by_key(chats, social.telegram_chats)
    with tables.operator_transaction() as connection:
        cursors = cursors_by_key(connection)
    users = set(owners_of(tables, "telegram").values())
    looks = list[ChatPoll]()
    for key in longest_ago_first(names, cursors):
        look = _look_at(tables, reader, social, key, names[key], users, now)
        looks.append(look)
        if look.code == FLOOD:
            break
    return looks


def _look_at(
    tables: Tables, reader: TelegramReader, social: SocialSettings, key: str, name: str, users: Collection[str], now: datetime
) -> ChatPoll:
    """Where an account becomes known meanwhile the group is to be read from the beginning, so it is looked at once more."""
    try:
        return _held_look(tables, reader, social, key, name, users, now)
    except StoreError as error:
        if error.code != "cursor_moved":
            raise
        return _held_look(tables, reader, social, key, name, users, now)


def _held_look(
    tables: Tables, reader: TelegramReader, social: SocialSettings, key: str, name: str, users: Collection[str], now: datetime
) -> ChatPoll:
    look = ChatPoll(key)
    with tables.operator_transaction() as connection:
        cursor = read_cursor(connection, "telegram", key)
    try:
        _look(tables, reader, social, cursor, name, users, now, look)
    except IngestionError as error:
        look.code, look.reason = error.code, error.message
        look.not_before = _rest(error, now)
        with tables.operator_transaction() as connection:
            hold_cursor(connection, cursor, look.not_before, error.code, error.message, now)
    return look


def _look(
    tables: Tables,
    reader: TelegramReader,
    social: SocialSettings,
    cursor: Cursor,
    name: str,
    users: Collection[str],
    now: datetime,
    look: ChatPoll,
) -> None:
    known = cursor.position.get(PLACE)
    chat, place = reader.open_chat(name, known)
    look.title = chat.title
    reach = reach_of({} if known and not same_group(known, place) else cursor.position)
    before, first_day = reach.begun_at, now - timedelta(days=social.first_days)
    seen: set[int] = set()
    for page in reader.pages(chat, after_id=reach.first, since=first_day):
        look.pages += 1
        found = _own_words(page, chat, before, look.counts)
        reach = after_page(reach, [wire.id for wire in page])
        position = {**reach.position, PLACE: place}
        counts, moved = store_page(tables, chat, found, None, now, cursor=cursor, position=position, counted_to=before)
        cursor = moved or cursor
        look.counts.add(counts)
        seen.update(wire.id for wire in page)
        if sum(message_id > before for message_id in seen) >= social.messages_a_poll:
            look.left = True
            break
    # also where nothing was said: it was looked at, and what kept it from being read is over
    store_page(tables, chat, [], None, now, cursor=cursor, position={**after_look(reach).position, PLACE: place})
    _look_again(tables, reader, chat, users, now, now - timedelta(days=social.recheck_days), seen, look)


def _own_words(page: Sequence[Any], chat: Chat, before: int, counts: Counts) -> list[SocialMessage]:
    """What is not stored is counted by the look that meets it first; this one may read it again."""
    again = Counts()
    found = (message_of(wire, chat, counts if wire.id > before else again) for wire in page)
    return [message for message in found if message is not None]


def _look_again(
    tables: Tables,
    reader: TelegramReader,
    chat: Chat,
    users: Collection[str],
    now: datetime,
    since: datetime,
    seen: Collection[int],
    look: ChatPoll,
) -> None:
    """What was said lately, as it is now. A message that this very look has read is not asked for once more."""
    said_by: dict[int, str] = {}
    for user_id in sorted(users):
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
        counts, _ = store_page(tables, chat, found, None, now, deleted=gone)
        look.counts.add(counts)


def _rest(error: IngestionError, now: datetime) -> datetime | None:
    if error.retry_after_s is not None:
        return now + timedelta(seconds=error.retry_after_s)
    return None if error.retryable else now + NO_ACCESS_REST
