"""Who carries whose weight: precedence, chains, circles, limits and time."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.dao.delegation import circle_closed_by, circles, delegations_of_vote
from lpm_kernel.dao.records import Ballot, Delegation, Scope
from lpm_kernel.dao.rules import Rules
from lpm_kernel.dao.tally import count, tally

from .voting import MEMBERS, ballot, by_id, equal, handed, hours, many_delegations, vote

TOPIC, PROPOSAL = Scope("topic", "park"), Scope("proposal", "p")
ALL_SIX = equal(*MEMBERS)


def through(
    member: str, cast: list[Ballot], held: list[Delegation], rules: Rules | None = None, at: float = 72, **other: object
) -> str | None:
    proposal = vote(ALL_SIX, cast, rules, **other)
    return next(each.through for each in count(proposal, by_id(*held), hours(at)) if each.member == member)


VOTED = [ballot("bob", "for"), ballot("cem", "against"), ballot("dia", "abstain")]


@pytest.mark.parametrize(
    ("held", "carrier"),
    [
        ([handed("ann", "bob")], "bob"),
        ([handed("ann", "bob", scope=TOPIC)], "bob"),
        ([handed("ann", "bob", scope=PROPOSAL)], "bob"),
        ([handed("ann", "bob", scope=Scope("topic", "sea"))], None),
        ([handed("ann", "bob", scope=Scope("proposal", "q"))], None),
        ([handed("ann", "bob", scope=Scope("proposal", "park"))], None),
        ([handed("ann", "bob", at=9), handed("ann", "cem", scope=TOPIC, at=1)], "cem"),
        ([handed("ann", "bob", scope=TOPIC, at=9), handed("ann", "cem", scope=PROPOSAL, at=1)], "cem"),
        ([handed("ann", "bob", at=1), handed("ann", "cem", at=2)], "cem"),
        ([handed("ann", "bob", delegation_id="2"), handed("ann", "cem", delegation_id="1")], "bob"),
        ([handed("ann", "bob", scope=TOPIC, ends=20), handed("ann", "cem")], "cem"),
        ([handed("ann", "bob", scope=TOPIC, revoked=20), handed("ann", "cem")], "cem"),
        ([handed("ann", "bob", at=73)], None),
        ([handed("ann", "bob", revoked=73)], "bob"),
        ([handed("ann", "bob", ends=73)], "bob"),
        ([handed("ann", "eve")], None),
        ([handed("ann", "stranger")], None),
        ([handed("ann", "stranger"), handed("stranger", "bob")], None),
        ([handed("ann", "eve"), handed("eve", "bob")], "bob"),
        ([handed("ann", "eve"), handed("eve", "fay"), handed("fay", "bob")], "bob"),
        ([handed("ann", "eve"), handed("eve", "ann")], None),
        ([handed("ann", "eve"), handed("eve", "fay"), handed("fay", "eve")], None),
    ],
)
def test_the_most_specific_delegation_that_holds_is_followed_to_a_ballot(held: list[Delegation], carrier: str | None) -> None:
    assert through("ann", VOTED, held) == carrier


def test_a_delegation_holds_from_when_it_is_given_until_the_moment_it_ends_or_is_revoked() -> None:
    for ended in ({"ends": 20.0}, {"revoked": 20.0}):
        held = [handed("ann", "bob", at=10, **ended)]
        assert [through("ann", VOTED, held, at=at) for at in (9.9, 10, 19.9, 20)] == [None, "bob", "bob", None]


def test_a_ballot_of_ones_own_goes_before_what_one_delegated() -> None:
    assert through("ann", [*VOTED, ballot("ann", "against")], [handed("ann", "bob")]) == "ann"


CARRIERS_AT_59_AND_60 = [
    ([handed("ann", "bob")], ["bob", "bob"]),
    ([handed("ann", "bob", at=61)], [None, "ann"]),
    ([handed("ann", "eve")], [None, None]),
    ([handed("ann", "bob", ends=60)], ["bob", "ann"]),
    ([handed("ann", "bob", revoked=60)], ["bob", "ann"]),
    ([handed("ann", "bob", standing=True)], ["bob", "ann"]),
    ([handed("ann", "bob", standing=True), handed("ann", "cem")], ["cem", "cem"]),
]


@pytest.mark.parametrize(("held", "carriers"), CARRIERS_AT_59_AND_60)
def test_a_delegation_goes_before_a_twins_ballot_and_a_standing_one_only_until_that_counts(
    held: list[Delegation], carriers: list[str | None]
) -> None:
    """Whom a person chose is their own word, even where nobody carries it in the end; a standing one is for their absence, in
    which their twin serves too."""
    cast = [*VOTED, ballot("ann", "against", 5, cast_by="twin", counts_at=60)]
    assert [through("ann", cast, held, at=at, standing_applied=True) for at in (59, 60)] == carriers


def test_a_circle_counts_as_not_voted_unless_one_of_it_votes() -> None:
    held = [handed("ann", "eve"), handed("eve", "fay"), handed("fay", "ann")]
    silent = tally(vote(ALL_SIX, VOTED), by_id(*held), hours(72))
    assert (silent.cast, silent.represented) == (3, 0)
    voted = tally(vote(ALL_SIX, [*VOTED, ballot("fay", "for")]), by_id(*held), hours(72))
    assert (voted.for_, voted.represented) == (4, 2)


def test_without_handing_on_only_the_delegate_themselves_can_carry() -> None:
    rules = Rules(transitive_delegation=False)
    assert through("ann", VOTED, [handed("ann", "eve"), handed("eve", "bob")], rules) is None
    assert through("eve", VOTED, [handed("ann", "eve"), handed("eve", "bob")], rules) == "bob"


def test_who_abstains_abstains_for_those_whom_they_carry() -> None:
    counted = tally(vote(ALL_SIX, VOTED), by_id(handed("ann", "dia"), handed("eve", "dia")), hours(72))
    assert (counted.abstain, counted.represented) == (3, 2)


def test_of_more_than_the_limit_those_who_delegated_first_are_carried() -> None:
    held = [handed("ann", "bob", at=3), handed("eve", "bob", at=1), handed("fay", "eve", at=2)]
    for limit, carried in ((1, {"eve"}), (2, {"eve", "fay"}), (3, {"ann", "eve", "fay"}), (0, {"ann", "eve", "fay"})):
        rules = Rules(max_delegated=limit)
        assert {member for member in ("ann", "eve", "fay") if through(member, VOTED, held, rules)} == carried


def test_standing_delegations_count_only_once_the_vote_has_called_for_them() -> None:
    held = [handed("ann", "bob", standing=True)]
    assert through("ann", VOTED, held) is None
    assert [through("ann", VOTED, held, at=at, standing_applied=True) for at in (57.5, 57.6, 72)] == [None, "bob", "bob"]
    assert through("ann", [*VOTED, ballot("ann", "against")], held, standing_applied=True) == "ann"


def test_a_standing_delegation_does_not_take_the_place_of_another() -> None:
    held = [handed("ann", "bob"), handed("ann", "cem", scope=PROPOSAL, at=5, standing=True)]
    assert through("ann", VOTED, held, standing_applied=True) == "bob"


def test_circles_are_found_once_each_from_their_least_member_on() -> None:
    delegates = {"d": "b", "b": "c", "c": "b", "z": "x", "x": "y", "y": "z", "q": "r"}
    assert circles(delegates) == [("b", "c"), ("x", "y", "z")]


@pytest.mark.parametrize(
    ("held", "new", "closes"),
    [
        ([], handed("ann", "bob"), False),
        ([handed("bob", "ann")], handed("ann", "bob"), True),
        ([handed("bob", "cem"), handed("cem", "ann")], handed("ann", "bob"), True),
        ([handed("bob", "ann", scope=TOPIC)], handed("ann", "bob"), True),
        ([handed("bob", "ann")], handed("ann", "bob", scope=TOPIC), True),
        ([handed("bob", "ann", scope=PROPOSAL)], handed("ann", "bob", scope=TOPIC), True),
        ([handed("bob", "ann", scope=Scope("topic", "sea"))], handed("ann", "bob", scope=TOPIC), False),
        ([handed("bob", "ann", scope=Scope("topic", "sea"))], handed("ann", "bob", scope=PROPOSAL), False),
        ([handed("bob", "ann", revoked=0)], handed("ann", "bob", at=1), False),
        ([handed("bob", "ann", ends=1)], handed("ann", "bob", at=1), False),
        ([handed("bob", "ann"), handed("bob", "cem", at=0)], handed("ann", "bob", at=1), False),
        ([handed("bob", "ann", standing=True)], handed("ann", "bob"), True),
        ([handed("bob", "ann")], handed("ann", "bob", standing=True), True),
    ],
)
def test_a_delegation_that_would_close_a_circle_in_some_vote_is_known(
    held: list[Delegation], new: Delegation, closes: bool
) -> None:
    found = circle_closed_by(new, held, {"p": "park"}, hours(1))
    assert bool(found) is closes
    assert not found or found[0] == "ann"


pairs = st.tuples(st.sampled_from(MEMBERS), st.sampled_from(MEMBERS)).filter(lambda pair: pair[0] != pair[1])


@given(st.lists(pairs, max_size=15))
def test_when_each_closing_delegation_is_refused_every_weight_reaches_whoever_votes(given_: list[tuple[str, str]]) -> None:
    """Without circles each chain ends in somebody; so when all who delegate to nobody vote, nothing is lost."""
    held: list[Delegation] = []
    for number, (delegator, delegate) in enumerate(given_):
        new = handed(delegator, delegate, at=number, delegation_id=str(number))
        if not circle_closed_by(new, held, {}, hours(number)):
            held = [each if each.delegator != delegator else replace(each, revoked_at=hours(number)) for each in held]
            held.append(new)
    now = {each.delegator: each.delegate for each in held if each.revoked_at is None}
    assert circles(now) == []
    cast = [ballot(member, "for", 50) for member in MEMBERS if member not in now]
    assert tally(vote(ALL_SIX, cast), by_id(*held), hours(72)).for_ == len(MEMBERS)


def test_thousands_of_delegations_are_looked_through_once() -> None:
    """Three thousand of one member kept the ledger locked for two seconds: each was looked at for each topic of them all."""
    held = [handed("ann", "bob", scope=Scope("topic", f"t{number}"), at=0, delegation_id=str(number)) for number in range(3000)]
    held += [handed(f"m{number}", f"m{number + 1}", at=0) for number in range(300)]
    began = time.process_time()
    assert circle_closed_by(handed("m300", "ann", at=1), held, {}, hours(1)) == ()
    assert circle_closed_by(handed("bob", "m0", at=1), held, {}, hours(1)) == ()
    closes = circle_closed_by(handed("bob", "ann", scope=Scope("topic", "t7"), at=1), held, {}, hours(1))
    assert closes == ("bob", "ann")
    assert time.process_time() - began < 1


@given(many_delegations)
def test_a_circle_is_known_by_what_each_member_chose_in_that_vote(held: list[Delegation]) -> None:
    """The look-up by member says what `delegations_of_vote` says of all."""
    *others, new = held or [handed("ann", "bob")]
    new = replace(new, given_at=hours(40), revoked_at=None, ends_at=None)
    found = circle_closed_by(new, others, {"p": "park"}, hours(40))
    votes = [("p", "park"), ("", "park"), ("", "sea"), ("", "")]
    votes += [("q", "")] if new.scope == Scope("proposal", "q") else []
    closed = False
    for proposal_id, topic in votes:
        for standing in (False, True):
            chosen = delegations_of_vote([*others, new], proposal_id, topic, hours(40), standing=standing)
            if chosen.get(new.delegator) is new:
                rings = circles({delegator: each.delegate for delegator, each in chosen.items()})
                closed |= any(new.delegator in ring for ring in rings)
    assert bool(found) is closed
