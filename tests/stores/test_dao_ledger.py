"""The ledger in PostgreSQL: it only grows, in one chain, and nobody writes in another's name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from lpm_kernel.dao.events import Delegated, Event, Happening, ProposalOpened, ProposalResolved, VotingStarted, hash_of
from lpm_kernel.dao.records import Delegation, Resolution, Scope, Tally
from lpm_kernel.errors import StoreError
from lpm_kernel.stores import dao_ledger, dao_projections, dao_words
from lpm_kernel.stores.dao_ledger import Entry, ProposalRow, append, lock_ledger
from lpm_kernel.stores.dao_projections import Cursor
from tests.dao.ledgers import NOON, Ledger, own_ledger
from tests.embedded.fixtures import EngineHome

OPENED = ProposalOpened("p-1")
STARTED = VotingStarted("p-1", {"ada": 1, "ben": 2}, NOON)
GIVEN = Delegated(Delegation("d", "ada", "ben", Scope("proposal", "p-1"), NOON))
RESOLVED = ProposalResolved(Resolution("p-1", "passed", "threshold_met", "decided", Tally(3, 0, 0, 3, 2, 0), "r1", NOON))


@pytest.fixture(scope="module")
def module_ledger(engine_home: EngineHome) -> Any:
    with own_ledger(engine_home) as made:
        yield made


@pytest.fixture
def ledger(module_ledger: Ledger) -> Ledger:
    module_ledger.empty()
    module_ledger.join("ada", "ben")
    return module_ledger


def written(ledger: Ledger, *happenings: Happening, actor: str = "clock", **asked: str) -> list[Event]:
    with ledger.tables.operator_transaction() as connection:
        lock_ledger(connection)
        return append(connection, [Entry(NOON, actor, each, **asked) for each in happenings])  # type: ignore[arg-type]


def asked(ledger: Ledger, question: Callable[..., Any], *values: Any) -> Any:
    with ledger.tables.operator_transaction() as connection:
        return question(connection, *values)


def refused(ledger: Ledger, attempt: Callable[[], object]) -> str:
    before = asked(ledger, dao_ledger.events_after, 0, 100)
    with pytest.raises(StoreError) as caught:
        attempt()
    assert caught.value.code == "tables_refused"
    assert asked(ledger, dao_ledger.events_after, 0, 100) == before
    return caught.value.message


def test_events_come_back_as_they_were_written_in_one_chain(ledger: Ledger) -> None:
    events = [*written(ledger, OPENED, STARTED), *written(ledger, GIVEN), *written(ledger, RESOLVED)]
    assert [event.seq for event in events] == [1, 2, 3, 4]
    assert asked(ledger, dao_ledger.events_after, 0, 100) == events
    assert asked(ledger, dao_ledger.events_after, 1, 2) == events[1:3]
    assert asked(ledger, dao_ledger.last_seq) == 4
    previous = dao_ledger.NO_HASH
    for event in events:
        assert event.previous_hash == previous
        assert event.hash == hash_of(event.seq, event.at, event.actor, event.happening, previous)
        previous = event.hash


def test_what_is_about_a_proposal_and_what_bears_on_all_is_told_apart(ledger: Ledger) -> None:
    events = written(ledger, OPENED, GIVEN, ProposalOpened("p-2"), STARTED)
    assert list(asked(ledger, lambda c: list(dao_ledger.events_of(c, ["p-1"])))) == [events[0], events[3]]
    assert list(asked(ledger, lambda c: list(dao_ledger.events_of(c, ["p-1", "p-2"], 1)))) == [events[2], events[3]]
    assert asked(ledger, dao_ledger.events_of_members) == [events[1]]
    assert asked(ledger, dao_ledger.events_of_members, 2) == []


@pytest.mark.parametrize(
    "statement", ["update dao_event set actor = 'eve'", "delete from dao_event", "truncate dao_event cascade"]
)
def test_not_even_the_owner_changes_what_is_written(ledger: Ledger, statement: str) -> None:
    written(ledger, OPENED)
    with pytest.raises(Exception, match="the ledger only grows"), ledger.as_owner() as connection:
        connection.execute(text(statement))
    with pytest.raises(StoreError, match="permission denied"), ledger.tables.transaction("ada") as connection:
        connection.execute(text(statement))
    with pytest.raises(StoreError, match="permission denied"), ledger.tables.operator_transaction() as connection:
        connection.execute(text(statement))
    assert asked(ledger, dao_ledger.last_seq) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "alter table dao_event disable trigger only_grows",
        "set local session_replication_role = replica",
        "delete from dao_resolution",
        "update dao_resolution set outcome = 'failed'",
        "update dao_event set seq = seq",
        "delete from dao_proposal",
        "delete from dao_projection",
    ],
)
def test_the_application_opens_no_other_way(ledger: Ledger, statement: str) -> None:
    for transaction in (ledger.tables.operator_transaction(), ledger.tables.transaction("ada")):
        with pytest.raises(StoreError), transaction as connection:
            connection.execute(text(statement))


def test_nobody_writes_in_anothers_name(ledger: Ledger) -> None:
    assert "row-level security" in refused(ledger, lambda: written(ledger, OPENED, actor="ben"))

    def as_ada(actor: str) -> None:
        with ledger.tables.transaction("ada") as connection:
            connection.execute(text("set local role twin_operator"))
            append(connection, [Entry(NOON, actor, OPENED)])

    assert "row-level security" in refused(ledger, lambda: as_ada("ben"))
    as_ada("ada")

    def without_the_role() -> None:
        with ledger.tables.transaction("ada") as connection:
            append(connection, [Entry(NOON, "ada", OPENED)])

    assert "permission denied" in refused(ledger, without_the_role)


def test_a_fork_of_the_chain_is_refused_by_the_database(ledger: Ledger) -> None:
    """Should anybody append without the lock."""
    events = written(ledger, OPENED)
    forked = (
        "insert into dao_event (seq, at, actor, kind, payload, previous_hash, hash) "
        "values (:seq, now(), 'clock', 'x', '{}', :previous, 'other')"
    )
    for seq, previous in ((1, ""), (3, events[0].hash), (2, "elsewhere")):

        def fork(seq: int = seq, previous: str = previous) -> None:
            with ledger.tables.operator_transaction() as connection:
                connection.execute(text(forked), {"seq": seq, "previous": previous})

        assert "does not follow" in refused(ledger, fork)


def test_two_who_append_at_once_without_the_lock_do_not_both(ledger: Ledger) -> None:
    together = threading.Barrier(2)

    def write() -> bool:
        try:
            with ledger.tables.operator_transaction() as connection:
                together.wait()
                append(connection, [Entry(NOON, "clock", RESOLVED)])
        except StoreError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        done = sorted(future.result() for future in [pool.submit(write) for _ in range(2)])
    assert done == [False, True]
    assert asked(ledger, dao_ledger.last_seq) == 1


def test_who_stands_still_with_the_lock_is_cut_off_and_the_others_go_on(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped while it held the lock would keep everybody from voting."""
    monkeypatch.setattr(dao_ledger, "IDLE_S", 1)

    def stand_still() -> None:
        with ledger.tables.operator_transaction() as connection:
            lock_ledger(connection)
            written(ledger, OPENED)  # waits for the lock that this one holds, until this one is cut off
            append(connection, [Entry(NOON, "clock", OPENED)])

    with pytest.raises(StoreError) as caught:
        stand_still()
    assert (caught.value.code, caught.value.retryable) == ("tables_unavailable", True)
    assert asked(ledger, dao_ledger.last_seq) == 1


