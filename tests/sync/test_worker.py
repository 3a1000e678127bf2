"""The one worker: in order of one user and target, again after a failure, given up with a letter; no queue waits for others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.request_context import request_id
from lpm_kernel.stores.changes import Change, Target, list_of_transaction, list_undone, put_change, replay_change
from lpm_kernel.stores.dead_letters import DeadLetter, list_dead_letters
from lpm_kernel.stores.open import Stores
from lpm_kernel.sync import worker
from lpm_kernel.sync.appliers import Applier, nothing_more
from lpm_kernel.sync.retry import LEASE_S
from lpm_kernel.sync.worker import work_changes_of, work_due_changes
from tests.samples import NOON

LATER = NOON + timedelta(days=1)


class Targets:
    """Takes note of what reaches it, and fails as often as told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int, str | None]] = []
        self.failures: dict[str, list[Exception]] = {}

    def applier_of(self, change: Change) -> Applier:
        def apply(_: Stores, change: Change) -> Any:
            if waiting := self.failures.get(change.target):
                raise waiting.pop(0)
            self.heard.append((change.target, change.reference["number"], request_id()))
            return nothing_more

        return apply


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch) -> Targets:
    made = Targets()
    monkeypatch.setattr(worker, "applier_of", made.applier_of)
    return made


def put(stores: Stores, user_id: str, number: int, *targets: Target) -> str:
    with stores.tables.transaction(user_id) as connection:
        changes = [put_change(connection, user_id, target, "told", {"number": number}, at=NOON) for target in targets]
    return changes[0].transaction_id


def at(when: datetime) -> Callable[[], datetime]:
    return lambda: when


def undone(stores: Stores, user_id: str) -> list[Change]:
    with stores.tables.transaction(user_id) as connection:
        return list_undone(connection, user_id)


def letters(stores: Stores, user_id: str, *, resolved: bool = False) -> list[DeadLetter]:
    with stores.tables.transaction(user_id) as connection:
        return list_dead_letters(connection, user_id, resolved=resolved)


def test_each_target_hears_of_each_change_once_and_in_order_under_its_transaction(
    stores: Stores, user_id: str, targets: Targets
) -> None:
    first = put(stores, user_id, 1, "vectors", "graph")
    second = put(stores, user_id, 2, "graph", "vectors")
    assert work_changes_of(stores, user_id, at(LATER)) == 4
    assert targets.heard == [("vectors", 1, first), ("vectors", 2, second), ("graph", 1, first), ("graph", 2, second)]
    assert undone(stores, user_id) == []
    with stores.tables.transaction(user_id) as connection:
        assert all(item.done_at == LATER for item in list_of_transaction(connection, user_id, first))
    assert work_changes_of(stores, user_id, at(LATER)) == 0


def test_what_fails_holds_up_its_own_queue_and_no_other(stores: Stores, user_id: str, targets: Targets) -> None:
    for number in (1, 2):
        put(stores, user_id, number, "vectors", "graph")
    targets.failures["graph"] = [StoreError("graph_unavailable", "told to")]
    work_changes_of(stores, user_id, at(LATER))
    assert [(target, number) for target, number, _ in targets.heard] == [("vectors", 1), ("vectors", 2)]
    [first, second] = undone(stores, user_id)
    assert (first.attempts, first.code, second.attempts, second.code) == (1, "graph_unavailable", 0, None)
    assert first.due_at > LATER
    work_changes_of(stores, user_id, at(first.due_at))
    assert [(target, number) for target, number, _ in targets.heard[2:]] == [("graph", 1), ("graph", 2)]


def test_a_long_queue_of_one_lets_everybody_else_go_on_and_stays_in_order(
    stores: Stores, new_user: Callable[[], str], targets: Targets
) -> None:
    """One person's queue was worked off to its end before the next one's was begun."""
    much, little = new_user(), new_user()
    for number in range(3 * worker.A_TURN):
        put(stores, much, number, "graph")
    put(stores, little, 1000, "graph")
    work_due_changes(stores, at(LATER), targets=("graph",))
    heard = [number for _, number, _ in targets.heard]
    assert heard.index(1000) <= worker.A_TURN
    assert [number for number in heard if number != 1000] == list(range(3 * worker.A_TURN))


