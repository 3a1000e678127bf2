"""A thousand open votes of a hundred voters: what looking at them costs, and what happens when all of them end at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from bench.dao_members import peak_mb, rules_with
from lpm_kernel.dao.audit import audit
from lpm_kernel.dao.ballot_draft import CHOICES
from lpm_kernel.dao.clockwork import turn_clock
from lpm_kernel.dao.events import BallotCast
from lpm_kernel.dao.records import Ballot
from lpm_kernel.dao.service import Dao
from lpm_kernel.records import content_id
from lpm_kernel.stores.dao_ledger import Entry, append, list_proposals, lock_ledger, put_proposal
from lpm_kernel.stores.open import Stores

T = TypeVar("T")


def many(stores: Stores, voters: Sequence[str], proposals: int) -> None:
    """Ballots are appended as the service appends them, a transaction a voter: by single calls it would take half an hour."""
    settings = rules_with(stores.settings.dao, close="deadline")
    dao = Dao(stores.tables, settings)
    already = {proposal.proposal_id for proposal in dao.proposals()}
    print(f"  {proposals} open proposals of {len(voters)} voters")
    _, took = timed(lambda: [dao.propose(voters[n % len(voters)], f"Vote {n}", "A kettle.") for n in range(proposals)])
    _tell("proposed, one by one", took, proposals, "proposal")
    made = [each.proposal_id for each in dao.proposals("voting") if each.proposal_id not in already]
    _, took = timed(lambda: _cast_all(stores, made, voters))
    _tell("ballots appended", took, len(made) * len(voters), "ballot")
    dao.vote(voters[0], made[0], "for")
    _, took = timed(lambda: [dao.vote(voters[1], proposal_id, "for") for proposal_id in made[:50]])
    _tell("one more ballot, by the service", took, len(made[:50]), "ballot")

    before = peak_mb()
    fresh = Dao(stores.tables, settings)
    dashboard, cold = timed(fresh.dashboard)
    assert len(dashboard.open) >= proposals
    _tell("dashboard(), first in a process", cold)
    _tell("dashboard(), again", timed(fresh.dashboard)[1])
    _tell("standing() of one", timed(lambda: fresh.standing(made[0]))[1])
    _tell("due(), none is", timed(fresh.due)[1])
    took_mb = max(0.0, peak_mb() - before)
    print(f"    {'memory that the dashboard took':34} {took_mb:9.0f} MB, peak of the process {peak_mb():.0f} MB")

    over = Dao(stores.tables, settings, clock=lambda: datetime.now(UTC) + timedelta(hours=settings.voting_hours, minutes=1))
    due, took = timed(over.due)
    assert set(made) <= set(due)
    _tell(f"due(), {len(due)} are", took)
    turn, took = timed(lambda: turn_clock(over, None))
    assert len(turn.resolved) == len(due), turn.failed
    _tell("all of them resolved", took, len(turn.resolved), "resolution")
    report, took = timed(lambda: audit(over))
    _tell(f"audit of {report.events} events", took)
    print(f"    ledger {'whole' if report.ok else f'BROKEN: {report.broken[:3]}'}, peak of the process {peak_mb():.0f} MB")


def timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    found = work()
    return found, time.perf_counter() - began


def _tell(what: str, seconds: float, count: int = 0, noun: str = "") -> None:
    each = f"   {1000 * seconds / count:9.2f} ms a {noun}" if count else ""
    print(f"    {what:34} {seconds:9.3f} s{each}")


def _cast_all(stores: Stores, proposal_ids: Sequence[str], voters: Sequence[str]) -> None:
    from sqlalchemy import text

    newest: dict[str, int] = {}
    for number, voter in enumerate(voters):
        with stores.tables.transaction(voter) as connection:
            connection.execute(text("set local role twin_operator"))
            lock_ledger(connection)
            at = datetime.now(UTC)
            ballots = [
                Ballot(content_id("bench", voter, each), each, voter, CHOICES[(number + place) % 3], "human", at, at)
                for place, each in enumerate(proposal_ids)
            ]
            for event in append(connection, [Entry(at, voter, BallotCast(ballot)) for ballot in ballots]):
                assert isinstance(event.happening, BallotCast)
                newest[event.happening.ballot.proposal_id] = event.seq
    with stores.tables.operator_transaction() as connection:
        lock_ledger(connection)
        for row in list_proposals(connection, ["voting"]):
            if row.proposal_id in newest:
                put_proposal(connection, replace(row, last_seq=newest[row.proposal_id]))
