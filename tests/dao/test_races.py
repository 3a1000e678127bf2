"""Many at once, each a process of its own with its own connection: one resolution, no ballot lost, one chain.

Processes and not threads: what one of them remembers, the others must not need.
"""

from __future__ import annotations

import os
import signal
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from lpm_kernel.dao.audit import audit
from lpm_kernel.dao.events import BallotCast, ProposalResolved
from lpm_kernel.dao.service import Dao
from tests.dao.ledgers import Ledger
from tests.dao.racers import close_vote, racers, run_all, stand_still, vote_all

pytestmark = pytest.mark.slow


def resolutions(ledger: Ledger, dao: Dao) -> tuple[int, int]:
    """How many events, and how many rows."""
    events = [event for event in dao.events_after(0, 10_000) if isinstance(event.happening, ProposalResolved)]
    with ledger.tables.operator_transaction() as connection:
        return len(events), connection.execute(text("select count(*) from dao_resolution")).scalar_one()


@pytest.fixture
def dao(ledger: Ledger) -> Dao:
    ledger.join("ada", "ben", "cleo")
    return ledger.dao()


def past_its_end(dao: Dao) -> tuple[str, datetime]:
    """A vote that its members did not decide, and a moment after the end of its extension."""
    proposal_id = dao.propose("ada", "Benches", "The park needs its benches back.").proposal_id
    dao.vote("ada", proposal_id, "for")
    dao.vote("ben", proposal_id, "against")
    ends_at = dao.proposal(proposal_id).ends_at
    assert ends_at is not None
    return proposal_id, ends_at + timedelta(hours=20)


def test_of_sixteen_processes_that_close_the_same_vote_one_does(ledger: Ledger, dao: Dao) -> None:
    proposal_id, at = past_its_end(dao)
    said = run_all(close_vote, [(ledger.app_url, dao.settings, proposal_id, at)] * 16)
    assert sorted(count > 0 for count, *_ in said) == [False] * 15 + [True]
    assert {tuple(seen) for _, *seen in said} == {("failed", at)}
    assert resolutions(ledger, dao) == (1, 1)
    assert audit(dao).broken == ()


@pytest.mark.parametrize("place", ["counted", "event", "row", "all"])
def test_a_process_that_is_killed_while_it_closes_a_vote_leaves_the_end_to_the_next(
    ledger: Ledger, dao: Dao, place: str
) -> None:
    """Wherever: after the count, between the event and the row of its resolution, before the proposal's row, before the end of
    the transaction."""
    proposal_id, at = past_its_end(dao)
    dao.advance(proposal_id, dao.proposal(proposal_id).ends_at)  # reminders are sent, and only the end is left
    before = dao.events_after(0, 1000)
    with racers(stand_still, [(ledger.app_url, dao.settings, proposal_id, at, place)]) as (racer,):
        racer.pipe.send("go")
        assert racer.hears() == place
        assert resolutions(ledger, dao) == (0, 0)
        os.kill(racer.process.pid or 0, signal.SIGKILL)
        racer.process.join(20)
        assert racer.process.exitcode == -signal.SIGKILL
        assert dao.events_after(0, 1000) == before
        said = run_all(close_vote, [(ledger.app_url, dao.settings, proposal_id, at)] * 2)
    assert sorted(count > 0 for count, *_ in said) == [False, True]
    assert resolutions(ledger, dao) == (1, 1)
    assert audit(dao).broken == ()


@pytest.mark.parametrize("close", ["deadline", "decided"])
def test_a_hundred_who_vote_at_once_from_five_processes_are_all_heard(ledger: Ledger, close: str) -> None:
    voters = ledger.join(*(f"voter-{number:03}" for number in range(100)))
    dao = ledger.dao(close=close)
    proposal_id = dao.propose(voters[0], "Benches", "The park needs its benches back.").proposal_id
    choices = ("for", "against", "abstain", "for", "for") if close == "deadline" else ("for",) * 5
    given = [(ledger.app_url, dao.settings, proposal_id, voters[first::5], choice) for first, choice in enumerate(choices)]
    refused = [code for codes in run_all(vote_all, given) for code in codes]
    cast = [event for event in dao.events_after(0, 1000) if isinstance(event.happening, BallotCast)]
    state = dao.proposal(proposal_id)
    if close == "deadline":
        assert refused == []
        tally = dao.standing(proposal_id).tally
        assert (tally.for_, tally.against, tally.abstain, tally.voters) == (60, 20, 20, 100)
        assert state.status == "voting"
    else:
        assert state.resolution is not None
        assert (state.status, state.resolution.tally.for_) == ("passed", len(cast)), "decided by the first two thirds"
        assert set(refused) <= {"voting_closed"}
        assert resolutions(ledger, dao) == (1, 1)
    assert len({event.actor for event in cast}) == len(cast) == 100 - len(refused)
    report = audit(dao)
    assert (report.broken, report.ballots) == ((), len(cast))
