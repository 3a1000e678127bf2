"""How this code counts has a number, and a change of it another one: a vote keeps the number that it was proposed under."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from lpm_kernel.dao.ballot_draft import CHOICES
from lpm_kernel.dao.commands import check_ballot
from lpm_kernel.dao.event_codec import as_json, canonical_json, from_json
from lpm_kernel.dao.events import BallotCast, BallotVetoed, Delegated, DelegationRevoked, kind_of
from lpm_kernel.dao.records import Scope
from lpm_kernel.dao.rules import COUNTING, UNNUMBERED, Rules
from lpm_kernel.dao.steps import next_due
from lpm_kernel.errors import VoteError
from lpm_kernel.records import sha256_hex
from tests.dao.voting import MEMBERS, START, Community, ballot, handed, started

VOTES = 1000
VOTING = ("human", "human", "human", "twin", "twin", "delegate", "revoke", "veto")
DELEGATING = ("human", "twin", "delegate", "delegate", "delegate", "delegate", "delegate", "revoke")
DIGESTS = {2: "9e9e42eb6e40c9ff8ca2c23c53429eb365cba97cfb6575a4c59c434702fce3c1"}
"""Counting to what came of the same votes under it. Where this test fails, some vote goes otherwise than it did: raise
`rules.COUNTING` and add a line; a change of this test alone tells people that their ledgers are broken."""


def test_a_change_of_what_comes_of_votes_has_a_number_of_its_own() -> None:
    drawn = random.Random(20260301)
    told = [_outcome(_voted(drawn)) for _ in range(VOTES)]
    assert len({kind for each in told for kind, *_ in each}) >= 9, "votes of every kind"
    assert DIGESTS.get(COUNTING) == sha256_hex(canonical_json(told)), "raise rules.COUNTING"


def test_rules_of_before_have_the_version_and_the_form_that_they_had() -> None:
    """Their numbers came later; what the ledger had hashed of them stays as it was."""
    assert Rules(counting=UNNUMBERED).version == "af317deb49df"
    assert Rules(counting=UNNUMBERED, weights={"founder": 2}, remind_at_percent=(25,)).version == "4b06f816663b"
    assert "counting" not in as_json(Rules(counting=UNNUMBERED))
    assert from_json(Rules, as_json(Rules(counting=UNNUMBERED))).counting == UNNUMBERED


def test_what_other_code_counts_is_of_another_version() -> None:
    assert len({Rules(counting=each).version for each in (UNNUMBERED, COUNTING, COUNTING + 1)}) == 3
    assert from_json(Rules, as_json(Rules())) == Rules()


def _voted(drawn: random.Random) -> Community:
    """One vote to its end: ballots of people and twins, vetoes, delegations and their ends, each at its moment."""
    rules = Rules(
        quorum_percent=drawn.choice([0, 20, 50, 60, 100]),
        abstain_counts_to_quorum=drawn.random() < 0.7,
        threshold_percent=drawn.choice([1, 50, 66, 100]),
        voting_hours=10,
        close=drawn.choice(["decided", "deadline"]),
        late_quorum_hours=drawn.choice([0, 2, 10]),
        extension_hours=2,
        remind_at_percent=drawn.choice([(), (50, 80), (25, 50, 75)]),
        standing_at_percent=drawn.choice([50, 80, 100]),
        extend_stalled=drawn.random() < 0.7,
        transitive_delegation=drawn.random() < 0.7,
        max_delegated=drawn.choice([0, 0, 1, 2]),
        veto_hours=drawn.choice([0, 2]),
    )
    community = started(rules, {member: drawn.randint(0, 3) for member in MEMBERS})
    kinds = drawn.choice([VOTING, DELEGATING])
    for number, quarter in enumerate(sorted(drawn.choices(range(50), k=drawn.randint(2, 14)))):
        _move_on(community, quarter)
        _do_something(community, drawn, kinds, number, quarter)
    _move_on(community, None)
    assert community.proposal.resolution is not None
    return community


def _move_on(community: Community, quarter: int | None) -> None:
    """Each step at the moment at which it is due; to the vote's end where no quarter of an hour is named."""
    at = community.events[-1].at
    while (due := next_due(community.proposal, community.state.delegations, at)) is not None:
        if quarter is not None and due > START + timedelta(minutes=15 * quarter):
            return
        at = due
        community.advance(at)


def _do_something(community: Community, drawn: random.Random, kinds: Sequence[str], number: int, quarter: int) -> None:
    hour, at = quarter / 4, START + timedelta(minutes=15 * quarter)
    member = drawn.choice(MEMBERS)
    other = drawn.choice([each for each in (*MEMBERS[:2], *MEMBERS) if each != member])  # some carry many
    match drawn.choice(kinds):
        case "delegate":
            scope = drawn.choice([Scope("all"), Scope("topic", "park"), Scope("proposal", "p"), Scope("topic", "sea")])
            ends = drawn.choice([None, None, None, hour + 1])
            standing = drawn.random() < 0.3
            given = handed(member, other, scope=scope, at=hour, ends=ends, standing=standing, delegation_id=f"d{number}")
            community.happens(Delegated(given), at, member)
        case "revoke":
            held = [each for each in community.state.delegations.values() if each.revoked_at is None]
            if held:
                one = drawn.choice(held)
                community.happens(DelegationRevoked(one.delegation_id, one.delegator), at, one.delegator)
        case "veto":
            twins = [each for each in community.proposal.ballots if each.cast_by == "twin" and each.counts_from > at]
            if twins and community.proposal.status == "voting":
                one = drawn.choice(twins)
                community.happens(BallotVetoed("p", one.ballot_id, one.voter), at, one.voter)
        case by:
            cast_by = "twin" if by == "twin" else "human"
            counts_at = hour + community.proposal.rules.veto_hours if cast_by == "twin" else hour
            choice = drawn.choice((*CHOICES, "for", "for"))
            cast = ballot(member, choice, hour, cast_by=cast_by, counts_at=counts_at, ballot_id=f"b{number}")
            with suppress(VoteError):
                check_ballot(community.proposal, cast, at)
                community.happens(BallotCast(cast), at, member)
    if community.proposal.status == "voting":
        community.advance(at)


def _outcome(community: Community) -> list[list[object]]:
    """What happened when, and how it ended; without the rules' version, which has the number in it."""
    resolution = community.proposal.resolution
    assert resolution is not None
    end = as_json(resolution)
    end.pop("rules_version")
    return [*([kind_of(each.happening), each.at.isoformat()] for each in community.events), ["end", end]]