def test_who_waits_too_long_for_the_lock_is_told_to_try_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dao_ledger, "WAIT_S", 1)
    with ledger.tables.operator_transaction() as connection:
        lock_ledger(connection)
        with pytest.raises(StoreError) as caught:
            written(ledger, OPENED)
    assert (caught.value.code, caught.value.retryable) == ("tables_locked", True)


def test_a_second_resolution_is_refused_and_its_event_with_it(ledger: Ledger) -> None:
    written(ledger, RESOLVED)
    assert "dao_resolution_pkey" in refused(ledger, lambda: written(ledger, RESOLVED))
    assert asked(ledger, dao_ledger.newest_resolutions, 10) == [RESOLVED.resolution]
    assert asked(ledger, dao_ledger.every_resolution) == [(1, RESOLVED.resolution)]


def test_a_key_is_taken_once_by_each_actor(ledger: Ledger) -> None:
    (event,) = written(ledger, OPENED, key="k", request_sha256="r")
    assert asked(ledger, dao_ledger.find_by_key, "clock", "k") == (event, "r")
    assert asked(ledger, dao_ledger.find_by_key, "ada", "k") is None
    refused(ledger, lambda: written(ledger, STARTED, key="k", request_sha256="r"))
    with ledger.tables.transaction("ada") as connection:
        connection.execute(text("set local role twin_operator"))
        append(connection, [Entry(NOON, "ada", STARTED, "k", "r2")])


