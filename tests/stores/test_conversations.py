"""Chat messages: kept once, in the order they were said."""

from __future__ import annotations

from dataclasses import replace

from lpm_kernel.stores.conversations import append_message, last_messages
from lpm_kernel.stores.open import Stores
from tests.samples import NOON, make_citation, make_message


def test_a_message_comes_back_as_it_was_said(stores: Stores, user_id: str) -> None:
    said = replace(
        make_message(user_id, 1, "Zoë’s “cat” 😀\n\tcosts £5", sender="twin"), citations=(make_citation(), make_citation("b"))
    )
    bare = replace(make_message(user_id, 2), citations=(), release_id=None)
    with stores.tables.transaction(user_id) as connection:
        append_message(connection, said)
        append_message(connection, bare)
        assert last_messages(connection, user_id, "s", 10) == [said, bare]


def test_the_newest_messages_come_oldest_first(stores: Stores, user_id: str) -> None:
    with stores.tables.transaction(user_id) as connection:
        for number in range(5):
            append_message(connection, make_message(user_id, number, f"message {number}"))
        heard = [message.content for message in last_messages(connection, user_id, "s", 3)]
        assert heard == ["message 2", "message 3", "message 4"]
        assert last_messages(connection, user_id, "s", 0) == []


def test_order_is_of_arrival_and_not_of_the_clock(stores: Stores, user_id: str) -> None:
    """Two messages of one instant, or a clock set back, must not turn a conversation around."""
    with stores.tables.transaction(user_id) as connection:
        for number in (3, 1, 2):
            append_message(connection, replace(make_message(user_id, number), ts=NOON))
        assert [m.message_id for m in last_messages(connection, user_id, "s", 9)] == ["m3", "m1", "m2"]


def test_a_message_sent_twice_is_kept_once_as_it_first_was(stores: Stores, user_id: str) -> None:
    with stores.tables.transaction(user_id) as connection:
        append_message(connection, make_message(user_id, 1, "first"))
        append_message(connection, make_message(user_id, 1, "again"))
        assert [m.content for m in last_messages(connection, user_id, "s", 9)] == ["first"]


def test_sessions_do_not_hear_each_other(stores: Stores, user_id: str) -> None:
    with stores.tables.transaction(user_id) as connection:
        append_message(connection, make_message(user_id, 1, "here", "one"))
        append_message(connection, make_message(user_id, 2, "there", "two"))
        assert [m.content for m in last_messages(connection, user_id, "one", 9)] == ["here"]
        assert last_messages(connection, user_id, "three", 9) == []
