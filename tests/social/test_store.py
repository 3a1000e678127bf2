"""Storing a page: once, for the right person, with its cursor or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import delete, select

from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.records import User
from lpm_kernel.social.records import Chat, Network
from lpm_kernel.social.store import link_account, owners_of, store_page, unlink_account
from lpm_kernel.stores.deletions import begin_deletion
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.social_accounts import list_accounts, remove_account
from lpm_kernel.stores.social_cursors import Cursor, hold_cursor, list_cursors, read_cursor
from lpm_kernel.stores.social_messages import recent_ids, words_of_part
from lpm_kernel.stores.social_schema import social_cursor, social_message
from lpm_kernel.stores.users import add_user
from tests.social.said import CHAT, NOON, Speaker, said

DAY = "2026-03-04"


@pytest.fixture
def ada(stores: Stores, new_user: Callable[[], str]) -> Speaker:
    return Speaker(stores, new_user())


@pytest.fixture
def chat(request: pytest.FixtureRequest) -> Chat:
    """Of this test alone: cursors belong to no user."""
    return replace(CHAT, chat_id=request.node.name[:60])


def words(speaker: Speaker, chat: Chat, part: str = DAY) -> list[str]:
    with speaker.stores.tables.transaction(speaker.user_id) as connection:
        return [word.text for word in words_of_part(connection, speaker.user_id, chat.network, chat.chat_id, part)]


def test_a_page_is_stored_with_its_cursor(ada: Speaker, chat: Chat) -> None:
    page = ada.words([(1, "I like rye."), (2, "And butter.")], chat=chat)
    tables = ada.stores.tables
    counts, moved = store_page(
        tables, chat, page, {ada.account_id: ada.user_id}, NOON, cursor=Cursor("telegram", chat.chat_id), position={"id": 2}
    )
    assert (counts.new, counts.stored) == (2, 2)
    assert words(ada, chat) == ["I like rye.", "And butter."]
    with tables.operator_transaction() as connection:
        assert read_cursor(connection, "telegram", chat.chat_id) == moved == Cursor("telegram", chat.chat_id, {"id": 2})


def test_a_page_out_of_order_twice_and_in_pieces_is_stored_once(ada: Speaker, chat: Chat) -> None:
    page = ada.words([(number, f"Line {number} of mine.") for number in range(1, 7)], chat=chat)
    first = ada.says(page[4], page[0], page[4], page[2], chat=chat)
    assert (first.new, first.known) == (3, 1)
    again = ada.says(*reversed(page), chat=chat)
    assert (again.new, again.known) == (3, 3)
    assert words(ada, chat) == [f"Line {number} of mine." for number in range(1, 7)]
    assert ada.says(*page, chat=chat).stored == 0


def test_when_the_cursor_cannot_move_nothing_of_the_page_is_stored(ada: Speaker, chat: Chat) -> None:
    """Two runs that read the same chat: the second finds that the first has read on, and stores nothing over it."""
    behind = Cursor("telegram", chat.chat_id)
    ada.says(*ada.words([(1, "First.")], chat=chat), chat=chat, cursor=behind, position={"id": 1})
    with pytest.raises(StoreError) as caught:
        ada.says(*ada.words([(2, "Second.")], chat=chat), chat=chat, cursor=behind, position={"id": 2})
    assert (caught.value.code, caught.value.retryable) == ("cursor_moved", True)
    assert words(ada, chat) == ["First."]


def test_when_the_messages_cannot_be_stored_the_cursor_does_not_move(ada: Speaker, chat: Chat) -> None:
    broken = replace(ada.words([(1, "Fine.")], chat=chat)[0], text="a\x00b")  # PostgreSQL takes no NUL
    with pytest.raises(StoreError):
        ada.says(broken, chat=chat, cursor=Cursor("telegram", chat.chat_id), position={"id": 1})
    with ada.stores.tables.operator_transaction() as connection:
        assert read_cursor(connection, "telegram", chat.chat_id).position == {}


def test_what_an_unknown_account_says_is_nobodys_and_is_named(ada: Speaker, chat: Chat) -> None:
    counts = ada.says(said(1, "Not mine.", "77", chat=chat), said(2, "Nor this.", "77", chat=chat), chat=chat)
    assert (counts.stored, dict(counts.of_others)) == (0, {"77": 2})
    assert words(ada, chat) == []


def test_two_people_of_one_page_each_get_their_own_words(
    stores: Stores, new_user: Callable[[], str], ada: Speaker, chat: Chat
) -> None:
    ben = Speaker(stores, new_user())
    page = [*ada.words([(1, "I am Ada.")], chat=chat), *ben.words([(2, "I am Ben.")], chat=chat)]
    owners = owners_of(stores.tables, "telegram")
    counts, _ = store_page(stores.tables, chat, page, owners, NOON, cursor=Cursor("telegram", chat.chat_id), position={"id": 2})
    assert (counts.new, counts.of_others) == (2, {})
    assert (words(ada, chat), words(ben, chat)) == (["I am Ada."], ["I am Ben."])
    with stores.tables.transaction(ben.user_id) as connection:
        assert set(connection.execute(select(social_message.c.user_id)).scalars()) == {ben.user_id}


def test_who_is_being_deleted_keeps_nobody_else_waiting(
    stores: Stores, new_user: Callable[[], str], ada: Speaker, chat: Chat
) -> None:
    ben = Speaker(stores, new_user())
    with stores.tables.transaction(ben.user_id) as connection:
        begin_deletion(connection, ben.user_id, NOON)
    page = [*ada.words([(1, "I stay.")], chat=chat), *ben.words([(2, "I go.")], chat=chat)]
    counts, _ = store_page(stores.tables, chat, page, owners_of(stores.tables, "telegram"), NOON)
    assert (counts.new, dict(counts.of_others)) == (1, {ben.account_id: 1})


def test_an_edit_counts_once_and_an_older_version_told_late_changes_nothing(ada: Speaker, chat: Chat) -> None:
    first, second = ada.words([(1, "I like ray.")], chat=chat)[0], ada.words([(1, "I like rye.")], chat=chat, version=5)[0]
    assert ada.says(first, chat=chat).new == 1
    assert ada.says(second, chat=chat).edited == 1
    late = ada.says(first, second, replace(second, version=9), chat=chat)
    assert (late.edited, late.known) == (0, 3), "a reaction makes a version without another word"
    assert words(ada, chat) == ["I like rye."]


def test_a_deleted_message_leaves_nothing_and_no_older_export_brings_it_back(ada: Speaker, chat: Chat) -> None:
    page = ada.words([(1, "My PIN is 4711."), (2, "Lunch?")], chat=chat)
    ada.says(*page, chat=chat)
    assert ada.says(chat=chat, deleted={ada.user_id: [1, 99]}).deleted == 1
    assert ada.says(*page, chat=chat).stored == 0
    assert words(ada, chat) == ["Lunch?"]
    with ada.stores.tables.transaction(ada.user_id) as connection:
        rows = [str(row) for row in connection.execute(select(social_message).where(social_message.c.chat_id == chat.chat_id))]
    assert not any("4711" in row for row in rows)


def test_a_group_that_was_moved_is_not_stored_twice_and_the_same_words_later_are(ada: Speaker, chat: Chat) -> None:
    moved = replace(chat, chat_id=f"moved-{chat.chat_id}")
    old = ada.words([(1, "Lunch?")], chat=chat)[0]
    ada.says(old, chat=chat)
    counts = ada.says(replace(old, chat_id=moved.chat_id, message_id=900), chat=moved)
    assert (counts.new, counts.repeated) == (0, 1)
    later = replace(old, chat_id=moved.chat_id, message_id=901, sent_at=old.sent_at + timedelta(days=1))
    assert ada.says(later, chat=moved).new == 1


def test_media_alone_is_noted_and_makes_no_document_due(ada: Speaker, chat: Chat) -> None:
    counts = ada.says(*ada.words([(1, "")], chat=chat, media="photo"), chat=chat)
    assert (counts.new, counts.media) == (1, 1)
    assert ada.make() == type(ada.make())()


def test_an_account_is_one_users(stores: Stores, new_user: Callable[[], str], ada: Speaker) -> None:
    other = new_user()
    assert not link_account(stores.tables, ada.user_id, "telegram", ada.account_id, NOON), "again is nothing new"
    with pytest.raises(UserInputError) as caught:
        link_account(stores.tables, other, "telegram", ada.account_id, NOON)
    assert caught.value.code == "account_taken"
    with stores.tables.transaction(other) as connection:
        assert list_accounts(connection) == []
        with pytest.raises(UserInputError) as unknown:
            remove_account(connection, other, "telegram", ada.account_id)
    assert unknown.value.code == "account_unknown"


@pytest.mark.parametrize(
    ("network", "account_id", "code"),
    [
        ("mastodon", "1", "network_unknown"),
        ("x", "@ada", "account_id_invalid"),
        ("telegram", "", "account_id_invalid"),
        ("x", "1; drop", "account_id_invalid"),
    ],
)
def test_what_is_no_account_is_refused(ada: Speaker, network: str, account_id: str, code: str) -> None:
    with pytest.raises(UserInputError) as caught:
        link_account(ada.stores.tables, ada.user_id, network, account_id, NOON)
    assert caught.value.code == code


def test_an_account_of_nobody_here_is_refused(stores: Stores) -> None:
    with pytest.raises(UserInputError) as caught:
        link_account(stores.tables, "nobody-here", "x", "5", NOON)
    assert caught.value.code == "twin_not_found"


def test_a_new_account_has_groups_read_again_and_posts_not(ada: Speaker, chat: Chat) -> None:
    """What it said before it was known was passed over, and the cursor would never come back to it."""
    tables = ada.stores.tables
    for network in ("telegram", "x"):
        cursor = Cursor(network, chat.chat_id)  # type: ignore[arg-type]
        store_page(tables, replace(chat, network=network), [], {}, NOON, cursor=cursor, position={"id": 7})  # type: ignore[arg-type]
    link_account(tables, ada.user_id, "telegram", f"9{ada.account_id}", NOON)
    with tables.operator_transaction() as connection:
        assert read_cursor(connection, "telegram", chat.chat_id).position == {}
        assert read_cursor(connection, "x", chat.chat_id).position == {"id": 7}


def test_an_account_that_is_removed_leaves_what_it_said_unless_that_is_withdrawn(ada: Speaker, chat: Chat) -> None:
    ada.says(*ada.words([(1, "Mine."), (2, "Also.")], chat=chat), chat=chat)
    assert unlink_account(ada.stores.tables, ada.user_id, "telegram", ada.account_id, NOON, withdraw=False) == 0
    assert words(ada, chat) == ["Mine.", "Also."]
    link_account(ada.stores.tables, ada.user_id, "telegram", ada.account_id, NOON)
    assert unlink_account(ada.stores.tables, ada.user_id, "telegram", ada.account_id, NOON, withdraw=True) == 2
    assert words(ada, chat) == []


@pytest.mark.parametrize("removed_before", [True, False])
def test_a_withdrawal_that_broke_off_is_asked_for_again(ada: Speaker, chat: Chat, removed_before: bool) -> None:
    """The account was gone with the first call, so that the second one knew of no account, and nothing ended what was begun."""

    def withdraw() -> int:
        return unlink_account(ada.stores.tables, ada.user_id, "telegram", ada.account_id, NOON, withdraw=True)

    ada.says(*ada.words([(1, "Mine.")], chat=chat), chat=chat)
    ada.make()
    if removed_before:
        unlink_account(ada.stores.tables, ada.user_id, "telegram", ada.account_id, NOON, withdraw=False)
    assert withdraw() == 1
    assert withdraw() == 0
    assert ada.make().withdrawn == 1
    assert ada.documents() == {}
    with pytest.raises(UserInputError) as caught:
        unlink_account(ada.stores.tables, ada.user_id, "telegram", "99" + ada.account_id, NOON, withdraw=True)
    assert caught.value.code == "account_unknown"


def test_how_far_an_account_on_x_was_read_goes_with_it_and_of_others_stays(
    stores: Stores, new_user: Callable[[], str], chat: Chat
) -> None:
    """The row names the account, hangs on no user, and outlived both."""
    ada, ben = Speaker(stores, new_user(), "x"), Speaker(stores, new_user(), "x")
    group = Cursor("telegram", chat.chat_id)
    store_page(stores.tables, chat, [], {}, NOON, cursor=group, position={"id": 3})
    for speaker in (ada, ben):
        own = Chat("x", speaker.account_id, "", public=True)
        store_page(stores.tables, own, [], {}, NOON, cursor=Cursor("x", speaker.account_id), position={"since": 1})

    def known(network: Network) -> set[str]:
        with stores.tables.operator_transaction() as connection:
            return {cursor.chat for cursor in list_cursors(connection, network)}

    assert {ada.account_id, ben.account_id} <= known("x")
    unlink_account(stores.tables, ada.user_id, "x", ada.account_id, NOON, withdraw=False)
    assert {ada.account_id, ben.account_id} & known("x") == {ben.account_id}
    assert chat.chat_id in known("telegram")
    with stores.tables.transaction(ben.user_id) as connection:
        of_a_group = delete(social_cursor).where(social_cursor.c.chat == chat.chat_id)
        assert connection.execute(of_a_group).rowcount == 0, "nobody removes how far a group was read"


def test_two_edits_of_one_second_are_two_and_a_file_of_that_second_takes_neither_back(ada: Speaker, chat: Chat) -> None:
    """Telegram tells the second of an edit and no more: what was edited again within it stayed as it was."""
    ada.says(*ada.words([(1, "I like ray.")], chat=chat, version=5), chat=chat)
    again = ada.words([(1, "I like rye.")], chat=chat, version=5)
    assert ada.says(*again, chat=chat).edited == 0, "a file may be older than what is stored"
    assert words(ada, chat) == ["I like ray."]
    assert ada.says(*again, chat=chat, deleted={}).edited == 1
    assert words(ada, chat) == ["I like rye."]
    assert ada.says(*ada.words([(1, "I like ray.")], chat=chat, version=4), chat=chat, deleted={}).edited == 0
    assert ada.says(*again, chat=chat, deleted={}).known == 1


def test_a_cursor_that_is_held_keeps_its_position_and_says_why(ada: Speaker, chat: Chat) -> None:
    cursor = Cursor("telegram", chat.chat_id)
    _, moved = store_page(ada.stores.tables, chat, [], {}, NOON, cursor=cursor, position={"id": 3})
    assert moved
    until = NOON + timedelta(minutes=9)
    with ada.stores.tables.operator_transaction() as connection:
        hold_cursor(connection, moved, until, "telegram_flood", "Telegram asks for a pause of 540 s", NOON)
        (held,) = [row for row in list_cursors(connection, "telegram") if row.chat == chat.chat_id]
    assert (held.position, held.not_before, held.code) == ({"id": 3}, until, "telegram_flood")
    _, free = store_page(ada.stores.tables, chat, [], {}, NOON, cursor=held, position={"id": 4})
    assert free == Cursor("telegram", chat.chat_id, {"id": 4}), "what is read again is held no longer"


def test_recent_messages_are_those_that_are_there(ada: Speaker, chat: Chat) -> None:
    ada.says(*ada.words([(1, "Old."), (9, "New."), (10, "Gone.")], chat=chat), chat=chat)
    ada.says(chat=chat, deleted={ada.user_id: [10]})
    with ada.stores.tables.transaction(ada.user_id) as connection:
        add_user(connection, User(ada.user_id))
        since = NOON + timedelta(minutes=5)
        assert recent_ids(connection, ada.user_id, "telegram", chat.chat_id, since) == [9]
