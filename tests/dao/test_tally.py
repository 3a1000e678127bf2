"""Counting a vote: edges that are sharp by one vote, whose ballot counts, and what holds of every tally."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.dao.ballot_draft import Choice
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.records import Ballot, Delegation, Resolution, Tally
from lpm_kernel.dao.rules import Rules
from lpm_kernel.dao.tally import count, counting_ballots, decide, tally

from .voting import START, ballot, by_id, equal, handed, hours, many_delegations, vote, votes

RULES = Rules()
SPECIFIC = ("all", "topic", "proposal")


def sums(for_: int, against: int, abstain: int, electorate: int) -> Tally:
    return Tally(for_, against, abstain, electorate, voters=0, represented=0)


@pytest.mark.parametrize(
    ("counted", "outcome"),
    [
        (sums(60, 0, 0, 100), ("passed", "threshold_met")),
        (sums(59, 0, 0, 100), ("failed", "quorum_not_met")),
        (sums(0, 59, 0, 100), ("failed", "quorum_not_met")),
        (sums(1, 0, 59, 100), ("passed", "threshold_met")),
        (sums(66, 34, 0, 100), ("passed", "threshold_met")),
        (sums(65, 35, 0, 100), ("failed", "threshold_not_met")),
        (sums(33, 17, 50, 100), ("passed", "threshold_met")),
        (sums(2, 1, 0, 3), ("passed", "threshold_met")),
        (sums(65_999, 34_001, 0, 100_000), ("failed", "threshold_not_met")),
        (sums(50, 50, 0, 100), ("failed", "threshold_not_met")),
        (sums(0, 0, 100, 100), ("failed", "no_decisive_votes")),
        (sums(0, 0, 0, 100), ("failed", "quorum_not_met")),
        (sums(0, 0, 0, 0), ("failed", "no_decisive_votes")),
        (sums(66 * 10**66, 34 * 10**66, 0, 10**68), ("passed", "threshold_met")),
        (sums(66 * 10**66 - 1, 34 * 10**66 + 1, 0, 10**68), ("failed", "threshold_not_met")),
        (sums(6 * 10**66 - 1, 0, 0, 10**67), ("failed", "quorum_not_met")),
    ],
)
def test_an_outcome_turns_at_the_very_vote(counted: Tally, outcome: tuple[str, str]) -> None:
    assert decide(counted, RULES) == outcome


def test_abstentions_count_to_the_quorum_unless_the_rules_say_no() -> None:
    counted = sums(30, 0, 40, 100)
    assert decide(counted, RULES) == ("passed", "threshold_met")
    assert decide(counted, replace(RULES, abstain_counts_to_quorum=False)) == ("failed", "quorum_not_met")


def test_a_quorum_of_nothing_passes_nothing_that_nobody_is_for() -> None:
    assert decide(sums(0, 0, 0, 9), Rules(quorum_percent=0)) == ("failed", "no_decisive_votes")


def counted_of(*cast: Ballot, at: float = 72, rules: Rules = RULES, vetoed: frozenset[str] = frozenset()) -> Choice | None:
    counting = counting_ballots(vote(equal("ann"), cast, rules, vetoed=vetoed), hours(at))
    return counting["ann"].choice if counting else None


def test_the_newest_ballot_of_a_voter_counts() -> None:
    assert counted_of(ballot("ann", "for", 5), ballot("ann", "against", 3)) == "for"


def test_of_two_ballots_of_the_same_moment_the_greater_id_counts() -> None:
    same = [ballot("ann", "for", 5, ballot_id="1"), ballot("ann", "against", 5, ballot_id="2")]
    assert counted_of(*same) == counted_of(*reversed(same)) == "against"


def test_a_human_goes_before_their_twin_however_new_the_twins_is() -> None:
    twins = ballot("ann", "for", 9, cast_by="twin")
    assert counted_of(ballot("ann", "against", 1), twins) == "against"
    assert counted_of(twins) == "for"


def test_a_twins_ballot_counts_when_its_persons_time_to_veto_is_over() -> None:
    twins = ballot("ann", "for", 10, cast_by="twin", counts_at=22)
    assert [counted_of(twins, at=at) for at in (10, 21.9, 22, 72)] == [None, None, "for", "for"]


def test_a_twins_newer_ballot_leaves_its_older_one_standing_until_it_counts() -> None:
    cast = [ballot("ann", "for", 1, cast_by="twin", counts_at=13), ballot("ann", "against", 20, cast_by="twin", counts_at=32)]
    assert [counted_of(*cast, at=at) for at in (12, 13, 31, 32)] == [None, "for", "for", "against"]


@pytest.mark.parametrize("given_at", [-1, 2], ids=["before the twin", "after the twin"])
def test_a_delegation_of_the_person_goes_before_what_their_twin_casts(given_at: float) -> None:
    """The twin's ballot was counted even where its person had said since who votes for them."""
    cast = [ballot("ann", "against", 1, cast_by="twin"), ballot("bob", "for", 3)]
    proposal, held = vote(equal("ann", "bob"), cast), by_id(handed("ann", "bob", at=given_at))
    assert tally(proposal, held, hours(72)) == Tally(2, 0, 0, electorate=2, voters=1, represented=1)
    assert list(counting_ballots(proposal, hours(72), held)) == ["bob"]
    assert tally(proposal, held, hours(0)).cast == 0


