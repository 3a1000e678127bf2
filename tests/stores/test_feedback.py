"""What a person thinks of a reply: kept once a reply, for their own eyes, and gone with what it is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from lpm_kernel.errors import UserInputError
from lpm_kernel.stores.conversations import append_message
from lpm_kernel.stores.feedback import RatedReply, keep_feedback, list_rated
from lpm_kernel.stores.open import Stores
from tests.samples import NOON, make_citation, make_message


@pytest.fixture
def talk(stores: Stores, user_id: str) -> str:
    """The user asks (m1, m3) and the twin answers (m2, m4)."""
    with stores.tables.transaction(user_id) as connection:
        for number, said in enumerate(("How is your cat called?", "Admiral.", "And the key?", "Under the pot."), start=1):
            append_message(connection, make_message(user_id, number, said, sender="twin" if number % 2 == 0 else "user"))
    return user_id


def rate(stores: Stores, user_id: str, message_id: str, minutes: int = 0, **said: Any) -> None:
    with stores.tables.transaction(user_id) as connection:
        keep_feedback(connection, user_id, message_id, created_at=NOON + timedelta(minutes=minutes), **said)


def rated(stores: Stores, user_id: str) -> list[RatedReply]:
    with stores.tables.transaction(user_id) as connection:
        return list_rated(connection, user_id)


def test_a_rating_comes_back_with_the_reply_and_what_it_answered(stores: Stores, talk: str) -> None:
    rate(stores, talk, "m4", voice=1, truth=0)
    rate(stores, talk, "m2", edited=" Pilchard, he’s “one-eyed” 😀\n")
    assert rated(stores, talk) == [
        RatedReply(
            "m2",
            "s",
            "How is your cat called?",
            "Admiral.",
            (make_citation(),),
            None,
            None,
            "Pilchard, he’s “one-eyed” 😀",
            NOON,
        ),
        RatedReply("m4", "s", "And the key?", "Under the pot.", (make_citation(),), 1, 0, None, NOON),
    ]


def test_the_newest_feedback_wins_whole_in_whatever_order_it_arrives(stores: Stores, talk: str) -> None:
    rate(stores, talk, "m2", 5, truth=-1, edited="Pilchard.")
    rate(stores, talk, "m2", 3, truth=1, voice=1)
    assert [(r.voice, r.truth, r.edited) for r in rated(stores, talk)] == [(None, -1, "Pilchard.")]
    rate(stores, talk, "m2", 7, voice=1)
    assert [(r.voice, r.truth, r.edited) for r in rated(stores, talk)] == [(1, None, None)]


@pytest.mark.parametrize(
    ("message_id", "said", "code"),
    [
        ("m2", {}, "feedback_empty"),
        ("m2", {"voice": 2}, "rating_invalid"),
        ("m2", {"truth": -5}, "rating_invalid"),
        ("m2", {"edited": "  \n"}, "edit_invalid"),
        ("m2", {"edited": "x" * 4001}, "edit_invalid"),
        ("m2", {"edited": "a\x00b"}, "edit_invalid"),
        ("m1", {"voice": 1}, "not_a_reply"),
        ("m99", {"voice": 1}, "message_unknown"),
    ],
)
def test_what_is_no_feedback_on_a_reply_is_refused(
    stores: Stores, talk: str, message_id: str, said: dict[str, Any], code: str
) -> None:
    with pytest.raises(UserInputError) as caught:
        rate(stores, talk, message_id, **said)
    assert caught.value.code == code
    assert rated(stores, talk) == []


def test_another_users_reply_can_be_neither_rated_nor_seen(stores: Stores, talk: str, new_user: Callable[[], str]) -> None:
    stranger = new_user()
    rate(stores, talk, "m2", truth=1)
    with pytest.raises(UserInputError) as caught:
        rate(stores, stranger, "m2", truth=-1)
    assert caught.value.code == "message_unknown"
    with stores.tables.transaction(stranger) as connection:
        with pytest.raises(UserInputError):
            keep_feedback(connection, talk, "m2", truth=-1, created_at=NOON)
        assert list_rated(connection, talk) == []
    assert [reply.truth for reply in rated(stores, talk)] == [1]


def test_a_reply_is_told_with_the_question_of_its_own_session(stores: Stores, user_id: str) -> None:
    with stores.tables.transaction(user_id) as connection:
        append_message(connection, make_message(user_id, 1, "here?", "one"))
        append_message(connection, make_message(user_id, 2, "there?", "two"))
        append_message(connection, make_message(user_id, 3, "Here.", "one", sender="twin"))
        append_message(connection, replace(make_message(user_id, 4, "Nobody asked.", "three", sender="twin"), citations=()))
    rate(stores, user_id, "m3", truth=1)
    rate(stores, user_id, "m4", truth=1)
    assert [(reply.question, reply.reply) for reply in rated(stores, user_id)] == [("here?", "Here.")]


def test_feedback_goes_with_its_message_and_with_its_user(stores: Stores, talk: str) -> None:
    rate(stores, talk, "m2", truth=1)
    rate(stores, talk, "m4", truth=1)
    with stores.tables.transaction(talk) as connection:
        connection.execute(text("delete from chat_message where message_id = 'm2'"))
        assert [reply.message_id for reply in list_rated(connection, talk)] == ["m4"]
        connection.execute(text("delete from app_user"))
        assert connection.execute(text("select count(*) from feedback")).scalar_one() == 0


@pytest.mark.parametrize("column", ["voice = 2", "truth = -2", "voice = null, truth = null"])
def test_the_database_itself_refuses_what_is_no_rating(stores: Stores, talk: str, column: str) -> None:
    from lpm_kernel.errors import StoreError

    rate(stores, talk, "m2", truth=1, voice=1)
    with pytest.raises(StoreError, match="tables_refused"), stores.tables.transaction(talk) as connection:
        connection.execute(text(f"update feedback set {column}"))
