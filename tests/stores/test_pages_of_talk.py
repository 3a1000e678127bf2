"""Sessions and messages, page by page, while the talk goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lpm_kernel.errors import UserInputError
from lpm_kernel.sessions import page_of_messages, page_of_sessions
from lpm_kernel.stores.conversations import append_message
from lpm_kernel.stores.open import Stores
from tests.samples import make_message


@pytest.fixture
def talk(stores: Stores, user_id: str) -> Callable[[int, str], None]:
    def say(number: int, session_id: str) -> None:
        with stores.tables.transaction(user_id) as connection:
            append_message(connection, make_message(user_id, number, f"words {number}", session_id))

    return say


def test_sessions_come_by_their_beginning_each_once_though_the_talk_goes_on(
    stores: Stores, user_id: str, talk: Callable[[int, str], None]
) -> None:
    for number, session in enumerate("abcba"):
        talk(number, session)
    first = page_of_sessions(stores, user_id, limit=2)
    assert [(item.session_id, item.messages) for item in first.items] == [("c", 1), ("b", 2)]
    talk(9, "a")
    talk(10, "d")
    second = page_of_sessions(stores, user_id, cursor=first.next_cursor, limit=2)
    assert [(item.session_id, item.messages) for item in second.items] == [("a", 3)]
    assert second.next_cursor is None


def test_messages_come_in_order_and_a_page_holds_no_more_than_was_asked_for(
    stores: Stores, user_id: str, talk: Callable[[int, str], None]
) -> None:
    for number in range(5):
        talk(number, "s")
    talk(7, "other")
    said: list[str] = []
    cursor = None
    while True:
        page = page_of_messages(stores, user_id, "s", cursor=cursor, limit=2)
        said += [message.content for _, message in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert said == [f"words {number}" for number in range(5)]


def test_a_session_that_never_was_is_not_an_empty_one(stores: Stores, user_id: str, talk: Callable[[int, str], None]) -> None:
    assert page_of_sessions(stores, user_id, limit=5).items == ()
    talk(1, "s")
    with pytest.raises(UserInputError) as caught:
        page_of_messages(stores, user_id, "t", limit=5)
    assert caught.value.code == "session_unknown"
    cursor = page_of_sessions(stores, user_id, limit=5).next_cursor
    assert cursor is None
    with pytest.raises(UserInputError) as caught:
        page_of_messages(stores, user_id, "s", cursor="nonsense", limit=5)
    assert caught.value.code == "cursor_invalid"