def test_members_read_the_ledger_and_without_a_user_nobody_does(ledger: Ledger) -> None:
    written(ledger, OPENED)
    with ledger.tables.transaction("ben") as connection:
        assert dao_ledger.last_seq(connection) == 1
    with ledger.tables.engine.begin() as connection:
        assert connection.execute(text("select count(*) from dao_event")).scalar_one() == 0
    with ledger.as_owner() as connection:
        assert connection.execute(text("select count(*) from dao_event")).scalar_one() == 0


def test_rows_of_proposals_are_found_when_they_are_due(ledger: Ledger) -> None:
    def row(name: str, hours: float | None, **changed: Any) -> ProposalRow:
        due = None if hours is None else NOON.replace(hour=int(hours))
        return ProposalRow(name, "ada", changed.get("topic", "parks"), changed.get("status", "voting"), NOON, due, 1, NOON)

    rows = [row("a", 3), row("b", 1), row("c", None, status="passed"), row("d", 2, topic="roads")]
    with ledger.tables.operator_transaction() as connection:
        for each in (row("b", 9), *rows):
            dao_ledger.put_proposal(connection, each)
        assert dao_ledger.list_proposals(connection) == rows
        assert dao_ledger.list_proposals(connection, ("passed",)) == [rows[2]]
        assert dao_ledger.due_proposals(connection, NOON.replace(hour=2)) == ["b", "d"]
        assert dao_ledger.first_due(connection) == NOON.replace(hour=1)
        dao_ledger.make_due(connection, NOON.replace(hour=0), topic="roads")
        dao_ledger.make_due(connection, NOON.replace(hour=0), proposal_id="c")
        assert dao_ledger.due_proposals(connection, NOON.replace(hour=0)) == ["d"]
        assert dao_ledger.is_proposal(connection, "a")
        assert not dao_ledger.is_proposal(connection, "z")


def test_words_are_their_authors_to_write_and_everybodys_to_read(ledger: Ledger) -> None:
    with ledger.tables.transaction("ada") as connection:
        connection.execute(text("set local role twin_operator"))
        digest = dao_words.keep_words(connection, "ada", "My back hurts.")
        assert dao_words.keep_words(connection, "ada", "My back hurts.") == digest
    with pytest.raises(StoreError, match="row-level security"), ledger.tables.transaction("ben") as connection:
        dao_words.keep_words(connection, "ada", "I never said so.")
    assert asked(ledger, dao_words.words_of, [digest]) == {("ada", digest): dao_words.Words("My back hurts.")}
    with ledger.tables.transaction("ben") as connection:
        assert dao_words.words_of(connection, [digest]) == {}
        assert dao_words.erase_words(connection, "ada") == 0
    with ledger.tables.transaction("ada") as connection:
        assert dao_words.erase_words(connection, "ada") == 1


def test_a_cursor_begins_at_nothing_and_is_moved(ledger: Ledger) -> None:
    moved = Cursor("graph", 4, 2, NOON, "graph_unavailable")
    with ledger.tables.operator_transaction() as connection:
        assert dao_projections.lock_cursor(connection, "graph") == Cursor("graph")
        dao_projections.move_cursor(connection, moved)
    with ledger.tables.operator_transaction() as connection:
        assert dao_projections.lock_cursor(connection, "graph") == moved
        assert [cursor.target for cursor in dao_projections.list_cursors(connection)] == ["graph"]


def test_who_listens_hears_at_once_what_was_there_and_what_comes(ledger: Ledger) -> None:
    written(ledger, OPENED)
    stop, heard = threading.Event(), list[int]()
    told = threading.Semaphore(0)

    def listens() -> None:
        for seq in dao_ledger.listen(ledger.tables, stop.is_set, look_every_s=0.2):
            heard.append(seq)
            told.release()

    thread = threading.Thread(target=listens)
    thread.start()
    try:
        assert told.acquire(timeout=20)
        written(ledger, STARTED, GIVEN)
        assert told.acquire(timeout=20)
        assert heard == [1, 3]
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()


def test_who_listens_is_heard_again_after_the_connection_was_cut(ledger: Ledger) -> None:
    stop, heard = threading.Event(), list[int]()
    told = threading.Semaphore(0)

    def listens() -> None:
        for seq in dao_ledger.listen(ledger.tables, stop.is_set, look_every_s=0.2):
            heard.append(seq)
            told.release()

    thread = threading.Thread(target=listens)
    thread.start()
    try:
        assert told.acquire(timeout=20)
        with ledger.tables.engine.begin() as connection:
            connection.execute(
                text(
                    "select pg_terminate_backend(pid) from pg_stat_activity "
                    "where usename = current_user and query ilike 'listen%' and pid <> pg_backend_pid()"
                )
            )
        written(ledger, OPENED)
        assert told.acquire(timeout=20)
        assert heard == [0, 1]
    finally:
        stop.set()
        thread.join(20)
