"""The outbox: rows put with what they belong to, one queue a user and target, in order, each claimed by one worker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from lpm_kernel.errors import StoreError
from lpm_kernel.request_context import RequestContext, within_request
from lpm_kernel.stores.changes import (
    Change,
    claim_change,
    drop_done_changes,
    finish_change,
    give_up_change,
    lag,
    list_of_transaction,
    list_undone,
    put_change,
    put_off_change,
    replay_change,
    users_with_due_changes,
    words_of,
)
from lpm_kernel.stores.open import Stores
from tests.samples import NOON

LATER = NOON + timedelta(hours=1)


def put(stores: Stores, user_id: str, number: int, target: str = "graph", kind: str = "delete_documents") -> Change:
    with stores.tables.transaction(user_id) as connection:
        return put_change(connection, user_id, target, kind, {"sha256s": [str(number)]}, at=NOON)  # type: ignore[arg-type]


def claim(stores: Stores, user_id: str, target: str = "graph", lease_s: float = 60) -> Change | None:
    with stores.tables.transaction(user_id) as connection:
        return claim_change(connection, user_id, target, LATER, lease_s)  # type: ignore[arg-type]


def undone(stores: Stores, user_id: str) -> list[Change]:
    with stores.tables.transaction(user_id) as connection:
        return list_undone(connection, user_id)


def test_a_change_is_there_with_its_transaction_or_not_at_all(stores: Stores, user_id: str) -> None:
    def lost() -> None:
        with stores.tables.transaction(user_id) as connection:
            put_change(connection, user_id, "graph", "delete_user", {}, at=NOON)
            raise RuntimeError("told to")

    with pytest.raises(RuntimeError):
        lost()
    assert undone(stores, user_id) == []


def test_what_one_transaction_puts_has_its_id_which_is_that_of_the_request(stores: Stores, user_id: str) -> None:
    with within_request(RequestContext("asked-17")), stores.tables.transaction(user_id) as connection:
        for target in ("vectors", "graph"):
            put_change(connection, user_id, target, "delete_user", {}, at=NOON)
    with stores.tables.transaction(user_id) as connection:
        made = put_change(connection, user_id, "blobs", "delete_user", {}, at=NOON)
        other = put_change(connection, user_id, "memories", "delete_user", {}, at=NOON)
        asked = list_of_transaction(connection, user_id, "asked-17")
    assert [(item.target, item.seq) for item in asked] == [("vectors", 1), ("graph", 2)]
    assert made.transaction_id == other.transaction_id != "asked-17"


def test_a_queue_is_worked_off_in_order_and_its_head_holds_the_rest_back(stores: Stores, user_id: str) -> None:
    first, second = put(stores, user_id, 1), put(stores, user_id, 2)
    claimed = claim(stores, user_id)
    assert claimed is not None
    assert (claimed.change_id, claimed.attempts) == (first.change_id, 1)
    assert claim(stores, user_id) is None, "the second waits for the first, whoever has it"
    with stores.tables.transaction(user_id) as connection:
        put_off_change(connection, claimed, LATER + timedelta(seconds=5), "graph_unavailable", "it did not answer")
    assert claim(stores, user_id) is None, "nor does it pass one that is tried again later"
    with stores.tables.transaction(user_id) as connection:
        assert finish_change(connection, claimed, LATER)
    following = claim(stores, user_id)
    assert following is not None
    assert following.change_id == second.change_id


def test_queues_of_other_targets_and_users_go_on(stores: Stores, new_user: Callable[[], str]) -> None:
    one, two = new_user(), new_user()
    put(stores, one, 1)
    put(stores, one, 2, "vectors")
    put(stores, two, 1)
    assert claim(stores, one)
    assert claim(stores, one, "vectors")
    assert claim(stores, two)


def test_one_that_was_given_up_holds_nobody_back_and_can_be_put_back(stores: Stores, user_id: str) -> None:
    first, second = put(stores, user_id, 1), put(stores, user_id, 2)
    claimed = claim(stores, user_id)
    assert claimed is not None
    with stores.tables.transaction(user_id) as connection:
        give_up_change(connection, claimed, LATER, "tables_refused", "it said no")
    behind = claim(stores, user_id, lease_s=0)
    assert behind is not None
    assert behind.change_id == second.change_id
    given_up = undone(stores, user_id)[0]
    assert (given_up.change_id, given_up.code) == (first.change_id, "tables_refused")
    with stores.tables.transaction(user_id) as connection:
        assert replay_change(connection, user_id, first.change_id, LATER)
        assert not replay_change(connection, user_id, first.change_id, LATER), "it waits already"
    again = claim(stores, user_id)
    assert again is not None
    assert (again.change_id, again.attempts) == (first.change_id, 1)


def test_one_that_is_wanted_anew_while_it_is_being_done_is_done_once_more(stores: Stores, user_id: str) -> None:
    """A document was deleted, sent again and deleted again: the mark of the first deletion ended the second."""
    first = put(stores, user_id, 1)
    claimed = claim(stores, user_id)
    again = put(stores, user_id, 1)
    assert claimed is not None
    assert (again.change_id, again.seq) == (first.change_id, 2)
    with stores.tables.transaction(user_id) as connection:
        assert not finish_change(connection, claimed, LATER)
    assert claim(stores, user_id) is not None


def test_words_lie_beside_it_until_it_is_done(stores: Stores, user_id: str) -> None:
    with stores.tables.transaction(user_id) as connection:
        made = put_change(
            connection,
            user_id,
            "memories",
            "correct_memory",
            {"memory_id": "m", "words_sha256": "0", "by": "user"},
            at=NOON,
            words="It is red.",
        )
        assert words_of(connection, made) == "It is red."
        assert "red" not in str(list_undone(connection, user_id))
        finish_change(connection, made, NOON)
        assert words_of(connection, made) is None


def test_many_writers_of_one_user_get_numbers_without_a_gap_and_no_two_the_same(stores: Stores, user_id: str) -> None:
    together = threading.Barrier(4)

    def write(writer: int) -> None:
        together.wait(30)
        for number in range(5):
            put(stores, user_id, 10 * writer + number)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write, writer) for writer in range(4)]:
            done.result()
    assert [item.seq for item in undone(stores, user_id)] == list(range(1, 21))


def test_only_one_of_many_claims_the_head(stores: Stores, user_id: str) -> None:
    put(stores, user_id, 1)
    together = threading.Barrier(4)

    def take(_: int) -> Change | None:
        together.wait(30)
        return claim(stores, user_id)

    with ThreadPoolExecutor(4) as pool:
        assert len([found for found in pool.map(take, range(4)) if found]) == 1


def test_the_operator_sees_whose_changes_are_due_and_how_late_they_are(stores: Stores, new_user: Callable[[], str]) -> None:
    users = [new_user() for _ in range(3)]
    for user_id in users:
        put(stores, user_id, 1)
        put(stores, user_id, 2)
    with stores.tables.operator_transaction() as connection:
        assert set(users) <= set(users_with_due_changes(connection, LATER, 10_000))
        assert not set(users) & set(users_with_due_changes(connection, NOON - timedelta(seconds=1), 10_000))
        late = {item.target: item for item in lag(connection)}
    assert late["graph"].undone >= 6
    assert late["graph"].age_s(LATER) >= 3600
    with stores.tables.transaction(users[0]) as connection:
        own = {item.target: (item.undone, item.age_s(LATER), item.given_up) for item in lag(connection)}
    assert own == {"vectors": (0, 0.0, 0), "memories": (0, 0.0, 0), "graph": (2, 3600.0, 0), "blobs": (0, 0.0, 0)}


def test_what_was_done_long_ago_is_forgotten_and_numbers_go_on(stores: Stores, user_id: str) -> None:
    for number in (1, 2):
        put(stores, user_id, number)
        claimed = claim(stores, user_id)
        assert claimed is not None
        with stores.tables.transaction(user_id) as connection:
            finish_change(connection, claimed, LATER)
    with stores.tables.transaction(user_id) as connection:
        assert drop_done_changes(connection, user_id, LATER) == 0
        assert drop_done_changes(connection, user_id, LATER + timedelta(days=1)) == 1
    assert put(stores, user_id, 3).seq == 3


def test_nobody_puts_a_change_of_who_is_not_there(stores: Stores) -> None:
    with pytest.raises(StoreError) as caught, stores.tables.transaction("nobody-at-all") as connection:
        put_change(connection, "nobody-at-all", "graph", "delete_user", {}, at=NOON)
    assert not caught.value.retryable


def test_a_target_that_nobody_knows_is_refused(stores: Stores, user_id: str) -> None:
    with pytest.raises(StoreError), stores.tables.transaction(user_id) as connection:
        put_change(connection, user_id, "moon", "delete_user", {}, at=NOON)  # type: ignore[arg-type]
