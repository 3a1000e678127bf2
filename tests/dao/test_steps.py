"""What the clock asks for: each step in its time, once, however often it is looked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from lpm_kernel.dao.events import (
    BallotCast,
    BallotVetoed,
    Delegated,
    Happening,
    MembersReminded,
    StandingApplied,
    VotingExtended,
    VotingStarted,
    kind_of,
)
from lpm_kernel.dao.records import Ballot, Scope, Tally
from lpm_kernel.dao.rules import Rules
from lpm_kernel.dao.steps import JUST_AFTER, next_due, next_steps

from .voting import START, Community, ballot, equal, handed, hours, opened, started, vote

END = hours(72)


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
    """Three of five are a quorum, and the two others may still turn it: it is not decided."""
    community = started(electorate=equal("ann", "bob", "cem", "dia", "eve"))
    for member in ("ann", "bob", "cem"):
        cast(community, ballot(member, "for", 53, cast_by="twin", counts_at=65))
    community.advance(hours(58))
    assert next_due(community.proposal, {}, hours(58)) == hours(65)
    assert community.advance(hours(65)) == [VotingExtended("p", hours(84), "late_quorum")]


def test_a_delegation_that_ends_late_and_gives_way_to_another_extends_the_vote() -> None:
    community = started(Rules(close="deadline"))
    silent = handed("ann", "cem", scope=Scope("topic", "park"), ends=65)
    for delegation in (silent, handed("ann", "bob")):
        community.happens(Delegated(delegation), START)
    cast(community, ballot("bob", "for"))
    community.advance(hours(58))
    assert next_due(community.proposal, community.state.delegations, hours(58)) == hours(65)
    assert community.advance(hours(65)) == [VotingExtended("p", hours(84), "late_quorum")]


def test_a_decided_vote_closes_and_is_not_extended_however_late() -> None:
    community = started()
    cast(community, ballot("ann", "for", 70), ballot("bob", "for", 71))
    assert (community.proposal.status, community.proposal.extended) == ("passed", False)


def test_twins_that_decide_late_close_the_vote_and_do_not_extend_it() -> None:
    community = started()
    for member in ("ann", "bob"):
        cast(community, ballot(member, "for", 53, cast_by="twin", counts_at=65))
    community.advance(hours(58))
    assert next_due(community.proposal, {}, hours(58)) == hours(65)
    assert kinds(community.advance(hours(65))) == ["proposal_resolved"]
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


def test_standing_delegations_serve_from_their_moment_also_where_the_clock_looks_after_it() -> None:
    """Else whoever votes between that moment and the clock's next look would decide whether others are represented."""
    community = started(Rules(close="deadline"))
    for each in (ballot("ann", "for", 1), ballot("bob", "for", 58)):
        community.happens(BallotCast(each), each.cast_at)
    community.advance(hours(59))
    assert community.proposal.standing_applied


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


def test_a_vote_of_twins_alone_is_resolved_when_the_deciding_ballot_begins_to_count() -> None:
    """It waited for its deadline, since each person might have said otherwise until then."""
    community = started()
    twins = [ballot(member, "for", at, cast_by="twin", counts_at=at + 12) for member, at in (("ann", 1), ("bob", 2))]
    cast(community, *twins)
    assert next_due(community.proposal, {}, hours(2)) == hours(14), "the first that begins to count decides nothing"
    assert community.advance(hours(13)) == []
    assert next_due(community.proposal, {}, hours(13)) == hours(14)
    assert kinds(community.advance(hours(14))) == ["proposal_resolved"]
    resolution = community.proposal.resolution
    assert resolution is not None
    assert (resolution.outcome, resolution.closed_by, resolution.resolved_at) == ("passed", "decided", hours(14))


def test_a_late_quorum_extends_the_vote_whatever_the_clock_of_the_voter_says() -> None:
    """A ballot of the last hours that said it was two minutes older stood before them, and the vote was not extended."""
    community = started(Rules(close="deadline"))
    cast(community, ballot("ann", "for", 1))
    late = ballot("bob", "for", 59.98, counts_at=60.01)
    community.happens(BallotCast(late), hours(60.01))
    assert kinds(community.advance(hours(60.01)))[-1] == "voting_extended"
