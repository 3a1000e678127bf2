"""Tallies a second of one vote: ours in Python, beside the same by pandas and by PostgreSQL, which know no delegation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from bench.dao_members import rules_with
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.records import Delegation, Scope
from lpm_kernel.dao.service import Dao
from lpm_kernel.dao.tally import tally
from lpm_kernel.stores.open import Stores

Weights = tuple[int, int, int]

IN_SQL = """
select choice, count(*) from (
    select distinct on (payload -> 'ballot' ->> 'voter') payload -> 'ballot' ->> 'choice' as choice
    from dao_event where proposal_id = :proposal_id and kind = 'ballot_cast'
    order by payload -> 'ballot' ->> 'voter', payload -> 'ballot' ->> 'cast_at' desc, payload -> 'ballot' ->> 'ballot_id' desc
) newest group by choice
"""


def tallies(stores: Stores, voters: Sequence[str], seconds: float) -> None:
    """Every way counts the same vote, in which each tenth voter changed their mind, and all must agree."""
    dao = Dao(stores.tables, rules_with(stores.settings.dao, close="deadline"))
    proposal = dao.propose(voters[0], "What is counted", "A kettle.")
    for number, voter in enumerate(voters):
        dao.vote(voter, proposal.proposal_id, "against" if number % 3 else "for")
    for voter in voters[::10]:
        dao.vote(voter, proposal.proposal_id, "abstain")
    proposal = dao.proposal(proposal.proposal_id)
    at = datetime.now(UTC)

    def ours(delegations: dict[str, Delegation]) -> Weights:
        sums = tally(proposal, delegations, at)
        return sums.for_, sums.against, sums.abstain

    ways: dict[str, Callable[[], Weights]] = {
        "ours": lambda: ours({}),
        "pandas, from the same records": _by_pandas(proposal),
        "PostgreSQL, from the ledger": _by_sql(stores, proposal.proposal_id),
    }
    print(f"  tallies of one vote of {len(voters)} voters and {len(proposal.ballots)} ballots a second")
    counted = {way: (_rate(work, seconds), work()) for way, work in ways.items()}
    if len({weights for _, weights in counted.values()}) != 1:
        raise RuntimeError(f"the ways do not agree: {counted}")
    for way, (rate, _) in counted.items():
        print(f"    {way:34} {rate:9.0f}   {rate / counted['ours'][0]:6.2f}x")
    third = len(voters) // 3
    away = {*voters[:third]}
    present = tuple(ballot for ballot in proposal.ballots if ballot.voter not in away)
    carried = _with_delegations(proposal, present, voters, third, at)
    print(f"    {f'ours, {third} of them by a delegate':34} {_rate(carried, seconds):9.0f}")


def _with_delegations(
    proposal: ProposalState, present: tuple[Any, ...], voters: Sequence[str], third: int, at: datetime
) -> Callable[[], Weights]:
    """A third of the voters have handed their weight on, half of them by way of another."""
    from dataclasses import replace

    scope, since = Scope("all"), proposal.drafted_at
    given = {
        f"d{n}": Delegation(f"d{n}", voters[n], voters[n - 1] if n % 2 else voters[third + n], scope, since)
        for n in range(third)
    }
    fewer = replace(proposal, ballots=present)

    def work() -> Weights:
        sums = tally(fewer, given, at)
        assert sums.represented == third
        return sums.for_, sums.against, sums.abstain

    return work


def _by_pandas(proposal: ProposalState) -> Callable[[], Weights]:
    import pandas as pd

    def work() -> Weights:
        rows = [(each.voter, each.cast_at, each.ballot_id, each.choice) for each in proposal.ballots]
        frame = pd.DataFrame(rows, columns=["voter", "cast_at", "ballot_id", "choice"])
        newest = frame.sort_values(["cast_at", "ballot_id"]).drop_duplicates("voter", keep="last")
        weights: Any = newest["voter"].map(proposal.electorate).groupby(newest["choice"]).sum()
        return int(weights.get("for", 0)), int(weights.get("against", 0)), int(weights.get("abstain", 0))

    return work


def _by_sql(stores: Stores, proposal_id: str) -> Callable[[], Weights]:
    from sqlalchemy import text

    def work() -> Weights:
        with stores.tables.operator_transaction() as connection:
            sums = {row[0]: int(row[1]) for row in connection.execute(text(IN_SQL), {"proposal_id": proposal_id})}
        return sums.get("for", 0), sums.get("against", 0), sums.get("abstain", 0)

    return work


def _rate(work: Callable[[], object], seconds: float) -> float:
    work()
    began, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < seconds:
        work()
        done += 1
    return done / spent
