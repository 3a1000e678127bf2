"""Accounts that become known or unknown while a group is read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import text
from telethon.tl.functions.messages import GetHistoryRequest

from lpm_kernel.errors import UserInputError
from lpm_kernel.settings import SocialSettings
from lpm_kernel.social.records import Chat, Counts
from lpm_kernel.social.store import link_account, store_page, unlink_account
from lpm_kernel.social.telegram import ChatPoll, poll_telegram
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.social_accounts import add_account, lock_accounts
from lpm_kernel.stores.social_cursors import Cursor, list_cursors
from tests.social.said import CHAT, NOON, Speaker, said
from tests.social.telegram_stand_in import NOW, Group, message, reader_of


@pytest.fixture
def ben(stores: Stores, new_user: Callable[[], str], ada: Speaker) -> Speaker:
    """Of whom no account is known yet."""
    ben = Speaker.__new__(Speaker)
    ben.stores, ben.user_id, ben.account_id, ben.adapters = stores, new_user(), f"8{ada.account_id}", ada.adapters
    return ben


def at_page(number: int, act: Callable[[], object]) -> Callable[[Any], Exception | None]:
    """While Telegram gives this page, once."""
    asked = 0

    def then(request: Any) -> Exception | None:
        nonlocal asked
        asked += isinstance(request, GetHistoryRequest)
        if isinstance(request, GetHistoryRequest) and asked == number:
            act()
        return None

    return then


def words_of(speaker: Speaker) -> list[str]:
    speaker.make()
    return [line for text in speaker.documents().values() for line in text.splitlines()[2:] if line]


def link(ben: Speaker) -> Callable[[], bool]:
    return lambda: link_account(ben.stores.tables, ben.user_id, "telegram", ben.account_id, NOW)


@pytest.mark.parametrize("page", [1, 2, 3])
def test_an_account_that_becomes_known_while_a_group_is_read_has_all_that_it_said(
    ada: Speaker, ben: Speaker, group: Group, look: Callable[..., ChatPoll], page: int
) -> None:
    """Whose account is whose was read before the first page. A cursor that the new account sent back to its beginning looked
    like one that nobody had moved, so that what Ben had said was passed over and never read again."""
    group.say(message(1, "I am Ben.", ben.account_id))
    group.say(*(message(number, f"Ada {number}.", ada.account_id) for number in range(2, 251)))
    group.fails = [at_page(page, link(ben))]
    look()
    group.fails = []
    look()
    assert words_of(ben) == ["I am Ben."]
    assert look().counts.stored == 0


def test_one_that_becomes_known_while_another_group_is_read_is_known_in_the_next(
    ada: Speaker, ben: Speaker, group: Group, social: SocialSettings
) -> None:
    """The cursors of both groups go back; the second one was then read as if Ben were nobody."""
    other = Group(name=f"library{group.number}", number=group.number + 1)
    other.say(message(1, "I am Ben.", ben.account_id), *(message(n, "Ada.", ada.account_id) for n in range(2, 250)))
    group.say(message(1, "Rye.", ada.account_id))
    for each in (group, other):  # both were read before
        with closing(reader_of(each)) as reader:
            poll_telegram(ada.stores.tables, reader, social, [str(each.name)], NOON)
    group.fails = [at_page(1, link(ben))]
    both = _Both(group, other)
    with closing(reader_of(both)) as reader:  # type: ignore[arg-type]
        poll_telegram(ada.stores.tables, reader, social, [str(group.name), str(other.name)], NOW)
    assert words_of(ben) == ["I am Ben."]


class _Both:
    """Two groups behind one client."""

    def __init__(self, *groups: Group) -> None:
        self.groups = groups

    def answer(self, request: Any) -> Any:
        peer = getattr(request, "peer", None) or getattr(request, "channel", None)
        asked = [peer] if peer is not None else [each for each in getattr(request, "id", ()) if hasattr(each, "channel_id")]
        numbers = {each.channel_id for each in asked}
        (group,) = [each for each in self.groups if each.number in numbers]
        return group.answer(request)


def test_of_an_account_that_is_removed_while_a_group_is_read_nothing_more_is_stored(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll]
) -> None:
    """All that it said was withdrawn, and the look that was under way stored the rest."""
    group.page_size = 2
    group.say(*(message(number, f"Line {number}.", ada.account_id) for number in range(1, 7)))
    tables = ada.stores.tables
    group.fails = [
        at_page(2, lambda: unlink_account(tables, ada.user_id, "telegram", ada.account_id, NOW, withdraw=True)),
    ]
    poll = look()
    assert (poll.counts.new, poll.counts.of_others[ada.account_id]) == (2, 4)
    assert words_of(ada) == []


def test_who_makes_an_account_known_waits_for_a_page_and_a_page_for_them(stores: Stores, ada: Speaker, ben: Speaker) -> None:
    """The page reads whose accounts they are after the one that is being added is there; else its cursor would pass it."""
    done: list[Counts] = []
    tables = stores.tables
    page = [said(1, "I am Ben.", ben.account_id)]
    storing = threading.Thread(target=lambda: done.append(store_page(tables, CHAT, page, None, NOON)[0]))
    with tables.transaction(ben.user_id) as connection:
        lock_accounts(connection, "telegram", to_change=True)
        add_account(connection, ben.user_id, "telegram", ben.account_id, NOON)
        storing.start()
        waiting = text("select count(*) from pg_locks where locktype = 'advisory' and not granted")
        until = time.monotonic() + 60
        while storing.is_alive() and not connection.execute(waiting).scalar_one():
            assert time.monotonic() < until
            time.sleep(0.01)
        assert storing.is_alive()
    storing.join(60)
    assert [counts.new for counts in done] == [1]


def test_of_an_account_on_x_that_is_removed_while_it_is_read_neither_posts_nor_place_are_kept(
    stores: Stores, new_user: Callable[[], str]
) -> None:
    """How far it was read was dropped with the account, and the page that was under way wrote it again."""
    ada = Speaker(stores, new_user(), "x")
    chat, owners = Chat("x", ada.account_id, "", public=True), {ada.account_id: ada.user_id}
    unlink_account(stores.tables, ada.user_id, "x", ada.account_id, NOON, withdraw=True)
    with pytest.raises(UserInputError) as caught:
        store_page(
            stores.tables,
            chat,
            [said(1, "Rye.", ada.account_id, chat=chat)],
            owners,
            NOON,
            cursor=Cursor("x", ada.account_id),
            position={"since": 1},
        )
    assert caught.value.code == "account_unknown"
    with stores.tables.operator_transaction() as connection:
        assert ada.account_id not in {cursor.chat for cursor in list_cursors(connection, "x")}
    assert words_of(ada) == []


def test_of_an_account_that_changed_hands_while_a_file_is_read_nothing_goes_to_the_one_before(
    ada: Speaker, ben: Speaker
) -> None:
    unlink_account(ada.stores.tables, ada.user_id, "telegram", ada.account_id, NOON, withdraw=True)
    link_account(ada.stores.tables, ben.user_id, "telegram", ada.account_id, NOON)
    counts = ada.says(*ada.words([(1, "Rye.")]))
    assert (counts.new, counts.of_others[ada.account_id]) == (0, 1)
