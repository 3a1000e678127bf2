"""What the clock asks for: each step in its time, once, however often it is looked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpm_kernel.dao.ballot_draft import CHOICES
from lpm_kernel.dao.commands import check_ballot
from lpm_kernel.dao.events import (
    BallotCast,
    BallotVetoed,
    Delegated,
    DelegationRevoked,
    Event,
    Happening,
    MembersReminded,
    ProposalDrafted,
    ProposalOpened,
    ProposalResolved,
    StandingApplied,
    VotingExtended,
    VotingStarted,
    kind_of,
)
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.records import Ballot, Delegation, Scope, Tally
from lpm_kernel.dao.rules import Rules
from lpm_kernel.dao.steps import JUST_AFTER, next_due, next_steps
from lpm_kernel.errors import VoteError

from .voting import MEMBERS, START, Community, all_rules, ballot, by_id, equal, handed, hours, vote

END = hours(72)


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


def cast(community: Community, *ballots: Ballot) -> None:
    for each in ballots:
        community.advance(each.cast_at)
        community.happens(BallotCast(each), each.cast_at, each.voter)
        community.advance(each.cast_at)


def kinds(done: Sequence[Happening]) -> list[str]:
    return [kind_of(each) for each in done]


def test_a_vote_begins_when_the_discussion_is_over_with_the_members_of_that_moment() -> None:
    community = opened(Rules(discussion_hours=24), {"bob": 2, "ann": 1})
    assert next_due(community.proposal, {}, START) == hours(24)
    assert community.advance(hours(23.9)) == []
    community.electorate = {**community.electorate, "cem": 1}
    assert community.advance(hours(25)) == [VotingStarted("p", {"ann": 1, "bob": 2, "cem": 1}, hours(25 + 72))]
    assert (community.proposal.starts_at, community.proposal.ends_at) == (hours(25), hours(97))


def test_a_draft_and_an_ended_vote_ask_for_nothing() -> None:
    for proposal in (vote({}, status="draft"), vote({}, status="failed"), vote({}, status="cancelled")):
        assert next_steps(proposal, {}, {}, hours(500)) == ()
        assert next_due(proposal, {}, hours(500)) is None


def test_a_vote_without_members_fails_at_once() -> None:
    community = opened(electorate={})
    assert kinds(community.advance(START)) == ["voting_started", "proposal_resolved"]
    assert community.proposal.ended_why == "no_decisive_votes"


def test_a_vote_that_nobody_cares_for_is_reminded_of_extended_once_and_fails() -> None:
    community = started()
    done: list[tuple[datetime, Happening]] = []
    at: datetime | None = START
    while (at := next_due(community.proposal, {}, at or START)) is not None:
        done += [(at, step) for step in community.advance(at)]
    everyone = ("ann", "bob", "cem")
    assert done[:-1] == [
        (hours(36), MembersReminded("p", 50, everyone)),
        (hours(57.6), MembersReminded("p", 80, everyone)),
        (hours(57.6), StandingApplied("p")),
        (END + JUST_AFTER, VotingExtended("p", hours(84), "stalled")),
    ]
    at, last = done[-1]
    assert (at, kind_of(last)) == (hours(84) + JUST_AFTER, "proposal_resolved")
    resolution = community.proposal.resolution
    assert resolution is not None
    assert (resolution.outcome, resolution.reason, resolution.closed_by) == ("failed", "quorum_not_met", "deadline")
    assert (resolution.rules_version, resolution.tally) == (Rules().version, Tally(0, 0, 0, 3, 0, 0))


def test_a_ballot_at_the_end_itself_still_counts() -> None:
    community = started(Rules(close="deadline", extend_stalled=False, late_quorum_hours=0))
    cast(community, *(ballot(member, "for", 72) for member in ("ann", "bob")))
    assert community.proposal.status == "voting"
    assert kinds(community.advance(END + JUST_AFTER)) == ["proposal_resolved"]
    assert community.proposal.status == "passed"


def test_the_deciding_ballot_closes_the_vote() -> None:
    community = started()
    cast(community, ballot("ann", "for", 1))
    assert community.proposal.status == "voting"
    cast(community, ballot("bob", "for", 2))
    resolution = community.proposal.resolution
    assert resolution is not None
    assert (resolution.outcome, resolution.closed_by, resolution.resolved_at) == ("passed", "decided", hours(2))


def test_two_against_of_three_fail_a_vote_at_once_and_say_why() -> None:
    community = started()
    cast(community, ballot("ann", "against", 1), ballot("bob", "against", 2))
    assert (community.proposal.status, community.proposal.ended_why) == ("failed", "threshold_not_met")


def test_by_the_deadline_alone_not_even_everybody_closes_a_vote() -> None:
    community = started(Rules(close="deadline"))
    cast(community, *(ballot(member, "for", 1) for member in ("ann", "bob", "cem")))
    assert community.proposal.status == "voting"
    community.advance(END + JUST_AFTER)
    assert community.proposal.resolution is not None
    assert community.proposal.resolution.closed_by == "deadline"


def test_who_has_voted_or_whose_twin_has_is_not_reminded() -> None:
    community = started(Rules(close="deadline"), equal("ann", "bob", "cem", "dia") | {"eve": 0})
    pending = ballot("bob", "for", 30, cast_by="twin", counts_at=42)
    cast(community, ballot("ann", "for", 1), pending, ballot("cem", "for", 31, cast_by="twin", counts_at=43, ballot_id="c"))
    community.happens(BallotVetoed("p", "c", "cem"), hours(32))
    assert community.advance(hours(36)) == [MembersReminded("p", 50, ("cem", "dia"))]


def test_of_reminders_that_were_missed_only_the_latest_is_sent() -> None:
    community = started()
    assert kinds(community.advance(hours(60)))[0] == "members_reminded"
    assert community.proposal.reminded == {80}
    assert community.advance(hours(61)) == []


def test_standing_delegations_are_called_for_only_without_a_quorum() -> None:
    quiet, busy = started(Rules(close="deadline")), started(Rules(close="deadline"))
    cast(busy, ballot("ann", "for"), ballot("bob", "against"))
    for community, called in ((quiet, True), (busy, False)):
        community.advance(hours(57.6))
        assert community.proposal.standing_applied is called


def test_standing_delegations_can_save_a_vote() -> None:
    community = started(Rules(late_quorum_hours=0))
    community.happens(Delegated(handed("bob", "ann", standing=True)), START)
    cast(community, ballot("ann", "for"))
    community.advance(END + JUST_AFTER)
    assert community.proposal.resolution is not None
    assert community.proposal.resolution.tally == Tally(2, 0, 0, 3, voters=1, represented=1)
    assert (community.proposal.status, community.proposal.extended) == ("passed", False)


def test_standing_delegations_are_never_called_for_where_the_rules_say_so() -> None:
    community = started(Rules(standing_at_percent=100, extend_stalled=False))
    assert kinds(community.advance(END + JUST_AFTER)) == ["proposal_resolved"]


def test_a_quorum_that_is_lost_calls_for_standing_delegations_at_the_end() -> None:
    community = started(Rules(close="deadline", extend_stalled=False, late_quorum_hours=0))
    for delegation in (
        handed("bob", "ann", ends=70, delegation_id="1"),
        handed("cem", "ann", standing=True, delegation_id="2"),
    ):
        community.happens(Delegated(delegation), START)
    cast(community, ballot("ann", "for"))
    community.advance(hours(71))
    assert not community.proposal.standing_applied
    assert kinds(community.advance(END + JUST_AFTER)) == ["standing_applied", "proposal_resolved"]
    assert community.proposal.status == "passed"


@pytest.mark.parametrize(("first_quorum", "extended"), [(60, False), (60.1, True), (72, True)])
def test_a_quorum_that_comes_late_extends_the_vote_once(first_quorum: float, extended: bool) -> None:
    """And whoever was surprised can still turn it."""
    community = started(Rules(close="deadline"))
    cast(community, ballot("ann", "for", 1), ballot("bob", "for", first_quorum))
    assert community.proposal.extended is extended
    if not extended:
        return
    assert community.proposal.ends_at == hours(84)
    cast(community, ballot("cem", "against", 83), ballot("bob", "against", 84))
    assert kinds(community.advance(hours(84) + JUST_AFTER)) == ["proposal_resolved"]
    assert (community.proposal.status, community.proposal.ended_why) == ("failed", "threshold_not_met")


def test_a_twins_ballot_that_begins_to_count_late_extends_the_vote() -> None:
    community = started()
    for member in ("ann", "bob"):
        cast(community, ballot(member, "for", 53, cast_by="twin", counts_at=65))
    community.advance(hours(58))
    assert next_due(community.proposal, {}, hours(58)) == hours(65)
    assert community.advance(hours(65)) == [VotingExtended("p", hours(84), "late_quorum")]


def test_a_decided_vote_closes_and_is_not_extended_however_late() -> None:
    community = started()
    cast(community, ballot("ann", "for", 70), ballot("bob", "for", 71))
    assert (community.proposal.status, community.proposal.extended) == ("passed", False)


def test_no_vote_is_extended_twice_whatever_comes() -> None:
    community = started(Rules(close="deadline"))
    community.advance(END + JUST_AFTER)
    assert community.proposal.extended
    cast(community, ballot("ann", "for", 83), ballot("bob", "for", 84))
    assert kinds(community.advance(hours(85))) == ["proposal_resolved"]


def test_a_clock_that_stood_still_extends_from_when_it_goes_again() -> None:
    community = started()
    community.advance(hours(100))
    assert (community.proposal.ends_at, community.proposal.status) == (hours(112), "voting")
    cast(community, ballot("ann", "for", 101), ballot("bob", "for", 102))
    assert community.proposal.status == "passed"


def test_a_clock_that_stood_still_does_not_skip_standing_delegations() -> None:
    community = started(Rules(extend_stalled=False, late_quorum_hours=0))
    community.happens(Delegated(handed("bob", "ann", standing=True)), START)
    cast(community, ballot("ann", "for"))
    assert kinds(community.advance(hours(99))) == ["standing_applied", "proposal_resolved"]
    assert community.proposal.status == "passed"


def test_a_vote_that_was_decided_before_the_clock_stood_still_is_resolved_as_it_was() -> None:
    community = started()
    for member in ("ann", "bob"):
        community.happens(BallotCast(ballot(member, "for", 71)), hours(71))
    community.advance(hours(200))
    resolution = community.proposal.resolution
    assert resolution is not None
    assert (resolution.outcome, resolution.closed_by, community.proposal.extended) == ("passed", "decided", False)


def test_an_extension_moves_no_reminder() -> None:
    community = started(Rules(remind_at_percent=(110,), close="deadline"))
    community.advance(END + JUST_AFTER)
    assert next_due(community.proposal, {}, hours(73)) == START + timedelta(hours=72) * 110 / 100


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
