"""Votes to test with: made-up members, their ballots and delegations, and any of these drawn by hypothesis."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from lpm_kernel.dao.ballot_draft import CHOICES, Choice
from lpm_kernel.dao.events import Event, Happening, ProposalDrafted, ProposalOpened, hash_of
from lpm_kernel.dao.fold import EMPTY, DaoState, ProposalState, apply
from lpm_kernel.dao.records import Ballot, CastBy, Delegation, Scope
from lpm_kernel.dao.rules import Rules
from lpm_kernel.dao.steps import next_steps

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
REAL_VOTES = Path(__file__).resolve().parents[3] / "shared" / "data" / "dao"


def hours(number: float) -> datetime:
    """So long after the vote began."""
    return START + timedelta(hours=number)


def equal(*members: str) -> dict[str, int]:
    return dict.fromkeys(members, 1)


def ballot(
    voter: str, choice: Choice, at: float = 1, *, cast_by: CastBy = "human", counts_at: float | None = None, ballot_id: str = ""
) -> Ballot:
    """`at` and `counts_at`: hours after the vote began."""
    return Ballot(
        ballot_id=ballot_id or f"{voter}-{cast_by}-{at}",
        proposal_id="p",
        voter=voter,
        choice=choice,
        cast_by=cast_by,
        cast_at=hours(at),
        counts_from=hours(at if counts_at is None else counts_at),
    )


def handed(
    delegator: str,
    delegate: str,
    *,
    scope: Scope = Scope("all"),  # noqa: B008  it is frozen
    at: float = -1,
    ends: float | None = None,
    revoked: float | None = None,
    standing: bool = False,
    delegation_id: str = "",
) -> Delegation:
    return Delegation(
        delegation_id=delegation_id or f"{delegator}>{delegate}:{scope.kind}:{scope.of}:{at}",
        delegator=delegator,
        delegate=delegate,
        scope=scope,
        given_at=hours(at),
        ends_at=None if ends is None else hours(ends),
        standing=standing,
        revoked_at=None if revoked is None else hours(revoked),
    )


def by_id(*delegations: Delegation) -> dict[str, Delegation]:
    return {each.delegation_id: each for each in delegations}


def vote(
    electorate: Mapping[str, int], ballots: Sequence[Ballot] = (), rules: Rules | None = None, **other: Any
) -> ProposalState:
    """A vote under way since `START`."""
    rules = rules or Rules()
    under_way = ProposalState(
        proposal_id="p",
        title="Benches",
        text="The park gets its benches back.",
        proposer="ann",
        topic="park",
        rules=rules,
        amends=None,
        drafted_at=START,
        status="voting",
        opened_at=START,
        starts_at=START,
        ends_at=hours(rules.voting_hours),
        electorate=electorate,
        ballots=tuple(ballots),
    )
    return replace(under_way, **other)


class Community:
    """A ledger in memory: what is done is appended as an event, and the clock's steps are taken when asked for."""

    def __init__(self, electorate: Mapping[str, int]) -> None:
        self.electorate = electorate
        self.state: DaoState = EMPTY
        self.events: list[Event] = []

    def happens(self, happening: Happening, at: datetime, actor: str = "clock") -> None:
        previous = self.state.last_hash
        seq = self.state.last_seq + 1
        event = Event(seq, at, actor, happening, previous, hash_of(seq, at, actor, happening, previous))
        self.events.append(event)
        self.state = apply(self.state, event)

    @property
    def proposal(self) -> ProposalState:
        return self.state.proposals["p"]

    def advance(self, at: datetime, proposal_id: str = "p") -> list[Happening]:
        done: list[Happening] = []
        while steps := next_steps(self.state.proposals[proposal_id], self.state.delegations, self.electorate, at):
            for step in steps:
                self.happens(step, at)
                done.append(step)
            assert len(done) < 20, "the steps of a vote come to an end"
        return done


