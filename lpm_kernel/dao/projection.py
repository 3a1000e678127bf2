"""The ledger told to the temporal graph, in order and each event once: the ledger is its own outbox.

Belongs here: how far the graph has heard, trying again later, and taking out who leaves.
Does not belong here: what an event is as a fact (`shared_facts.py`), and when this runs (`clockwork.py`).

A graph that is away holds nothing up: the events wait in the ledger. What was written before its cursor could move is written
again and changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from lpm_kernel.dao.events import Event
from lpm_kernel.dao.session import Session
from lpm_kernel.dao.shared_facts import SharedFact, delegation_fact, facts_of
from lpm_kernel.errors import StoreError, TwinError
from lpm_kernel.stores.dao_ledger import events_after, events_by
from lpm_kernel.stores.dao_members import list_members
from lpm_kernel.stores.dao_projections import GRAPH, Cursor, lock_cursor, move_cursor, stage_of, try_cursor
from lpm_kernel.stores.dead_letters import keep_shared_letter
from lpm_kernel.stores.graph import SHARED
from lpm_kernel.sync.retry import pause_s

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lpm_kernel.dao.service import Dao
    from lpm_kernel.stores.graph import Graph
    from lpm_kernel.stores.tables import Tables

TARGET = GRAPH
BATCH = 500
FIRST_WAIT_S, LONGEST_WAIT_S = 2, 300
"""After a try that failed, twice as long after each further one, as `sync/retry.py` has it."""
LETTER_AFTER = 20
"""Failures in a row, from which it is a dead letter too. It is tried on all the same: no event may be left out."""


def project_due(dao: Dao, graph: Graph) -> int:
    """Tell the graph what it has not heard; how many events. 0 where somebody else is telling it.

    Raises: StoreError of the graph, when it is noted and the next try has its time; `projection_waits` (retryable) before then.
    """
    told = 0
    while True:
        try:
            events = _tell_batch(dao, graph)
        except TwinError as error:
            if error.code != "projection_waits":
                note_failure(dao, TARGET, error.code)
            raise
        told += events
        if events < BATCH:
            return told


def _tell_batch(dao: Dao, graph: Graph) -> int:
    with dao.session() as session:
        cursor = try_cursor(session.connection, TARGET)
        if cursor is None:
            return 0
        wait_for(cursor, dao.clock(), "the graph")
        events = events_after(session.connection, cursor.last_seq, BATCH)
        if events:
            members = frozenset(list_members(session.connection))
            facts = [each for each in _facts(session, events) if each.persons <= members]
            if ended := [each.fact for each in facts if each.ends]:
                graph.forget_facts(SHARED, ended)
            graph.write_facts(SHARED, [each.fact for each in facts])
            move_cursor(session.connection, replace(cursor, last_seq=events[-1].seq, attempts=0, due_at=None, code=None))
        return len(events)


def _facts(session: Session, events: Iterable[Event]) -> list[SharedFact]:
    return [fact for event in events for fact in facts_of(event, session.find, session.delegations)]


def tell_again(dao: Dao, graph: Graph) -> int:
    """The whole ledger told to the graph from its first event on: for a graph that was emptied, or is another. How many events.

    What is there already is written again and changes nothing. Raises: as `project_due`; what is not told then is told by it.
    """
    with dao.session() as session:
        cursor = lock_cursor(session.connection, TARGET)
        move_cursor(session.connection, replace(cursor, last_seq=0, attempts=0, due_at=None, code=None))
    return project_due(dao, graph)


def wait_for(cursor: Cursor, at: datetime, whom: str) -> None:
    """Raises: StoreError `projection_waits` (retryable) until the next try has its time."""
    wait_s = (cursor.due_at - at).total_seconds() if cursor.due_at else 0.0
    if wait_s > 0:
        raise StoreError(
            "projection_waits",
            f"{whom} failed {cursor.attempts} times ({cursor.code}): it is tried again later",
            retry_after_s=wait_s,
        )


def note_failure(dao: Dao, target: str, code: str) -> None:
    """Twice as long a wait as after the failure before."""
    with dao.session() as session:
        cursor = try_cursor(session.connection, target)
        if cursor is not None:
            attempts, at = cursor.attempts + 1, dao.clock()
            due_at = at + timedelta(seconds=pause_s(attempts, FIRST_WAIT_S, LONGEST_WAIT_S, target))
            move_cursor(session.connection, replace(cursor, attempts=attempts, due_at=due_at, code=code))
            if attempts >= LETTER_AFTER:
                told = f"the ledger does not reach {target} since event {cursor.last_seq}; it is tried on"
                keep_shared_letter(session.connection, stage_of(target), attempts, code, told, at)


def try_again(tables: Tables, stage: str, at: datetime) -> bool:
    """Let the target of such a letter be told at once; False where nothing has failed."""
    target = stage.partition("/")[0]
    with tables.operator_transaction() as connection:
        cursor = lock_cursor(connection, target)
        if cursor.attempts:
            move_cursor(connection, replace(cursor, due_at=at))
        return cursor.attempts > 0


def forget_member(dao: Dao, graph: Graph, user_id: str) -> int:
    """Take out of the graph what all could know of somebody, who is on record as going: nothing of them is told from then on.

    How many facts. Idempotent. Raises: StoreError of the graph.
    """
    with dao.session() as session:
        lock_cursor(session.connection, TARGET)  # a try that took them for a member is over
        own = events_by(session.connection, user_id)
        given = [each for each in session.delegations.values() if user_id in (each.delegator, each.delegate)]
        named = [*_facts(session, own), *(delegation_fact(each, session.find) for each in given)]
        facts = [each.fact for each in named if user_id in each.persons]
        return graph.forget_facts(SHARED, list(dict.fromkeys(facts))) if facts else 0