def test_a_delegate_who_does_not_vote_leaves_their_delegators_twin_unheard_until_it_is_revoked() -> None:
    proposal = vote(equal("ann", "bob"), [ballot("ann", "against", 1, cast_by="twin")])
    held = by_id(handed("ann", "bob", at=2, revoked=10))
    assert [tally(proposal, held, hours(at)).against for at in (1, 5, 10)] == [1, 0, 1]


def test_a_standing_delegation_gives_way_to_the_twin_and_an_own_ballot_to_nothing() -> None:
    cast = [ballot("ann", "against", 1, cast_by="twin"), ballot("bob", "for", 3)]
    standing = by_id(handed("ann", "bob", at=2, standing=True))
    proposal = vote(equal("ann", "bob"), cast, standing_applied=True)
    assert tally(proposal, standing, hours(72)).against == 1
    own = vote(equal("ann", "bob"), [*cast, ballot("ann", "abstain", 1)])
    assert tally(own, by_id(handed("ann", "bob", at=2)), hours(72)).abstain == 1


def test_a_ballot_that_came_late_is_not_heard_earlier_for_its_voters_clock() -> None:
    late = ballot("ann", "for", 59.98, counts_at=60.01)
    proposal = vote(equal("ann"), [late])
    assert [tally(proposal, {}, hours(at)).for_ for at in (60, 60.01)] == [0, 1]


def test_a_vetoed_ballot_never_counts() -> None:
    twins = ballot("ann", "for", 1, cast_by="twin", ballot_id="t")
    assert counted_of(twins, vetoed=frozenset({"t"})) is None


def test_a_ballot_of_a_stranger_counts_nowhere() -> None:
    counted = tally(vote(equal("ann", "bob"), [ballot("cem", "for"), ballot("ann", "against")]), {}, hours(72))
    assert counted == Tally(0, 1, 0, electorate=2, voters=1, represented=0)


@pytest.mark.parametrize(("seconds", "counts"), [(-1, True), (0, True), (1, False)])
def test_a_ballot_at_the_end_itself_counts_and_none_after_it(seconds: int, counts: bool) -> None:
    last = replace(ballot("ann", "for"), cast_at=hours(72) + timedelta(seconds=seconds))
    assert (counted_of(last, at=100) is not None) is counts


def test_what_happens_after_a_resolution_changes_no_tally() -> None:
    before = vote({"ann": 2, "bob": 1}, [ballot("ann", "for", 1)])
    resolution = Resolution("p", "passed", "threshold_met", "decided", tally(before, {}, hours(2)), "v", hours(2))
    ended = replace(before, status="passed", resolution=resolution, ballots=(*before.ballots, ballot("bob", "against", 3)))
    assert tally(ended, by_id(handed("bob", "ann", at=4)), hours(50)) == resolution.tally


def test_a_proposal_whose_vote_has_not_begun_has_an_empty_tally() -> None:
    discussed = replace(vote({}), status="open", starts_at=None, ends_at=None)
    assert tally(discussed, {}, hours(1)) == Tally(0, 0, 0, 0, 0, 0)


def test_weights_are_summed_and_who_has_none_changes_nothing() -> None:
    weights = {"ann": 10**30, "bob": 7, "cem": 0}
    cast = [ballot("ann", "for"), ballot("bob", "against"), ballot("cem", "against")]
    counted = tally(vote(weights, cast), {}, hours(72))
    assert (counted.for_, counted.against, counted.electorate) == (10**30, 7, 10**30 + 7)


@given(votes(), many_delegations, st.randoms(), st.integers(-1, 100))
def test_the_order_of_ballots_and_delegations_never_changes_a_tally(
    proposal: ProposalState, given_: list[Delegation], random: Random, at: int
) -> None:
    expected = count(proposal, by_id(*given_), hours(at))
    cast, shuffled = list(proposal.ballots), list(given_)
    random.shuffle(cast)
    random.shuffle(shuffled)
    assert count(replace(proposal, ballots=tuple(cast)), by_id(*shuffled), hours(at)) == expected


@given(votes(), many_delegations, st.integers(-1, 100))
def test_weight_is_conserved_and_nobody_votes_twice(proposal: ProposalState, given_: list[Delegation], at: int) -> None:
    counted = count(proposal, by_id(*given_), hours(at))
    assert [each.member for each in counted] == sorted(proposal.electorate)
    assert {each.member: each.weight for each in counted} == proposal.electorate
    summed = tally(proposal, by_id(*given_), hours(at))
    uncast = sum(each.weight for each in counted if each.choice is None)
    assert summed.cast + uncast == summed.electorate == sum(proposal.electorate.values())
    for choice, total in (("for", summed.for_), ("against", summed.against), ("abstain", summed.abstain)):
        assert total == sum(each.weight for each in counted if each.choice == choice)
    assert summed.voters + summed.represented == sum(each.choice is not None for each in counted)
    assert all((each.choice is None) == (each.through is None) for each in counted)


