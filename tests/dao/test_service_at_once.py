"""The DAO's service where ballots come late or out of order, and where much is read or written at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Connection, text

from lpm_kernel.dao.audit import audit
from lpm_kernel.dao.events import BallotRefused, Event
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.records import Scope
from lpm_kernel.dao.service import Dao
from lpm_kernel.dao.session import Session
from lpm_kernel.errors import VoteError
from lpm_kernel.stores import dao_ledger
from lpm_kernel.stores.dao_ledger import Entry, ProposalRow
from tests.dao.five import FIVE, benches, code_of, kinds
from tests.dao.ledgers import Clock, Ledger


@pytest.fixture
def dao(ledger: Ledger, clock: Clock) -> Dao:
    ledger.join(*FIVE)
    return ledger.dao(clock)


def test_a_ballot_that_comes_too_late_is_a_line_of_the_audit_and_no_more(dao: Dao) -> None:
    name = benches(dao)
    for voter in FIVE[:4]:
        dao.vote(voter, name, "for")
    for voter in ("eve", "eve", "eve", "ada"):
        with pytest.raises(VoteError) as caught:
            dao.vote(voter, name, "against", reasons="I was away.")
        assert code_of(caught) == "voting_closed"
    refused = [event for event in dao.events_after(0, 100) if isinstance(event.happening, BallotRefused)]
    assert [(event.actor, event.happening) for event in refused] == [
        (voter, BallotRefused(name, voter, "voting_closed")) for voter in ("eve", "ada")
    ], "one a voter, without what they chose"
    assert {ballot.voter for ballot in dao.proposal(name).ballots} == set(FIVE[:4])
    assert audit(dao).broken == ()


def test_a_ballot_that_is_older_than_what_its_voter_cast_since_is_a_line_too(ledger: Ledger, clock: Clock) -> None:
    ledger.join(*FIVE)
    dao = ledger.dao(clock, close="deadline")
    name = benches(dao)
    dao.vote("ada", name, "for")
    with pytest.raises(VoteError) as caught:
        dao.vote("ada", name, "against", cast_at=clock.at - timedelta(minutes=1))
    assert code_of(caught) == "ballot_late"
    assert kinds(dao)[-1] == "ballot_refused"
    assert audit(dao).broken == ()


def test_a_clock_that_is_behind_makes_no_late_quorum_an_early_one(ledger: Ledger, clock: Clock) -> None:
    ledger.join(*FIVE)
    dao = ledger.dao(clock, close="deadline", late_quorum_hours=12)
    name = benches(dao)
    dao.vote("ada", name, "for")
    dao.vote("ben", name, "for")
    clock.moves(hours=60, seconds=30)
    dao.vote("cleo", name, "for", cast_at=clock.at - timedelta(minutes=2))
    assert dao.proposal(name).extended
    assert audit(dao).broken == ()


def test_what_is_asked_in_a_ballots_own_transaction_is_asked_as_its_voter(dao: Dao) -> None:
    name, seen = benches(dao), list[str]()

    def not_any_more(connection: Connection) -> None:
        seen.extend(connection.execute(text("select user_id from app_user")).scalars())
        raise VoteError("consent_changed", "not any more")

    with pytest.raises(VoteError) as caught:
        dao.vote("ada", name, "for", allowed=not_any_more)
    assert (code_of(caught), seen) == ("consent_changed", ["ada"])
    assert dao.proposal(name).ballots == ()
    assert dao.vote("ada", name, "for", allowed=lambda _: None).ballot.voter == "ada"


def test_a_dashboard_reads_again_what_has_changed_or_may_by_time(
    dao: Dao, ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a thousand votes each look read all from the ledger."""
    names = [dao.propose("ada", f"Number {number}", "A bench.").proposal_id for number in range(5)]
    dao.dashboard()
    read: list[str] = []
    read_many = Session.read_many

    def counted(session: Session, rows: Sequence[ProposalRow]) -> list[ProposalState]:
        read.extend(row.proposal_id for row in rows)
        return read_many(session, rows)

    def looks(*expected: str) -> None:
        read.clear()
        assert dao.dashboard() == replace(ledger.dao(clock).dashboard(), at=clock.at)
        assert sorted(read) == sorted([*expected, *names]), "the other one has read nothing yet"

    monkeypatch.setattr(Session, "read_many", counted)
    looks()
    dao.vote("ada", names[1], "for")
    looks(names[1])
    clock.moves(minutes=1)
    looks()
    dao.vote("ben", names[2], "for", cast_by="twin", confidence=0.9)
    clock.moves(hours=11)
    looks(names[2])
    clock.moves(hours=1)
    looks(names[2])
    dao.delegate("cleo", "ada", Scope("all"))
    looks(*names)


def test_all_proposals_are_read_a_few_at_once(dao: Dao, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lpm_kernel.dao.reading.BATCH", 2)
    names = sorted(dao.propose("ada", f"Number {number}", "A bench.").proposal_id for number in range(5))
    batches = [[each.proposal_id for each in batch] for batch in dao.batches()]
    assert batches == [names[:2], names[2:4], names[4:]]
    assert [[each.proposal_id for each in batch] for batch in dao.batches({names[3]})] == [[names[3]]]


def test_what_happens_at_once_is_written_at_once(dao: Dao, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    append_many = dao_ledger.append_many

    def counted(connection: Connection, events: Sequence[Event], entries: Sequence[Entry]) -> None:
        written.append(len(events))
        append_many(connection, events, entries)

    monkeypatch.setattr(dao_ledger, "append_many", counted)
    benches(dao)
    assert written == [3], "drafted, opened, begun"
