"""Posts on X: all that a user's accounts posted, once, and what is new at the next time.

Belongs here: how a pass over an account goes on where it was stopped, and what was deleted lately.
Does not belong here: asking X (`x_client.py`), and archives (`x_archive.py`).

X tells the newest first, so a pass that is stopped has read the newest and lacks what lies between them and the pass before:
the cursor holds both ends until the gap is closed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from lpm_kernel.errors import IngestionError, UserInputError
from lpm_kernel.social.documents import MadeCounts, make_documents
from lpm_kernel.social.file_import import EVERYTHING, own_accounts
from lpm_kernel.social.records import Counts
from lpm_kernel.social.store import store_page
from lpm_kernel.social.x_client import PAGE, XReader
from lpm_kernel.social.x_wire import chat_of, post_of_api
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.social_cursors import Cursor, hold_cursor, list_cursors, read_cursor
from lpm_kernel.stores.social_messages import recent_ids

LIMITED = "x_rate_limited"


@dataclass(slots=True)
class XImport:
    """`not_before`: X asked for a pause; what was read until then is stored, and the next call goes on."""

    accounts: int = 0
    pages: int = 0
    counts: Counts = field(default_factory=Counts)
    made: MadeCounts = field(default_factory=MadeCounts)
    not_before: datetime | None = None
    failed: dict[str, str] = field(default_factory=dict[str, str])
    """Accounts that could not be read, such as one that X has suspended, and why; the others were."""


def import_x(stores: Stores, user_id: str, reader: XReader, adapters: Path, at: datetime) -> XImport:
    """Read what a user's accounts posted since the last time, and make documents of it.

    Idempotent; goes on where it was stopped. A pause that X asked for before is kept: nothing is asked then. One account that
    cannot be read keeps no other from it.
    Raises: UserInputError `twin_not_found`, `no_account`; IngestionError `x_no_access`, `x_refused`, `x_unreachable`,
    `post_foreign`, where it is so of every account; SettingsError `x_not_signed_in`; StoreError.
    """
    done = XImport(not_before=_pause(stores, at))
    lost: IngestionError | None = None
    accounts = sorted(own_accounts(stores, user_id, "x"))
    if not accounts:
        raise UserInputError(
            "no_account", f"user {user_id} has no account on X: name it by `twin accounts add {user_id} x NUMBER`"
        )
    for account_id in accounts if done.not_before is None else ():
        with stores.tables.operator_transaction() as connection:
            cursor = read_cursor(connection, "x", account_id)
        try:
            _pass(stores, user_id, account_id, reader, cursor, at, done)
            _look_for_deleted(stores, user_id, account_id, reader, at, done)
            done.accounts += 1
        except IngestionError as error:
            if error.code != LIMITED or error.retry_after_s is None:
                lost, done.failed[account_id] = error, error.message
                continue
            done.not_before = at + timedelta(seconds=error.retry_after_s)
            with stores.tables.operator_transaction() as connection:
                hold_cursor(connection, cursor, done.not_before, error.code, error.message, at)
            break  # the token is the same for all
    done.made = make_documents(stores, user_id, adapters, EVERYTHING)
    if lost is not None and len(done.failed) == len(accounts):
        raise lost
    return done


def _pause(stores: Stores, at: datetime) -> datetime | None:
    """Until when nothing may be asked. It is the token's, so that one account's holds for those of everybody."""
    with stores.tables.operator_transaction() as connection:
        held = list_cursors(connection, "x")
    pauses = [c.not_before for c in held if c.code == LIMITED and c.not_before is not None and c.not_before > at]
    return max(pauses, default=None)


def _pass(stores: Stores, user_id: str, account_id: str, reader: XReader, cursor: Cursor, at: datetime, done: XImport) -> None:
    chat, owners = chat_of(account_id), {account_id: user_id}
    since: int | None = cursor.position.get("since")
    newest: int | None = cursor.position.get("newest")
    until: int | None = cursor.position.get("until")
    before, more = until, None
    while True:
        page = reader.page(account_id, since_id=since, until_id=before, more=more)
        done.pages += 1
        posts = [post for wire in page.posts if (post := post_of_api(wire, account_id, done.counts)) is not None]
        ids = [int(wire["id"]) for wire in page.posts]
        newest = max(ids, default=newest) if newest is None else max(newest, *ids, newest)
        until = min(ids, default=until) if until is None else min(until, *ids, until)
        more = page.more
        last = more is None
        position: dict[str, Any] = {"since": newest or since} if last else {"since": since, "newest": newest, "until": until}
        counts, moved = store_page(stores.tables, chat, posts, owners, at, cursor=cursor, position=position)
        done.counts.add(counts)
        cursor = moved or cursor
        if not last:
            continue
        if before is None:
            return
        # the gap is closed: what was posted since the pass that left it comes now
        since, newest, until, before, more = cursor.position["since"], None, None, None, None


def _look_for_deleted(stores: Stores, user_id: str, account_id: str, reader: XReader, at: datetime, done: XImport) -> None:
    with stores.tables.transaction(user_id) as connection:
        since = at - timedelta(days=stores.settings.social.recheck_days)
        recent = recent_ids(connection, user_id, "x", account_id, since)
    for first in range(0, len(recent), PAGE):
        gone = reader.gone(account_id, recent[first : first + PAGE])
        if gone:
            deleted = {user_id: gone}
            done.counts.add(store_page(stores.tables, chat_of(account_id), [], {}, at, deleted=deleted)[0])
