"""Events to state: each transition, what has no place, and that one by one is the same as all at once."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpm_kernel.dao.events import (
    AttributesSet,
    BallotCast,
    BallotVetoed,
    Delegated,
    DelegationRevoked,
    Event,
    Happening,
    MembersReminded,
    ProposalCancelled,
    ProposalDrafted,
    ProposalImplemented,
    ProposalOpened,
    ProposalResolved,
    StandingApplied,
    TaskAssigned,
    VotingExtended,
    VotingStarted,
    decode,
    encode,
    hash_of,
    kind_of,
)
from lpm_kernel.dao.fold import EMPTY, DaoState, apply, fold
from lpm_kernel.dao.records import STATUSES, Outcome, Resolution, Status, Tally, Task
from lpm_kernel.dao.rules import Rules

from .voting import MEMBERS, Community, ballot, ballots, delegations, equal, handed, hours


def resolved(outcome: Outcome = "passed", proposal_id: str = "p") -> ProposalResolved:
    reason = "threshold_met" if outcome == "passed" else "quorum_not_met"
    return ProposalResolved(Resolution(proposal_id, outcome, reason, "deadline", Tally(1, 0, 0, 1, 1, 0), "v", hours(72)))


DRAFTED = ProposalDrafted("p", "Benches", "Back", "ann", "park", Rules())
STARTED = VotingStarted("p", equal(*MEMBERS), hours(72))
TO: dict[Status, list[Happening]] = {
    "draft": [DRAFTED],
    "open": [DRAFTED, ProposalOpened("p")],
    "voting": [DRAFTED, ProposalOpened("p"), STARTED],
    "passed": [DRAFTED, ProposalOpened("p"), STARTED, resolved()],
    "failed": [DRAFTED, ProposalOpened("p"), STARTED, resolved("failed")],
    "implemented": [DRAFTED, ProposalOpened("p"), STARTED, resolved(), ProposalImplemented("p")],
    "cancelled": [DRAFTED, ProposalCancelled("p", "done already")],
}
NEXT: dict[Status, dict[type, Status]] = {
    "draft": {ProposalOpened: "open", ProposalCancelled: "cancelled"},
    "open": {VotingStarted: "voting", ProposalCancelled: "cancelled"},
    "voting": {ProposalResolved: "passed", ProposalCancelled: "cancelled"},
    "passed": {ProposalImplemented: "implemented"},
    "failed": {},
    "implemented": {},
    "cancelled": {},
}
STEPS: list[Happening] = [ProposalOpened("p"), STARTED, resolved(), ProposalImplemented("p"), ProposalCancelled("p", "no")]


def after(*happened: Happening) -> Community:
    community = Community(equal(*MEMBERS))
    for number, happening in enumerate(happened):
        community.happens(happening, hours(number))
    return community


@pytest.mark.parametrize("status", get_args(Status))
@pytest.mark.parametrize("step", STEPS, ids=kind_of)
def test_each_state_goes_on_only_where_the_picture_has_an_arrow(status: Status, step: Happening) -> None:
    community = after(*TO[status])
    assert community.proposal.status == status
    before = community.proposal
    community.happens(step, hours(80))
    assert community.proposal.status == NEXT[status].get(type(step), status)
    if type(step) not in NEXT[status]:
        assert community.proposal == before


def test_the_table_above_names_every_state() -> None:
    assert set(TO) == set(NEXT) == set(STATUSES)


def test_a_proposal_remembers_when_and_why() -> None:
    passed = after(*TO["implemented"]).proposal
    assert (passed.drafted_at, passed.opened_at, passed.starts_at, passed.implemented_at) == tuple(map(hours, (0, 1, 2, 4)))
    assert (passed.ends_at, passed.ended_why, passed.electorate) == (hours(72), "threshold_met", equal(*MEMBERS))
    cancelled = after(*TO["cancelled"]).proposal
    assert (cancelled.cancelled_at, cancelled.ended_why) == (hours(1), "done already")


def test_a_vote_keeps_all_ballots_and_what_the_clock_did() -> None:
    cast = [BallotCast(ballot("ann", "for")), BallotCast(ballot("ann", "against", 2)), BallotVetoed("p", "b", "ann")]
    clock = [MembersReminded("p", 50, ()), MembersReminded("p", 80, ()), StandingApplied("p")]
    proposal = after(*TO["voting"], *cast, *clock, VotingExtended("p", hours(84), "stalled")).proposal
    assert [each.choice for each in proposal.ballots] == ["for", "against"]
    assert (proposal.vetoed, proposal.reminded, proposal.standing_applied) == ({"b"}, {50, 80}, True)
    assert (proposal.extended, proposal.ends_at) == (True, hours(84))


def test_no_vote_is_extended_twice_and_none_is_resolved_twice() -> None:
    community = after(*TO["voting"], VotingExtended("p", hours(84), "stalled"), VotingExtended("p", hours(99), "late_quorum"))
    assert community.proposal.ends_at == hours(84)
    community.happens(resolved("failed"), hours(85))
    community.happens(resolved("passed"), hours(86))
    assert (community.proposal.status, community.proposal.ended_why) == ("failed", "quorum_not_met")


def test_a_ballot_outside_of_the_vote_is_not_kept() -> None:
    late = after(*TO["passed"], BallotCast(ballot("ann", "for")))
    early = after(DRAFTED, BallotCast(ballot("ann", "for")), *TO["voting"][1:])
    assert late.proposal.ballots == early.proposal.ballots == ()


def test_delegations_attributes_and_tasks_are_kept() -> None:
    given_ = handed("ann", "bob", delegation_id="d")
    told = [Delegated(given_), AttributesSet("ann", {"founder": 1}), TaskAssigned(Task("t", "purchase", "Wood"))]
    state = after(*told, DelegationRevoked("d", "bob"), DelegationRevoked("e", "ann")).state
    assert state.delegations == {"d": given_}
    assert (state.attributes, list(state.tasks)) == ({"ann": {"founder": 1}}, ["t"])
    revoked = after(Delegated(given_), DelegationRevoked("d", "ann"), DelegationRevoked("d", "ann")).state
    assert revoked.delegations["d"].revoked_at == hours(1)


def test_an_earlier_state_stays_as_it_was() -> None:
    community = after(*TO["voting"], BallotCast(ballot("ann", "for")), Delegated(handed("ann", "bob")))
    before, ballots_before = community.state, community.proposal.ballots
    copies = (dict(before.proposals), dict(before.delegations), dict(before.attributes))
    for happening in (BallotCast(ballot("bob", "for")), Delegated(handed("bob", "cem")), AttributesSet("ann", {"founder": 1})):
        community.happens(happening, hours(9))
    assert (before.proposals, before.delegations, before.attributes) == copies
    assert before.proposals["p"].ballots == ballots_before
    assert DaoState() == EMPTY


happenings: st.SearchStrategy[Happening] = st.one_of(
    ballots().map(BallotCast),
    ballots().map(BallotCast),
    delegations().map(Delegated),
    st.sampled_from(["d1", "d2"]).map(lambda each: DelegationRevoked(each, "ann")),
    st.sampled_from(STEPS),
    st.sampled_from(
        [
            *(DRAFTED, resolved("failed"), resolved(proposal_id="q"), ProposalOpened("q"), StandingApplied("p")),
            *(MembersReminded("p", 50, ("ann",)), VotingExtended("p", hours(84), "stalled"), BallotVetoed("p", "b1", "ann")),
            *(AttributesSet("ann", {"founder": 2}), TaskAssigned(Task("t", "purchase", "Wood"), "p")),
        ]
    ),
)


def chained(happened: list[Happening]) -> list[Event]:
    events: list[Event] = []
    for number, happening in enumerate(happened):
        at, previous = hours(number), events[-1].hash if events else ""
        events.append(Event(number + 1, at, "ann", happening, previous, hash_of(number + 1, at, "ann", happening, previous)))
    return events


@given(st.lists(happenings, max_size=25), st.integers(0, 25), st.integers(0, 3))
def test_one_by_one_in_two_parts_or_all_at_once_is_the_same_state(happened: list[Happening], cut: int, start: int) -> None:
    events = chained([*TO["voting"][:start], *happened])
    one_by_one = EMPTY
    for event in events:
        one_by_one = apply(one_by_one, event)
    assert fold(events) == one_by_one == fold(events[cut:], fold(events[:cut]))
    assert (one_by_one.last_seq, one_by_one.last_hash) == ((len(events), events[-1].hash) if events else (0, ""))


@given(st.lists(happenings, max_size=15))
def test_what_is_read_back_from_the_ledger_gives_the_same_state_and_chain(happened: list[Happening]) -> None:
    events = chained([*TO["voting"], *happened])
    read = [
        Event(
            each.seq,
            each.at,
            each.actor,
            decode(kind_of(each.happening), encode(each.happening)),
            each.previous_hash,
            each.hash,
        )
        for each in events
    ]
    assert fold(read) == fold(events)
    for before, event in zip([None, *read[:-1]], read, strict=True):
        assert event.previous_hash == (before.hash if before else "")
        assert event.hash == hash_of(event.seq, event.at, event.actor, event.happening, event.previous_hash)


@given(st.lists(happenings, max_size=25))
@settings(max_examples=40)
def test_a_proposal_never_goes_back(happened: list[Happening]) -> None:
    community = Community(equal(*MEMBERS))
    seen = ["draft"]
    for number, happening in enumerate([DRAFTED, *happened]):
        community.happens(happening, hours(number))
        if community.proposal.status != seen[-1]:
            seen.append(community.proposal.status)
    order = {"draft": 0, "open": 1, "voting": 2, "passed": 3, "failed": 3, "implemented": 4, "cancelled": 4}
    assert all(order[one] < order[other] for one, other in itertools.pairwise(seen))


@pytest.mark.parametrize("proposals", [1, 1000])
def test_a_hundred_thousand_events_are_folded_in_seconds(proposals: int) -> None:
    """Also all in one vote: its ballots are not copied once an event."""
    names = [f"p{number}" for number in range(proposals)]
    happened: list[Happening] = []
    for name in names:
        happened += [ProposalDrafted(name, "", "", "ann", "park", Rules()), ProposalOpened(name)]
        happened.append(VotingStarted(name, {}, hours(72)))
    cast = ballot("ann", "for")
    happened += [BallotCast(replace(cast, proposal_id=name)) for name in names for _ in range(100_000 // proposals)]
    events = [Event(number, hours(1), "ann", each, "", "") for number, each in enumerate(happened, start=1)]
    began = time.process_time()
    state = fold(events)
    took = time.process_time() - began
    assert sum(len(each.ballots) for each in state.proposals.values()) == 100_000
    assert took < 5
