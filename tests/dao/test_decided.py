"""A vote that is decided before its end: against every way in which it could still go on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpm_kernel.dao.ballot_draft import CHOICES, Choice
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.records import Ballot, Delegation, Outcome
from lpm_kernel.dao.rules import Rules
from lpm_kernel.dao.tally import counting_ballots, decide, decided, tally

from .voting import ballot, by_id, equal, handed, hours, vote

NOW = 40.0


def outcome_now(proposal: ProposalState, at: float = NOW, *held: Delegation) -> tuple[Outcome, str] | None:
    return decided(proposal, by_id(*held), hours(at))


def of_hundred(for_: int, against: int, abstain: int = 0, **rules: object) -> ProposalState:
    sides: list[Choice] = ["for"] * for_ + ["against"] * against + ["abstain"] * abstain
    members = [f"m{number}" for number in range(100)]
    return vote(equal(*members), [ballot(member, side) for member, side in zip(members, sides, strict=False)], Rules(**rules))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("for_", "against", "abstain", "expected"),
    [
        (66, 0, 0, ("passed", "threshold_met")),
        (65, 0, 0, None),
        (66, 34, 0, ("passed", "threshold_met")),
        (0, 34, 0, None),
        (0, 35, 0, ("failed", "threshold_not_met")),
        (65, 34, 0, None),
        (65, 35, 0, ("failed", "threshold_not_met")),
        (59, 0, 11, ("passed", "threshold_met")),  # 59 of at most 89
        (58, 0, 12, None),  # 58 of at most 88 is 65.9 %
        (0, 0, 99, None),
        (0, 0, 100, ("failed", "no_decisive_votes")),
    ],
)
def test_a_vote_is_decided_at_the_very_ballot(for_: int, against: int, abstain: int, expected: tuple[str, str] | None) -> None:
    assert outcome_now(of_hundred(for_, against, abstain)) == expected


def test_without_abstentions_in_the_quorum_they_alone_can_decide_that_it_is_not_met() -> None:
    assert outcome_now(of_hundred(0, 0, 41, abstain_counts_to_quorum=False)) == ("failed", "quorum_not_met")
    assert outcome_now(of_hundred(0, 0, 40, abstain_counts_to_quorum=False)) is None


def test_a_quorum_above_the_threshold_keeps_a_vote_open_that_nobody_can_turn() -> None:
    assert outcome_now(of_hundred(70, 0, 0, quorum_percent=80)) is None
    assert outcome_now(of_hundred(80, 0, 0, quorum_percent=80)) == ("passed", "threshold_met")


def test_where_ballots_may_be_replaced_nothing_is_decided_before_the_end() -> None:
    assert outcome_now(of_hundred(100, 0, close="deadline")) is None


def test_nothing_is_decided_before_the_vote_begins() -> None:
    assert outcome_now(replace(vote({}), status="open", starts_at=None, ends_at=None)) is None


def test_twins_decide_alone_once_their_people_had_the_time_to_veto() -> None:
    """A vote of twins alone waited for its deadline: of what nobody had vetoed, its person might still say otherwise."""
    cast = [ballot(member, "for", cast_by="twin", counts_at=13) for member in ("ann", "bob")]
    proposal = vote(equal("ann", "bob"), cast)
    assert outcome_now(proposal, 12.9) is None
    assert outcome_now(proposal, 13) == ("passed", "threshold_met")
    own = replace(proposal, ballots=(*cast, ballot("ann", "against", 2)))
    assert outcome_now(own, 13) == ("failed", "threshold_not_met")


def test_where_nobody_has_the_time_to_veto_twins_decide_nothing() -> None:
    rules = Rules(veto_hours=0)
    proposal = vote(equal("ann", "bob"), [ballot("ann", "for", cast_by="twin"), ballot("bob", "for", cast_by="twin")], rules)
    assert tally(proposal, {}, hours(NOW)).for_ == 2
    assert outcome_now(proposal) is None
    own = replace(proposal, ballots=(*proposal.ballots, ballot("ann", "against", 2)))
    assert outcome_now(own) == ("failed", "threshold_not_met")


def test_a_twin_whose_person_lets_somebody_else_vote_decides_nothing() -> None:
    proposal = vote(equal("ann", "bob"), [ballot("ann", "for"), ballot("bob", "for", cast_by="twin", counts_at=13)])
    assert outcome_now(proposal, 14) == ("passed", "threshold_met")
    assert outcome_now(proposal, 14, handed("bob", "ann", at=13.5)) is None
    assert outcome_now(proposal, 14, handed("bob", "ann", at=13.5, ends=13.8)) == ("passed", "threshold_met")


def test_what_a_delegate_carries_decides_nothing_since_its_owners_may_vote() -> None:
    proposal = vote(equal("ann", "bob", "cem"), [ballot("ann", "for")])
    held = (handed("bob", "ann"), handed("cem", "ann"))
    assert tally(proposal, by_id(*held), hours(NOW)).for_ == 3
    assert outcome_now(proposal, NOW, *held) is None


MEMBERS = ("ann", "bob", "cem")


@st.composite
def under_way(draw: st.DrawFn) -> tuple[ProposalState, list[Delegation]]:
    """Three members, each with a ballot of their own, of their twin that counts, of one that does not yet, or none."""
    rules = Rules(
        quorum_percent=draw(st.sampled_from([0, 34, 60, 80, 100])),
        threshold_percent=draw(st.sampled_from([1, 34, 50, 66, 100])),
        abstain_counts_to_quorum=draw(st.booleans()),
        transitive_delegation=draw(st.booleans()),
        max_delegated=draw(st.sampled_from([0, 1])),
        veto_hours=draw(st.sampled_from([0, 12])),
    )
    weights = {member: draw(st.integers(0, 3)) for member in MEMBERS}
    cast: list[Ballot] = []
    for member in MEMBERS:
        kind = draw(st.sampled_from(["human", "human", "twin", "pending", "none"]))
        if kind == "human":
            cast.append(ballot(member, draw(st.sampled_from(CHOICES)), 3))
        elif kind != "none":
            counts_at = 14 if kind == "twin" else NOW + 2
            cast.append(ballot(member, draw(st.sampled_from(CHOICES)), 2, cast_by="twin", counts_at=counts_at))
    pairs = st.tuples(st.sampled_from(MEMBERS), st.sampled_from(MEMBERS)).filter(lambda pair: pair[0] != pair[1])
    held = [handed(*pair, at=number) for number, pair in enumerate(draw(st.lists(pairs, max_size=3)))]
    return vote(weights, cast, rules), held


def ways_on(proposal: ProposalState, held: list[Delegation]) -> Iterator[Outcome]:
    """How the vote ends in each way on: free members vote themselves or do not, delegate anew or take it back, or veto. Who has
    left what their twin cast standing for the time of a veto is not free: the vote closes before they can say otherwise."""
    counting = counting_ballots(proposal, hours(NOW), by_id(*held))
    fixed = {who for who, each in counting.items() if each.cast_by == "human" or proposal.rules.veto_hours}
    free = [member for member in proposal.electorate if member not in fixed]
    pending = frozenset(each.ballot_id for each in proposal.ballots if each.counts_from > hours(NOW))
    revoked = [replace(each, revoked_at=hours(NOW + 1)) if each.delegator in free else each for each in held]
    anew = [[*held, *(handed(member, to, at=NOW + 1) for member in free if member != to)] for to in MEMBERS]
    for delegations in [held, revoked, *anew]:
        for vetoed in {frozenset[str](), pending}:
            for said in itertools.product([*CHOICES, None], repeat=len(free)):
                more = [
                    ballot(member, choice, NOW + 3) for member, choice in zip(free, said, strict=True) if choice is not None
                ]
                after = replace(proposal, ballots=(*proposal.ballots, *more), vetoed=vetoed)
                yield decide(tally(after, by_id(*delegations), hours(72)), proposal.rules)[0]


@settings(max_examples=300)
@given(under_way())
def test_a_vote_is_decided_exactly_when_every_way_on_ends_alike(case: tuple[ProposalState, list[Delegation]]) -> None:
    proposal, held = case
    ends = set(ways_on(proposal, held))
    found = decided(proposal, by_id(*held), hours(NOW))
    assert ends == {found[0]} if found else len(ends) == 2