def opened(rules: Rules | None = None, electorate: dict[str, int] | None = None) -> Community:
    community = Community(equal("ann", "bob", "cem") if electorate is None else electorate)
    community.happens(ProposalDrafted("p", "Benches", "Back", "ann", "park", rules or Rules()), START)
    community.happens(ProposalOpened("p"), START)
    return community


def started(rules: Rules | None = None, electorate: dict[str, int] | None = None) -> Community:
    community = opened(replace(rules or Rules(), discussion_hours=0), electorate)
    community.advance(START)
    assert community.proposal.status == "voting"
    return community


def read_votes(name: str) -> Any:
    """Real votes, as published; the test is skipped where they are not there."""
    path = REAL_VOTES / name
    if not path.exists():
        pytest.skip(f"../shared/data/dao/{name} is not there: real votes are not counted")
    return json.loads(path.read_text()) if path.suffix == ".json" else path.read_text()


MEMBERS = ("ann", "bob", "cem", "dia", "eve", "fay")
choices = st.sampled_from(CHOICES)
moments = st.integers(0, 80).map(float)
electorates = st.dictionaries(st.sampled_from(MEMBERS), st.integers(0, 5), min_size=1)
scopes = st.sampled_from(
    [Scope("all"), Scope("topic", "park"), Scope("topic", "sea"), Scope("proposal", "p"), Scope("proposal", "q")]
)


@st.composite
def ballots(draw: st.DrawFn) -> Ballot:
    at = draw(moments)
    cast_by: CastBy = draw(st.sampled_from(["human", "twin"]))
    counts_at = at + draw(st.sampled_from([0.0, 12.0])) if cast_by == "twin" else at
    voter = draw(st.sampled_from((*MEMBERS, "stranger")))
    number = draw(st.integers(0, 10**6))
    return ballot(voter, draw(choices), at, cast_by=cast_by, counts_at=counts_at, ballot_id=f"b{number}")


@st.composite
def delegations(draw: st.DrawFn) -> Delegation:
    delegator, delegate = draw(st.lists(st.sampled_from((*MEMBERS, "stranger")), min_size=2, max_size=2, unique=True))
    at = draw(st.integers(-5, 80).map(float))
    return handed(
        delegator,
        delegate,
        scope=draw(scopes),
        at=at,
        ends=draw(st.none() | st.integers(0, 90).map(float)),
        revoked=draw(st.none() | st.integers(0, 90).map(float)),
        standing=draw(st.booleans()),
        delegation_id=f"d{draw(st.integers(0, 10**6))}",
    )


many_ballots = st.lists(ballots(), max_size=12, unique_by=lambda each: each.ballot_id)
many_delegations = st.lists(delegations(), max_size=10, unique_by=lambda each: each.delegation_id)


@st.composite
def all_rules(draw: st.DrawFn) -> Rules:
    return Rules(
        quorum_percent=draw(st.sampled_from([0, 20, 50, 60, 100])),
        abstain_counts_to_quorum=draw(st.booleans()),
        threshold_percent=draw(st.sampled_from([1, 50, 51, 66, 100])),
        close=draw(st.sampled_from(["decided", "deadline"])),
        late_quorum_hours=draw(st.sampled_from([0, 12, 72])),
        standing_at_percent=draw(st.sampled_from([50, 80, 90, 100])),
        remind_at_percent=draw(st.sampled_from([(), (50, 80), (25, 50, 75)])),
        extend_stalled=draw(st.booleans()),
        transitive_delegation=draw(st.booleans()),
        max_delegated=draw(st.sampled_from([0, 1, 2])),
    )


@st.composite
def votes(draw: st.DrawFn) -> ProposalState:
    cast = draw(many_ballots)
    vetoed = draw(st.frozensets(st.sampled_from([each.ballot_id for each in cast]))) if cast else frozenset()
    return vote(draw(electorates), cast, draw(all_rules()), vetoed=vetoed, standing_applied=draw(st.booleans()))
