"""How often twins chose as their people: what is compared, what is counted beside it, and how sure the share is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lpm_kernel.dao.alignment import Alignment, Pair, count_alignment, measure_alignment, pairs_of, report_of
from lpm_kernel.dao.ballot_draft import BallotDraft, Choice
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.records import Ballot
from lpm_kernel.dao.rules import Rules
from lpm_kernel.stores.ballot_drafts import keep_twin_draft
from tests.dao.ledgers import NOON, Clock, Ledger
from tests.dao.voting import START, ballot


def proposal(*ballots: Ballot, vetoed: tuple[str, ...] = ()) -> ProposalState:
    state = ProposalState("p", "Benches", "The park gets benches.", "ada", "park", Rules(), None, START)
    return replace(state, ballots=ballots, vetoed=frozenset(vetoed))


def test_the_newest_of_each_is_compared() -> None:
    cast = proposal(
        ballot("ben", "against", 1, cast_by="twin"),
        ballot("ben", "for", 2, cast_by="twin"),
        ballot("ben", "against", 3),
        ballot("ben", "for", 4),
        ballot("cleo", "against", 5),
    )
    assert pairs_of("ben", [cast], {"p": "against"}) == [Pair("ben", "p", "for", "for", vetoed=False)]
    assert pairs_of("cleo", [cast], {}) == []
    assert pairs_of("cleo", [cast], {"p": "for"}) == [Pair("cleo", "p", "for", "against", vetoed=False)]
    assert pairs_of("dan", [cast], {"p": "for"}) == []


def test_a_veto_without_a_vote_is_counted_and_not_compared() -> None:
    vetoed = proposal(ballot("ben", "for", 1, cast_by="twin", ballot_id="x"), vetoed=("x",))
    (pair,) = pairs_of("ben", [vetoed], {})
    assert count_alignment([pair]) == Alignment(0, 0, 0, 1, (0.0, 1.0))
    assert count_alignment([pair]).share is None


@pytest.mark.parametrize(
    ("twin", "human", "same", "opposed"), [("for", "for", 1, 0), ("for", "against", 0, 1), ("for", "abstain", 0, 0)]
)
def test_opposite_is_more_than_different(twin: Choice, human: Choice, same: int, opposed: int) -> None:
    found = count_alignment([Pair("ben", "p", twin, human, vetoed=False)])
    assert (found.same, found.compared, found.opposed) == (same, 1, opposed)


def test_by_user_adds_up_to_all() -> None:
    pairs = [
        Pair(user, str(number), "for", "for" if number else "against", vetoed=False) for user in "ab" for number in range(4)
    ]
    report = report_of(pairs)
    assert (report.overall.same, report.overall.compared) == (6, 8)
    assert report.overall.interval == pytest.approx((0.409, 0.929), abs=0.001)
    assert {user: (one.same, one.compared) for user, one in report.by_user.items()} == {"a": (3, 4), "b": (3, 4)}


def test_it_is_read_from_the_ledger_and_from_drafts(ledger: Ledger, clock: Clock) -> None:
    ledger.join("ada", "ben", "cleo")
    dao = ledger.dao(clock)
    benches = dao.propose("ada", "Benches", "The park gets benches.").proposal_id
    dao.vote("ben", benches, "for", cast_by="twin", confidence=0.9)
    with ledger.tables.transaction("cleo") as connection:
        keep_twin_draft(
            connection, "cleo", BallotDraft(benches, "for", None), NOON, confidence=0.9, citations=(), why="draft_only"
        )
    clock.moves(hours=1)
    dao.vote("ben", benches, "for")
    dao.vote("cleo", benches, "against")
    report = measure_alignment(dao, ledger.tables)
    assert (report.overall.same, report.overall.compared, report.overall.opposed) == (1, 2, 1)
    assert {user: one.share for user, one in report.by_user.items()} == {"ben": 1.0, "cleo": 0.0}
    assert list(measure_alignment(dao, ledger.tables, ["ben"]).by_user) == ["ben"]
