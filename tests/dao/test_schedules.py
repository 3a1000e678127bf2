"""Votes of made-up schedules: however often the clock looks, the same happens, once each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from lpm_kernel.dao.ballot_draft import CHOICES
from lpm_kernel.dao.commands import check_ballot
from lpm_kernel.dao.events import (
    BallotCast,
    Delegated,
    DelegationRevoked,
    Event,
    Happening,
    MembersReminded,
    ProposalResolved,
    StandingApplied,
    VotingExtended,
    kind_of,
)
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.records import Delegation, Scope
from lpm_kernel.dao.rules import Rules
from lpm_kernel.dao.steps import next_due, next_steps
from lpm_kernel.errors import VoteError

from .voting import MEMBERS, START, Community, all_rules, ballot, by_id, handed, hours, started, vote

END = hours(72)

Action = tuple[int, BallotCast | Delegated | DelegationRevoked]
QUARTER = timedelta(minutes=15)


@st.composite
def schedules(draw: st.DrawFn) -> tuple[Rules, dict[str, int], list[Action]]:
    """What members do in a vote of ten hours, at quarters of an hour."""
    rules = replace(draw(all_rules()), voting_hours=10, extension_hours=2, late_quorum_hours=draw(st.sampled_from([0, 2, 10])))
    weights = {member: draw(st.integers(1, 3)) for member in MEMBERS[:4]}
    actions: list[Action] = []
    for number, quarter in enumerate(sorted(draw(st.lists(st.integers(0, 50), max_size=7)))):
        at = quarter / 4
        member = draw(st.sampled_from(MEMBERS[:4]))
        kind = draw(st.sampled_from(["human", "human", "twin", "delegate", "revoke"]))
        if kind == "delegate":
            to = draw(st.sampled_from([each for each in MEMBERS[:4] if each != member]))
            ends = draw(st.none() | st.integers(1, 20).map(lambda more, at=at: at + more / 4))
            scope = draw(st.sampled_from([Scope("all"), Scope("proposal", "p")]))
            given_ = handed(member, to, at=at, ends=ends, scope=scope, standing=draw(st.booleans()), delegation_id=f"d{number}")
            actions.append((quarter, Delegated(given_)))
        elif kind == "revoke":
            actions.append((quarter, DelegationRevoked(f"d{draw(st.integers(0, 6))}", member)))
        else:
            by, later = ("twin", at + 2) if kind == "twin" else ("human", at)
            choice = draw(st.sampled_from(CHOICES))
            actions.append(
                (quarter, BallotCast(ballot(member, choice, at, cast_by=by, counts_at=later, ballot_id=f"b{number}")))
            )
    return rules, weights, actions


Look = Callable[[ProposalState, dict[str, Delegation], datetime], datetime | None]


def each_minute(proposal: ProposalState, held: dict[str, Delegation], at: datetime) -> datetime | None:
    return at + timedelta(minutes=1)


def when_due(proposal: ProposalState, held: dict[str, Delegation], at: datetime) -> datetime | None:
    return next_due(proposal, held, at)


def run(schedule: tuple[Rules, dict[str, int], list[Action]], look: Look) -> Community:
    """The vote to its end. The clock looks as `look` says, and after everything that is done, as the service does."""
    rules, weights, actions = schedule
    community = started(rules, weights)
    at, waiting = START, list(actions)
    while community.proposal.status == "voting":
        due = look(community.proposal, dict(community.state.delegations), at)
        assert due is not None
        if waiting and START + waiting[0][0] * QUARTER <= due:
            quarter, done = waiting.pop(0)
            at = START + quarter * QUARTER
            community.advance(at)
            if may_happen(community.proposal, done, at):
                community.happens(done, at, "ann")
                community.advance(at)
        else:
            at = due
            assert community.advance(at) or look is each_minute, "what is due is done"
            assert at < hours(20)
    return community


def may_happen(proposal: ProposalState, done: Happening, at: datetime) -> bool:
    if not isinstance(done, BallotCast):
        return True
    try:
        check_ballot(proposal, done.ballot, at)
    except VoteError:
        return False
    return True


def seen(events: Sequence[Event]) -> list[object]:
    """What happened, without the moment of the clock's steps."""
    happened: list[object] = []
    for event in events:
        match event.happening:
            case ProposalResolved(resolution):
                happened.append(replace(resolution, resolved_at=END))
            case other:
                happened.append(other)
    return happened


@settings(max_examples=120)
@given(schedules())
def test_to_look_only_when_something_is_due_misses_nothing(schedule: tuple[Rules, dict[str, int], list[Action]]) -> None:
    often, seldom = run(schedule, each_minute), run(schedule, when_due)
    assert seen(often.events) == seen(seldom.events)
    for one, other in zip(often.events, seldom.events, strict=True):
        assert timedelta(0) <= one.at - other.at <= timedelta(minutes=1)


@settings(max_examples=120)
@given(schedules())
def test_a_vote_is_resolved_once_extended_at_most_once_and_reminded_of_once_each(
    schedule: tuple[Rules, dict[str, int], list[Action]],
) -> None:
    happened = [event.happening for event in run(schedule, when_due).events]
    assert sum(isinstance(each, ProposalResolved) for each in happened) == 1
    assert sum(isinstance(each, VotingExtended) for each in happened) <= 1
    assert sum(isinstance(each, StandingApplied) for each in happened) <= 1
    reminded = [each.at_percent for each in happened if isinstance(each, MembersReminded)]
    assert reminded == sorted(set(reminded))


@given(schedules(), st.integers(0, 60))
def test_the_same_state_and_moment_give_the_same_steps_and_none_is_asked_for_twice(
    schedule: tuple[Rules, dict[str, int], list[Action]], quarter: int
) -> None:
    rules, weights, actions = schedule
    done = [each for at, each in actions if at <= quarter]
    cast_ = [each.ballot for each in done if isinstance(each, BallotCast)]
    held = by_id(*(each.delegation for each in done if isinstance(each, Delegated)))
    proposal, at = vote(weights, cast_, rules), START + quarter * QUARTER
    steps = next_steps(proposal, held, weights, at)
    assert steps == next_steps(replace(proposal, ballots=tuple(reversed(cast_))), dict(reversed(held.items())), weights, at)
    due = next_due(proposal, held, at)
    assert due is not None
    assert (due == at) is bool(steps)
    community = started(rules, weights)
    for each in cast_:
        community.happens(BallotCast(each), each.cast_at)
    asked = [kind_of(each) + str(getattr(each, "at_percent", "")) for each in community.advance(at)]
    assert len(asked) == len(set(asked))
    assert community.advance(at) == []
