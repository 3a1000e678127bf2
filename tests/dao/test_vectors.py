"""Published votes and published rules of others, written as data: what applies to these rules comes out as it did there."""

from __future__ import annotations

from fractions import Fraction

import pytest

from lpm_kernel.dao.ballot_draft import Choice
from lpm_kernel.dao.commands import check_ballot
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.methods import Scores, Vote, approval, single_choice, weighted
from lpm_kernel.dao.records import Delegation, Tally
from lpm_kernel.dao.rules import Rules
from lpm_kernel.dao.tally import decide, decided, tally
from lpm_kernel.errors import VoteError

from .voting import ballot, by_id, handed, hours, read_votes, vote

METHODS = {"single": single_choice, "approval": approval, "weighted": weighted}


def published(name: str) -> tuple[list[Vote], int, list[float], int]:
    content = read_votes(f"snapshot/{name}.json")
    votes: list[Vote] = []
    for each in content["votes"]:
        said = each["choice"]
        choice = {int(option): share for option, share in said.items()} if isinstance(said, dict) else said
        votes.append(Vote(choice, each["balance"]))
    return votes, len(content["proposal"]["choices"]), content["scores"], content["scoresTotal"]


@pytest.mark.parametrize(
    ("name", "method", "count", "empty", "scores"),
    [
        ("singleChoice", "single", 759, 0, [586, 74, 59, 40]),
        ("approval", "approval", 406, 19, [257, 171, 139, 125]),
        ("weighted", "weighted", 543, 0, [352.04216474311204, 89.19288532217655, 50.07800225903897, 51.68694767567245]),
    ],
)
def test_a_published_vote_has_its_published_scores(name: str, method: str, count: int, empty: int, scores: list[float]) -> None:
    """The published total holds the weight of choices that name nothing; here these are refused and in no total."""
    votes, options, expected, total = published(name)
    assert (len(votes), total, expected) == (count, count, scores)
    found = METHODS[method](votes, options)
    assert (found.total, found.refused) == (total - empty, empty)
    if method == "weighted":
        assert [float(each) for each in found.by_option] == pytest.approx(scores, rel=1e-12)
        assert sum(found.by_option) == total  # shares are fractions, so nothing is lost
    else:
        assert list(found.by_option) == scores
    assert METHODS[method](list(reversed(votes)), options) == found


@pytest.mark.parametrize(
    ("method", "choice"),
    [
        *(("single", choice) for choice in (0, 5, -1, True, "1", 1.0, None, [1])),
        *(
            ("approval", choice)
            for choice in ([], [0], [1, 5], [1, 1], [1, 2, 3, 4, 4], [1, 2, 3, 4, 5], [True], ["1"], 1, None, "12")
        ),
        *(
            ("weighted", choice)
            for choice in (
                {},
                {0: 1},
                {5: 1},
                {1: 0, 2: 0},
                {1: -1, 2: 2},
                {"1": 1},
                {1: True},
                {1: -0.5},
                {1: float("nan")},
                {1: "1"},
                [1],
                None,
            )
        ),
    ],
)
def test_a_choice_that_is_none_counts_nowhere_nor_in_the_total(method: str, choice: object) -> None:
    valid: dict[str, object] = {"single": 2, "approval": [2], "weighted": {2: 7}}
    found = METHODS[method]([Vote(valid[method], 3), Vote(choice, 100)], 4)
    assert found == Scores((Fraction(0), Fraction(3), Fraction(0), Fraction(0)), total=3, refused=1)


@pytest.mark.parametrize("weight", [0, -1])
def test_a_vote_without_weight_is_refused(weight: int) -> None:
    assert single_choice([Vote(1, weight)], 2) == Scores((Fraction(0), Fraction(0)), total=0, refused=1)


def test_shares_divide_a_weight_exactly() -> None:
    found = weighted([Vote({1: 1, 2: 2}, 10), Vote({2: 5}, 1)], 3)
    assert found.by_option == (Fraction(10, 3), Fraction(20, 3) + 1, 0)
    assert weighted([Vote({1: 0.1, 2: 0.2}, 3)], 2).by_option == (1, 2)


# Delegated voting that a delegator may override: weights of four, of whom two delegated to v2. As [against, for, abstain].

OVERRIDABLE = {"v1": 10, "v2": 7, "v4": 2}
TO_V2 = [handed("v1", "v2"), handed("v4", "v2")]


def sums(proposal: ProposalState, held: list[Delegation]) -> list[int]:
    counted = tally(proposal, by_id(*held), hours(72))
    return [counted.against, counted.for_, counted.abstain]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([("v2", "for")], [0, 19, 0]),
        ([("v2", "for"), ("v1", "against")], [10, 9, 0]),
        ([("v1", "against")], [10, 0, 0]),
        ([("v1", "against"), ("v2", "for")], [10, 9, 0]),
        ([("v1", "against"), ("v2", "for"), ("v4", "abstain")], [10, 7, 2]),
    ],
)
def test_a_delegator_takes_their_own_share_out_before_or_after_their_delegate(
    said: list[tuple[str, Choice]], expected: list[int]
) -> None:
    cast = [ballot(voter, choice, number) for number, (voter, choice) in enumerate(said)]
    assert sums(vote(OVERRIDABLE, cast), TO_V2) == expected