@given(votes(), many_delegations, st.integers(-1, 100))
def test_a_tally_is_what_the_rules_say_word_by_word(proposal: ProposalState, given_: list[Delegation], at: int) -> None:
    """Against a second counting, written to be read and not to be fast."""
    expected = {member: plain_carrier(proposal, given_, member, hours(at)) for member in proposal.electorate}
    limit = proposal.rules.max_delegated
    if limit:
        until = min(hours(at), hours(72))
        for carrier in set(expected.values()) - {None}:
            carried = [member for member, through in expected.items() if through == carrier != member]
            carried.sort(key=lambda member: given_key(plain_delegation(proposal, given_, member, until)))
            expected |= dict.fromkeys(carried[limit:])
    assert {each.member: each.through for each in count(proposal, by_id(*given_), hours(at))} == expected


def given_key(delegation: Delegation | None) -> tuple[datetime, str]:
    assert delegation is not None
    return delegation.given_at, delegation.delegation_id


def plain_ballot(proposal: ProposalState, member: str, until: datetime) -> Ballot | None:
    own = [each for each in proposal.ballots if each.voter == member and each.cast_at <= until]
    own = [each for each in own if each.ballot_id not in proposal.vetoed]
    human = [each for each in own if each.cast_by == "human"]
    ready = human or [each for each in own if each.counts_from <= until]
    return max(ready, key=lambda each: (each.cast_at, each.ballot_id), default=None)


def plain_delegation(proposal: ProposalState, given_: list[Delegation], member: str, until: datetime) -> Delegation | None:
    own = [each for each in given_ if each.delegator == member and each.given_at <= until]
    own = [each for each in own if each.ends_at is None or until < each.ends_at]
    own = [each for each in own if each.revoked_at is None or until < each.revoked_at]
    own = [each for each in own if each.scope.of in {"all": [""], "topic": ["park"], "proposal": ["p"]}[each.scope.kind]]
    percent = proposal.rules.standing_at_percent
    serving = proposal.standing_applied and percent < 100 and until >= START + timedelta(hours=72) * percent / 100
    own = [each for each in own if not each.standing] or [each for each in own if serving]
    return max(own, key=lambda each: (SPECIFIC.index(each.scope.kind), each.given_at, each.delegation_id), default=None)


def plain_carrier(proposal: ProposalState, given_: list[Delegation], member: str, at: datetime) -> str | None:
    until = min(at, hours(72))
    here, steps = member, 0
    while plain_ballot(proposal, here, until) is None:
        delegation = plain_delegation(proposal, given_, here, until)
        if delegation is None or delegation.delegate not in proposal.electorate or steps > len(proposal.electorate):
            return None
        if steps and not proposal.rules.transitive_delegation:
            return None
        here, steps = delegation.delegate, steps + 1
    return here


@given(votes(), many_delegations)
def test_one_more_voice_for_never_turns_passed_into_failed(proposal: ProposalState, given_: list[Delegation]) -> None:
    """From whoever has not voted, or voted otherwise, or only through a delegate; with those whom they carry from then on."""
    proposal = replace(proposal, rules=replace(proposal.rules, max_delegated=0))
    held = by_id(*given_)
    before = decide(tally(proposal, held, hours(72)), proposal.rules)[0]
    for member in proposal.electorate:
        added = replace(proposal, ballots=(*proposal.ballots, ballot(member, "for", 72, ballot_id="z")))
        after = decide(tally(added, held, hours(72)), proposal.rules)[0]
        assert not (before == "passed" and after == "failed"), member


def test_a_limit_on_what_one_may_carry_lets_a_voice_for_free_a_place_for_one_against() -> None:
    """Why the property above is without a limit: who leaves a delegate makes room for the next in line."""
    rules = Rules(max_delegated=1, quorum_percent=0, threshold_percent=66)
    held = by_id(handed("cem", "bob", at=-3), handed("dia", "bob", at=-2))
    weights = {"ann": 4, "bob": 1, "cem": 1, "dia": 3}
    before = vote(weights, [ballot("ann", "for"), ballot("bob", "against")], rules)
    after = replace(before, ballots=(*before.ballots, ballot("cem", "for")))
    assert decide(tally(before, held, hours(72)), rules)[0] == "passed"
    assert decide(tally(after, held, hours(72)), rules)[0] == "failed"


def test_a_hundred_voters_are_counted_well_within_a_millisecond() -> None:
    members = [f"m{number:03}" for number in range(100)]
    cast = [ballot(member, "for", ballot_id=member) for member in members[:60]]
    held = by_id(*(handed(member, members[number % 60]) for number, member in enumerate(members[60:])))
    proposal = vote(equal(*members), cast)
    took: list[float] = []
    for _ in range(30):
        began = time.perf_counter()
        counted = tally(proposal, held, hours(3))
        took.append(time.perf_counter() - began)
    assert counted.for_ == 100
    assert min(took) < 0.001
