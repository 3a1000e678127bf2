"""How groups are found: once by their name, then by their number; and those that an invitation names."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from telethon.errors import FloodWaitError
from telethon.tl.functions.contacts import ResolveUsernameRequest
from telethon.tl.functions.messages import CheckChatInviteRequest, GetDialogsRequest

from lpm_kernel.settings import SocialSettings
from lpm_kernel.social.report import group_look
from lpm_kernel.social.store import link_account
from lpm_kernel.social.telegram import ChatPoll, poll_telegram
from lpm_kernel.social.telegram_names import key_of
from lpm_kernel.social.telegram_turns import longest_ago_first
from lpm_kernel.stores.documents import private_documents
from lpm_kernel.stores.social_cursors import Cursor, hold_cursor, list_cursors
from tests.social.said import Speaker
from tests.social.telegram_stand_in import NOON, NOW, Group, cursor_of, marked, message, reader_of

LOOK_UPS = (ResolveUsernameRequest, CheckChatInviteRequest, GetDialogsRequest)
LATER = NOW + timedelta(minutes=5)


@pytest.fixture
def invited(group: Group) -> str:
    """A private group that an invitation names; the link to it."""
    group.name, group.invitation = None, f"Hash_of-{group.number:012}"
    return f"https://t.me/+{group.invitation}"


def test_a_name_is_looked_up_once_and_no_more(ada: Speaker, group: Group, look: Callable[..., ChatPoll]) -> None:
    """Each look resolved each name anew, which Telegram counts most strictly of all."""
    for number in range(1, 4):
        group.say(message(number, f"Line {number}.", ada.account_id))
        assert look().counts.new == 1
    assert group.asked_for(ResolveUsernameRequest) == 1
    link_account(ada.stores.tables, ada.user_id, "telegram", f"9{ada.account_id}", NOW)
    assert look().counts.known == 3, "read from the beginning"
    assert group.asked_for(ResolveUsernameRequest) == 1


def test_a_group_of_a_number_and_one_of_an_invitation_are_looked_up_once(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll], invited: str
) -> None:
    group.say(message(1, "Between us.", ada.account_id))
    for name in (marked(group), invited):
        before = group.asked_for(*LOOK_UPS)
        for _ in range(3):
            assert look(name).code is None
        assert group.asked_for(*LOOK_UPS) == before + 1


def test_where_telegram_knows_the_number_no_more_the_name_is_looked_up_anew(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll]
) -> None:
    """As when the session is another account's: what Telegram gave the one is nothing to the other."""
    group.say(message(1, "Here.", ada.account_id))
    look()
    group.access_hash = 43
    group.say(message(2, "Still here.", ada.account_id))
    assert look().counts.new == 1
    assert cursor_of(ada, group.name).position["peer"] == {"channel": group.number, "access_hash": 43}
    look()
    assert group.asked_for(ResolveUsernameRequest) == 2


def test_a_name_that_leads_to_another_group_is_read_from_its_beginning(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll]
) -> None:
    """Numbers of messages are those of one group."""
    group.say(*(message(number, f"Old {number}.", ada.account_id) for number in range(1, 251)))
    look()
    group.number, group.messages = group.number + 7, {}
    group.say(message(1, "A new beginning.", ada.account_id))
    assert look().counts.new == 1
    assert cursor_of(ada, group.name).position["message_id"] == 1


def test_a_group_that_became_private_is_so_from_the_next_look_on(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll]
) -> None:
    """It is asked for by its number, and what Telegram says of it is not kept."""
    look()
    name, group.name, group.title = group.name, None, "Back room"
    group.say(message(1, "Between us.", ada.account_id))
    assert look(name).title == "Back room"
    ada.make()
    with ada.stores.tables.transaction(ada.user_id) as connection:
        assert len(private_documents(connection, ada.user_id)) == 1