def test_one_ballot_is_ones_own_share_and_what_one_carries() -> None:
    """There two acts, that can differ; here a member has one word on a proposal, also for those who delegated to them."""
    held = [*TO_V2, handed("v3", "v1")]
    weights = {**OVERRIDABLE, "v3": 5}
    assert sums(vote(weights, [ballot("v1", "against")]), held) == [15, 0, 0]
    assert sums(vote(weights, [ballot("v1", "against"), ballot("v2", "for"), ballot("v3", "for")]), held) == [10, 14, 0]


def test_to_override_twice_is_refused() -> None:
    proposal = vote(OVERRIDABLE, [ballot("v1", "against", 1)])
    with pytest.raises(VoteError) as error:
        check_ballot(proposal, ballot("v1", "for", 2), hours(2))
    assert error.value.code == "ballot_final"


@pytest.mark.parametrize(("transitive", "expected"), [(False, [0, 19, 0]), (True, [0, 24, 0])])
def test_what_was_delegated_is_handed_on_only_by_transitive_rules(transitive: bool, expected: list[int]) -> None:
    proposal = vote({**OVERRIDABLE, "v3": 5}, [ballot("v2", "for")], Rules(transitive_delegation=transitive))
    assert sums(proposal, [*TO_V2, handed("v3", "v1")]) == expected


# A quorum of votes for and against alone, of token holders; a majority passes. Powers in 10**18.

E18 = 10**18
HOLDERS = {"a": 100_001 * E18, "b": 200_000 * E18, "c": 600_001 * E18, "d": 700_001 * E18}
MAJORITY = Rules(quorum_percent=26, threshold_percent=51, abstain_counts_to_quorum=False)


@pytest.mark.parametrize(
    ("for_", "against", "abstain", "outcome"),
    [
        ("a", "", "", "quorum_not_met"),
        ("c", "d", "", "threshold_not_met"),
        ("cd", "b", "", "threshold_met"),
        ("ab", "", "cd", "quorum_not_met"),
        ("d", "ab", "c", "threshold_met"),
    ],
)
def test_where_abstentions_are_no_part_of_the_quorum(for_: str, against: str, abstain: str, outcome: str) -> None:
    sides: list[tuple[Choice, str]] = [("for", for_), ("against", against), ("abstain", abstain)]
    cast = [ballot(holder, choice) for choice, holders in sides for holder in holders]
    assert decide(tally(vote(HOLDERS, cast, MAJORITY), {}, hours(72)), MAJORITY)[1] == outcome


def test_the_same_abstentions_make_the_quorum_where_they_are_part_of_it() -> None:
    counted = Tally(300_001 * E18, 0, 1_300_002 * E18, 1_600_003 * E18, 0, 0)
    assert decide(counted, MAJORITY) == ("failed", "quorum_not_met")
    assert decide(counted, Rules(quorum_percent=26, threshold_percent=51)) == ("passed", "threshold_met")


# Support that closes a vote before its end: powers 40, 30, 20, 15 and 5, a small quorum.

POWERS = {"forty": 40, "thirty": 30, "twenty": 20, "fifteen": 15, "five": 5}
EARLY = Rules(quorum_percent=10, threshold_percent=51)


@pytest.mark.parametrize(
    ("for_", "against", "now", "at_the_end"),
    [
        (["thirty"], [], None, "passed"),
        (["thirty", "twenty"], [], None, "passed"),
        (["thirty", "twenty", "fifteen"], [], "passed", "passed"),
        (["fifteen", "five"], [], None, "passed"),
        (["five"], [], None, "failed"),
        (["forty"], ["thirty", "twenty"], None, "failed"),
        (["forty"], ["thirty", "twenty", "five"], "failed", "failed"),
    ],
)
def test_support_that_nobody_can_turn_closes_a_vote(
    for_: list[str], against: list[str], now: str | None, at_the_end: str
) -> None:
    proposal = vote(POWERS, [*(ballot(each, "for") for each in for_), *(ballot(each, "against") for each in against)], EARLY)
    found = decided(proposal, {}, hours(2))
    assert (found[0] if found else None) == now
    assert decide(tally(proposal, {}, hours(72)), EARLY)[0] == at_the_end


@pytest.mark.parametrize("magnitude", range(0, 67, 6))
def test_support_is_sharp_by_one_vote_whatever_the_number_of_votes(magnitude: int) -> None:
    everything = 100 * 10**magnitude
    enough = 66 * 10**magnitude
    for for_, expected in ((enough, ("passed", "threshold_met")), (enough - 1, None)):
        weights = {"ann": for_, "bob": everything - for_}
        assert decided(vote(weights, [ballot("ann", "for")]), {}, hours(2)) == expected


@pytest.mark.parametrize("magnitude", range(0, 67, 6))
def test_participation_is_sharp_by_one_vote_whatever_the_number_of_votes(magnitude: int) -> None:
    everything, enough = 100 * 10**magnitude, 60 * 10**magnitude
    for cast, expected in ((enough, "threshold_met"), (enough - 1, "quorum_not_met")):
        proposal = vote({"ann": cast, "bob": everything - cast}, [ballot("ann", "for")])
        assert decide(tally(proposal, {}, hours(72)), Rules())[1] == expected