def test_more_people_than_one_question_asks_for_have_their_turn_in_every_round(
    stores: Stores, new_user: Callable[[], str], targets: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "USERS_AT_ONCE", 1)
    monkeypatch.setattr(worker, "A_TURN", 1)
    users = sorted(new_user() for _ in range(3))
    for number in range(6):
        put(stores, users[number // 2], number, "graph")
    work_due_changes(stores, at(LATER), targets=("graph",))
    assert [number for _, number, _ in targets.heard] == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize("ahead", [timedelta(hours=3), timedelta(hours=-3)])
def test_a_machine_whose_clock_is_wrong_puts_changes_that_are_due_and_leaves_the_first_try_to_itself(
    stores: Stores, user_id: str, targets: Targets, ahead: timedelta
) -> None:
    """What is due was judged by the clock of whoever put it against that of whoever looked."""
    says = datetime.now(UTC) + ahead
    with stores.tables.transaction(user_id) as connection:
        put_change(connection, user_id, "graph", "told", {"number": 1}, at=says)
        put_change(connection, user_id, "vectors", "told", {"number": 2}, at=says, held_s=LEASE_S)
    assert work_changes_of(stores, user_id) == 1
    assert [number for _, number, _ in targets.heard] == [1]


@pytest.mark.parametrize(
    ("target", "kind", "reference", "lacks"),
    [
        ("memories", "correct_memory", {"memory_id": "0" * 32}, "by"),
        ("memories", "forget_memory", {"memory_id": 5}, "memory_id"),
        ("memories", "remember_message", {}, "message_id, turn"),
        ("vectors", "delete_documents", {"sha256s": "a"}, "sha256s"),
    ],
)
def test_a_change_that_does_not_say_what_it_is_about_is_given_up_by_name_at_once(
    stores: Stores, user_id: str, target: Target, kind: str, reference: dict[str, Any], lacks: str
) -> None:
    """It failed with a KeyError, was tried twenty times, and its letter said `internal`."""
    with stores.tables.transaction(user_id) as connection:
        put_change(connection, user_id, target, kind, reference, at=NOON)
    assert work_changes_of(stores, user_id, at(LATER)) == 1
    [letter] = letters(stores, user_id)
    assert (letter.code, letter.attempts) == ("change_invalid", 1)
    assert letter.message.endswith(lacks)


def test_one_user_whose_store_fails_holds_up_nobody_else(stores: Stores, new_user: Callable[[], str], targets: Targets) -> None:
    one, two = new_user(), new_user()
    put(stores, one, 1, "graph")
    put(stores, two, 2, "graph")
    targets.failures["graph"] = [StoreError("graph_unavailable", "told to")]
    assert work_due_changes(stores, at(LATER), targets=("graph",)) >= 2
    assert len(targets.heard) >= 1
    assert {user_id for user_id in (one, two) if undone(stores, user_id)} in ({one}, {two})


def test_what_is_given_up_leaves_a_letter_and_lets_those_behind_it_go_on(
    stores: Stores, user_id: str, targets: Targets
) -> None:
    transaction = put(stores, user_id, 1, "graph")
    put(stores, user_id, 2, "graph")
    targets.failures["graph"] = [StoreError("graph_refused", "it said no", retryable=False)]
    work_changes_of(stores, user_id, at(LATER))
    [change] = undone(stores, user_id)
    assert (change.given_up_at, change.code, change.reason) == (LATER, "graph_refused", "it said no")
    assert [number for _, number, _ in targets.heard] == [2]
    [letter] = letters(stores, user_id)
    assert (letter.stage, letter.change_id, letter.transaction_id) == ("graph/told", change.change_id, transaction)
    assert (letter.code, letter.message, letter.attempts) == ("graph_refused", "it said no", 1)


def test_one_that_is_put_back_and_done_is_mended_and_one_that_fails_again_says_so(
    stores: Stores, user_id: str, targets: Targets
) -> None:
    put(stores, user_id, 1, "graph")
    refusal = StoreError("graph_refused", "it said no", retryable=False)
    targets.failures["graph"] = [refusal, StoreError("graph_full", "no more", retryable=False)]
    work_changes_of(stores, user_id, at(LATER))
    [change] = undone(stores, user_id)
    for code, left in (("graph_full", 1), (None, 0)):
        with stores.tables.transaction(user_id) as connection:
            assert replay_change(connection, user_id, change.change_id, LATER)
        work_changes_of(stores, user_id, at(LATER))
        assert len(undone(stores, user_id)) == left
        assert [letter.code for letter in letters(stores, user_id)] == ([code] if code else [])
    assert [letter.resolved_at for letter in letters(stores, user_id, resolved=True)] == [LATER]


def test_a_store_that_stays_away_is_given_up_after_the_last_try(stores: Stores, user_id: str, targets: Targets) -> None:
    put(stores, user_id, 1, "graph")
    rules = stores.settings.changes
    targets.failures["graph"] = [StoreError("graph_unavailable", "told to") for _ in range(rules.attempts)]
    when, waited = LATER, []
    for _ in range(rules.attempts):
        assert work_changes_of(stores, user_id, at(when)) == 1
        [change] = undone(stores, user_id)
        if change.given_up_at is None:
            waited.append((change.due_at - when).total_seconds())
            when = change.due_at
    assert change.given_up_at == when
    assert waited[:3] == sorted(waited[:3])
    assert 3600 < sum(waited) < 3 * 3600
    assert [letter.attempts for letter in letters(stores, user_id)] == [rules.attempts]


def test_what_nobody_can_do_because_of_what_was_asked_is_over_and_leaves_no_letter(
    stores: Stores, user_id: str, targets: Targets
) -> None:
    put(stores, user_id, 1, "memories")
    targets.failures["memories"] = [UserInputError("memory_unknown", "no such memory")]
    work_changes_of(stores, user_id, at(LATER))
    assert (undone(stores, user_id), letters(stores, user_id)) == ([], [])


def test_what_was_given_up_and_cannot_be_any_more_closes_its_letter(stores: Stores, user_id: str, targets: Targets) -> None:
    """A correction was given up, and the person corrected the same memory otherwise: replayed, the first could not be and was
    done with, and its letter stood open for ever."""
    put(stores, user_id, 1, "memories")
    gone = UserInputError("memory_superseded", "it holds no more")
    targets.failures["memories"] = [StoreError("memories_refused", "it said no", retryable=False), gone]
    work_changes_of(stores, user_id, at(LATER))
    [letter] = letters(stores, user_id)
    assert letter.change_id is not None
    with stores.tables.transaction(user_id) as connection:
        assert replay_change(connection, user_id, letter.change_id, LATER)
    work_changes_of(stores, user_id, at(LATER))
    assert (undone(stores, user_id), letters(stores, user_id)) == ([], [])


def test_a_kind_that_this_version_does_not_know_is_given_up_by_name(stores: Stores, user_id: str) -> None:
    put(stores, user_id, 1, "graph")
    work_changes_of(stores, user_id, at(LATER))
    assert [letter.code for letter in letters(stores, user_id)] == ["change_unknown"]


def test_a_try_that_took_its_process_along_counts_and_the_change_is_not_lost(
    stores: Stores, user_id: str, targets: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(stores, user_id, 1, "graph")

    class Died(BaseException):
        """As far as the worker can see, what `kill -9` is."""

    def died(_: Change) -> Applier:
        raise Died

    with monkeypatch.context() as killed:
        killed.setattr(worker, "applier_of", died)
        with pytest.raises(Died):
            work_changes_of(stores, user_id, at(LATER))
    assert work_changes_of(stores, user_id, at(LATER)) == 0, "its lease has not run out"
    assert work_changes_of(stores, user_id, at(LATER + timedelta(seconds=LEASE_S))) == 1
    assert len(targets.heard) == 1


def test_a_store_that_is_slow_to_say_so_does_not_undo_what_came_later(
    stores: Stores, user_id: str, targets: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that is wanted anew while its first try is at work is not marked as done by that try."""
    put(stores, user_id, 1, "graph")

    def slow(change: Change) -> Applier:
        def apply(stores: Stores, change: Change) -> Any:
            put(stores, user_id, 1, "graph")
            return targets.applier_of(change)(stores, change)

        return apply

    with monkeypatch.context() as once:
        once.setattr(worker, "applier_of", slow)
        once.setattr(worker, "claim_change", _once(worker.claim_change))
        work_changes_of(stores, user_id, at(LATER))
    assert len(undone(stores, user_id)) == 1
    work_changes_of(stores, user_id, at(LATER))
    assert len(targets.heard) == 2


def _once(claim: Callable[..., Change | None]) -> Callable[..., Change | None]:
    left = [True]

    def claimed(connection: Any, user_id: str, target: Target, now: datetime, lease_s: float) -> Change | None:
        if target != "graph" or not left:
            return None
        left.clear()
        return claim(connection, user_id, target, now, lease_s)

    return claimed


def test_a_worker_that_is_told_to_stop_leaves_the_rest(stores: Stores, user_id: str, targets: Targets) -> None:
    put(stores, user_id, 1, "graph")
    assert work_changes_of(stores, user_id, lambda: datetime.now(UTC), stopped=lambda: True) == 0
    assert len(undone(stores, user_id)) == 1


def test_what_was_done_long_ago_is_forgotten(stores: Stores, user_id: str, targets: Targets) -> None:
    for number in (1, 2):
        transaction = put(stores, user_id, number, "graph")
        work_changes_of(stores, user_id, at(LATER))
        if number == 1:
            first = transaction
    put(stores, user_id, 3, "graph")
    work_changes_of(stores, user_id, at(LATER + timedelta(days=stores.settings.changes.kept_days, seconds=1)))
    with stores.tables.transaction(user_id) as connection:
        assert list_of_transaction(connection, user_id, first) == []


def test_the_stores_of_a_change_are_those_of_the_worker(stores: Stores, user_id: str) -> None:
    """A change that memory cannot take leaves the graph as it was, and says so on its own row."""

    class Away:
        def history(self, *_: object) -> list[object]:
            raise StoreError("memories_unavailable", "told to")

    with stores.tables.transaction(user_id) as connection:
        put_change(connection, user_id, "memories", "forget_memory", {"memory_id": "0" * 32}, at=NOON)
    work_changes_of(replace(stores, memories=Away()), user_id, at(LATER))  # type: ignore[arg-type]
    assert [(item.step, item.code) for item in undone(stores, user_id)] == [("memories/forget_memory", "memories_unavailable")]