def test_a_small_group_is_read_until_it_is_moved_to_a_large_one(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll], invited: str
) -> None:
    group.small = True
    group.say(message(1, "We are few.", ada.account_id), message(2, "Oops.", ada.account_id))
    assert look(invited).counts.new == 2
    del group.messages[2]
    assert look(invited).counts.deleted == 1
    assert cursor_of(ada, key_of(invited)).position["peer"] == {"chat": group.number}
    small, group.small, group.number = group.channel, False, group.number + 5
    small.deactivated = True
    large, answer = group.channel, group.answer

    def after_the_move(request: Any) -> Any:
        from telethon.tl import functions, types

        return types.messages.Chats([small]) if isinstance(request, functions.messages.GetChatsRequest) else answer(request)

    group.answer = after_the_move  # type: ignore[method-assign]
    group.messages = {}
    group.say(message(1, "We are many.", ada.account_id))
    assert look(invited).counts.new == 1
    assert cursor_of(ada, key_of(invited)).position["peer"]["channel"] == large.id


def test_a_group_of_an_invitation_is_read_and_the_invitation_stands_nowhere(
    ada: Speaker, group: Group, social: SocialSettings, invited: str
) -> None:
    """Whoever has it is let in, so that a row of a cursor or of a run must not hold it."""
    group.say(message(1, "Between us.", ada.account_id))
    named = social.model_copy(update={"telegram_chats": (f" {invited}/",)})
    with closing(reader_of(group)) as reader:
        (poll,) = poll_telegram(ada.stores.tables, reader, named, [key_of(invited)], NOW)
    assert (poll.chat, poll.code, poll.counts.new) == (key_of(invited), None, 1)
    assert group.invitation not in f"{group_look(poll)} {cursor_of(ada, poll.chat)}"
    assert cursor_of(ada, invited) == Cursor("telegram", invited), "none is kept under the invitation"


@pytest.mark.parametrize("case", ["not a member", "invitation of nothing", "no longer in the settings"])
def test_an_invitation_that_lets_nobody_in_says_so_without_itself(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll], invited: str, case: str
) -> None:
    group.member = False
    if case == "invitation of nothing":
        group.invitation = "another"
    poll = look(key_of(invited) if case == "no longer in the settings" else invited)
    told = {
        "not a member": "let it join by that invitation",
        "invitation of nothing": "InviteHashExpiredError",
        "no longer in the settings": "the settings have no invitation any more",
    }
    assert (poll.chat, poll.code) == (key_of(invited), "telegram_no_access")
    assert told[case] in str(poll.reason)
    assert key_of(invited) in str(poll.reason)
    held = cursor_of(ada, poll.chat)
    assert held.not_before == NOW + timedelta(hours=1)
    assert invited.rpartition("+")[2] not in f"{poll} {held}"


def test_a_cursor_that_was_kept_under_an_invitation_is_kept_under_its_key(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll], invited: str
) -> None:
    """As all were before; what was read is not read anew, and of the invitation nothing is left in the table."""
    group.say(*(message(number, f"Line {number}.", ada.account_id) for number in range(1, 201)))
    other = f"t.me/joinchat/{group.invitation}"
    with ada.stores.tables.operator_transaction() as connection:
        for name in (invited, other):
            hold_cursor(connection, Cursor("telegram", name), NOW, "telegram_no_access", f"not in the group {name}: join", NOON)
    assert look(invited).counts.new == 200
    with ada.stores.tables.operator_transaction() as connection:
        cursors = list_cursors(connection, "telegram")
    assert not any(str(group.invitation) in str(cursor) for cursor in cursors)
    assert cursor_of(ada, key_of(invited)).position["message_id"] == 200
    assert look(other).counts.known >= 100


def test_who_was_looked_at_longest_ago_is_first() -> None:
    cursors = {name: Cursor("telegram", name, changed_at=at) for name, at in (("a", LATER), ("b", NOON), ("c", NOW))}
    assert longest_ago_first(["a", "b", "c", "new"], cursors) == ["new", "b", "c", "a"]
    assert longest_ago_first(["b", "a"], {}) == ["b", "a"]


def test_a_pause_in_each_look_keeps_no_group_from_its_turn(ada: Speaker, group: Group, social: SocialSettings) -> None:
    """The first group came first again after each pause, so that those behind it were never read."""
    names = [f"{group.name}{place}" for place in range(3)]
    first: list[str] = []
    group.fails = [lambda request: FloodWaitError(request, 60)]
    for number in range(4):
        with closing(reader_of(group)) as reader:
            polls = poll_telegram(ada.stores.tables, reader, social, names, NOW + timedelta(minutes=5 * number))
        first.append(polls[0].chat)
    assert first == [*names, names[0]]
