"""Public chat logs through the path that Telegram's messages take: messages a second, and that nothing is stored twice."""

from __future__ import annotations

import random
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from bench.irc import LOGS, most_talkative, read_logs
from lpm_kernel.records import User
from lpm_kernel.social.documents import MadeCounts, make_documents
from lpm_kernel.social.file_import import BATCH, EVERYTHING
from lpm_kernel.social.records import Chat, Counts, SocialMessage
from lpm_kernel.social.store import link_account, store_page
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.social_cursors import Cursor
from lpm_kernel.stores.users import add_user

USERS, POLL_PAGE = 40, 100
Groups = list[tuple[Chat, list[SocialMessage]]]


def run(stores: Stores) -> None:
    if not LOGS.exists():
        print(f"  skipped: {LOGS} is not there")
        return
    groups = list(read_logs())
    count = sum(len(messages) for _, messages in groups)
    owners = _owners(stores, groups)
    own = sum(message.account_id in owners for _, messages in groups for message in messages)
    print(f"  {len(groups)} groups, {count} messages, {own} of them by {len(owners)} users")
    print(f"  {'':44} {'messages/s':>10} {'stored':>7} {'s':>6}")
    _store(stores, groups, owners, "in pages of 100, each with its cursor", POLL_PAGE, cursors=True)
    _store(stores, groups, owners, "the same again, in other pages, out of order", BATCH, shuffle=True)
    made, seconds = _make(stores, owners)
    print(f"  {made.made} documents in {seconds:.1f} s, {made.made / seconds:.0f} a second; refused: {made.refused or 'none'}")
    made, seconds = _make(stores, owners)
    print(f"  again: {made.made} documents in {seconds:.1f} s")


def _owners(stores: Stores, groups: Groups) -> dict[str, str]:
    owners = {}
    for account_id in most_talkative(groups, USERS):
        user_id = f"bench-social-{uuid.uuid4().hex[:12]}"
        with stores.tables.transaction(user_id) as connection:
            add_user(connection, User(user_id))
        link_account(stores.tables, user_id, "telegram", account_id, datetime.now(UTC))
        owners[account_id] = user_id
    return owners


def _store(
    stores: Stores,
    groups: Groups,
    owners: dict[str, str],
    what: str,
    page: int,
    *,
    cursors: bool = False,
    shuffle: bool = False,
) -> None:
    counts, started, messages_read = Counts(), time.perf_counter(), 0
    for chat, messages in groups:
        messages_read += len(messages)
        told = random.Random(7).sample(messages, len(messages)) if shuffle else messages
        cursor = Cursor("telegram", f"bench {chat.title} {uuid.uuid4().hex}") if cursors else None
        for first in range(0, len(told), page):
            piece = told[first : first + page]
            position = {"message_id": piece[-1].message_id} if cursors else None
            page_counts, cursor = store_page(
                stores.tables, chat, piece, owners, datetime.now(UTC), cursor=cursor, position=position
            )
            counts.add(page_counts)
    seconds = time.perf_counter() - started
    print(f"  {what:44} {messages_read / seconds:10.0f} {counts.stored:7} {seconds:6.1f}")


def _make(stores: Stores, owners: dict[str, str]) -> tuple[MadeCounts, float]:
    made, started = MadeCounts(), time.perf_counter()
    for user_id in owners.values():
        made.add(make_documents(stores, user_id, Path("nowhere"), EVERYTHING))
    return made, time.perf_counter() - started
