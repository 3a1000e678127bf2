"""What a member may do and when: each refusal by its code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lpm_kernel.dao.commands import (
    check_attributes,
    check_ballot,
    check_cancel,
    check_delegation,
    check_implement,
    check_member,
    check_open,
    check_revocation,
    check_veto,
    counts_from,
    known_proposal,
    time_of_cast,
)
from lpm_kernel.dao.fold import DaoState, ProposalState
from lpm_kernel.dao.records import Ballot, Scope, Status
from lpm_kernel.dao.rules import Rules
from lpm_kernel.dao.tally import counting_ballots
from lpm_kernel.errors import VoteError

from .voting import ballot, by_id, equal, handed, hours, vote

REPLACEABLE = Rules(close="deadline")
MEMBERS = ("ann", "bob", "cem")


@contextmanager
def refused(code: str) -> Iterator[None]:
    with pytest.raises(VoteError) as error:
        yield
    assert (error.value.code, error.value.retryable) == (code, False)
    assert error.value.message


def under_way(*cast: Ballot, rules: Rules | None = None, **other: Any) -> ProposalState:
    return vote(equal(*MEMBERS) | {"nil": 0}, cast, rules, **other)


def dao(*delegations: Any, proposals: tuple[ProposalState, ...] = ()) -> DaoState:
    return DaoState(proposals={each.proposal_id: each for each in proposals}, delegations=by_id(*delegations))


@pytest.mark.parametrize(("seconds", "open_"), [(-1, True), (0, True), (1, False)])
def test_a_ballot_is_taken_until_the_end_itself_by_the_servers_clock(seconds: int, open_: bool) -> None:
    at = hours(72) + timedelta(seconds=seconds)
    cast = replace(ballot("ann", "for"), cast_at=time_of_cast(at - timedelta(minutes=2), at))
    if open_:
        check_ballot(under_way(), cast, at)
        assert "ann" in counting_ballots(under_way(cast), hours(100))
    else:
        with refused("voting_closed"):
            check_ballot(under_way(), cast, at)


@pytest.mark.parametrize(("minutes", "recorded"), [(-2, -2), (-1, -1), (0, 0), (1, 0), (2, 0)])
def test_a_clock_that_is_two_minutes_off_harms_nobody(minutes: int, recorded: int) -> None:
    at = hours(5)
    assert time_of_cast(at + timedelta(minutes=minutes), at) == at + timedelta(minutes=recorded)
    assert time_of_cast(None, at) == at


@pytest.mark.parametrize("seconds", [-121, 121, 10**6, -(10**6)])
def test_a_clock_that_is_further_off_is_named(seconds: int) -> None:
    with refused("clock_skewed"):
        time_of_cast(hours(5) + timedelta(seconds=seconds), hours(5))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("draft", "voting_not_open"),
        ("open", "voting_not_open"),
        ("passed", "voting_closed"),
        ("failed", "voting_closed"),
        ("implemented", "voting_closed"),
        ("cancelled", "voting_closed"),
    ],
)
def test_a_ballot_needs_a_vote_under_way(status: Status, code: str) -> None:
    with refused(code):
        check_ballot(under_way(status=status), ballot("ann", "for"), hours(1))
    with refused(code):
        check_veto(under_way(status=status), "ann", hours(1))


def test_who_joined_later_or_weighs_nothing_has_no_vote() -> None:
    with refused("not_in_electorate"):
        check_ballot(under_way(), ballot("dia", "for"), hours(1))
    with refused("no_weight"):
        check_ballot(under_way(), ballot("nil", "for"), hours(1))


def test_an_unknown_choice_is_named() -> None:
    with refused("choice_unknown"):
        check_ballot(under_way(), replace(ballot("ann", "for"), choice="maybe"), hours(1))  # type: ignore[arg-type]


def test_what_a_human_cast_is_final_where_a_ballot_can_decide() -> None:
    with refused("ballot_final"):
        check_ballot(under_way(ballot("ann", "for", 1)), ballot("ann", "against", 2), hours(2))


def test_where_the_deadline_closes_a_newer_ballot_replaces_an_older_and_not_the_other_way() -> None:
    proposal = under_way(ballot("ann", "for", 5), rules=REPLACEABLE)
    check_ballot(proposal, ballot("ann", "against", 6), hours(6))
    with refused("ballot_late"):
        check_ballot(proposal, ballot("ann", "against", 4), hours(6))


def test_of_two_ballots_of_one_moment_the_greater_id_is_the_newer() -> None:
    proposal = under_way(ballot("ann", "for", 5, ballot_id="b"), rules=REPLACEABLE)
    check_ballot(proposal, ballot("ann", "against", 5, ballot_id="c"), hours(5))
    with refused("ballot_late"):
        check_ballot(proposal, ballot("ann", "against", 5, ballot_id="a"), hours(5))


@pytest.mark.parametrize("rules", [Rules(), REPLACEABLE])
def test_a_human_replaces_their_twins_ballot_under_all_rules_even_one_that_is_newer(rules: Rules) -> None:
    check_ballot(under_way(ballot("ann", "for", 5, cast_by="twin"), rules=rules), ballot("ann", "against", 4), hours(6))


@pytest.mark.parametrize("rules", [Rules(), REPLACEABLE])
def test_a_twin_never_votes_over_its_person(rules: Rules) -> None:
    with refused("ballot_final"):
        check_ballot(under_way(ballot("ann", "for", 1), rules=rules), ballot("ann", "against", 2, cast_by="twin"), hours(2))
    vetoed = under_way(ballot("ann", "for", 1, cast_by="twin", ballot_id="t"), rules=rules, vetoed=frozenset({"t"}))
    with refused("ballot_final"):
        check_ballot(vetoed, ballot("ann", "against", 2, cast_by="twin"), hours(2))
    check_ballot(vetoed, ballot("ann", "against", 2), hours(2))


def test_a_twin_changes_its_ballot_only_where_ballots_may_be_replaced() -> None:
    again = ballot("ann", "against", 2, cast_by="twin")
    check_ballot(under_way(ballot("ann", "for", 1, cast_by="twin"), rules=REPLACEABLE), again, hours(2))
    with refused("ballot_final"):
        check_ballot(under_way(ballot("ann", "for", 1, cast_by="twin")), again, hours(2))


def test_a_twins_ballot_counts_after_its_persons_time_and_a_humans_at_once() -> None:
    assert counts_from(Rules(), "human", hours(1)) == hours(1)
    assert counts_from(Rules(), "twin", hours(1)) == hours(13)
    assert counts_from(Rules(veto_hours=0), "twin", hours(1)) == hours(1)


def test_a_veto_takes_back_all_that_does_not_count_yet() -> None:
    old = ballot("ann", "for", 1, cast_by="twin", counts_at=13, ballot_id="old")
    new = ballot("ann", "against", 9, cast_by="twin", counts_at=21, ballot_id="new")
    assert check_veto(under_way(old, new), "ann", hours(10)) == (old, new)
    assert check_veto(under_way(old, new), "ann", hours(13)) == (new,)
    assert check_veto(under_way(old, new, vetoed=frozenset({"old"})), "ann", hours(10)) == (new,)
    with refused("veto_too_late"):
        check_veto(under_way(old, new), "ann", hours(21))


def test_there_has_to_be_a_twins_ballot_to_veto() -> None:
    for cast in ((), (ballot("ann", "for"),), (ballot("bob", "for", cast_by="twin"),)):
        with refused("ballot_unknown"):
            check_veto(under_way(*cast), "ann", hours(2))
    with refused("voting_closed"):
        check_veto(under_way(ballot("ann", "for", 70, cast_by="twin", counts_at=82)), "ann", hours(73))


@pytest.mark.parametrize(
    ("new", "code"),
    [
        (handed("dia", "bob"), "not_a_member"),
        (handed("ann", "ann"), "delegation_to_self"),
        (handed("ann", "dia"), "delegate_unknown"),
        (handed("ann", "bob", scope=Scope("proposal", "q")), "proposal_unknown"),
        (handed("ann", "bob", scope=Scope("proposal", "over")), "already_ended"),
        (handed("ann", "bob", ends=5), "delegation_ended"),
        (handed("ann", "cem", at=5), "delegation_circle"),
        (handed("ann", "bob", at=5), "delegation_circle"),
    ],
)
def test_a_delegation_that_the_rules_are_against_is_refused(new: Any, code: str) -> None:
    ended = replace(under_way(), proposal_id="over", status="failed")
    state = dao(handed("bob", "cem"), handed("cem", "ann"), proposals=(under_way(), ended))
    with refused(code):
        check_delegation(state, new, MEMBERS, hours(5))


def test_a_delegation_may_be_given_where_no_circle_closes() -> None:
    state = dao(handed("bob", "ann", scope=Scope("topic", "sea")), proposals=(under_way(),))
    check_delegation(state, handed("ann", "bob", scope=Scope("proposal", "p"), at=5, ends=6), MEMBERS, hours(5))
    check_delegation(state, handed("ann", "bob", scope=Scope("topic", "park"), at=5), MEMBERS, hours(5))
    with refused("delegation_circle"):
        check_delegation(state, handed("ann", "bob", at=5), MEMBERS, hours(5))


def test_a_circle_is_told_by_its_members() -> None:
    with pytest.raises(VoteError, match="ann → bob → cem → ann"):
        check_delegation(dao(handed("bob", "cem"), handed("cem", "ann")), handed("ann", "bob", at=5), MEMBERS, hours(5))


def test_only_ones_own_delegation_that_holds_is_revoked() -> None:
    held = handed("ann", "bob", delegation_id="d", ends=20)
    assert check_revocation(dao(held), "d", "ann", hours(5)) == held
    with refused("delegation_unknown"):
        check_revocation(dao(held), "e", "ann", hours(5))
    with refused("delegation_unknown"):
        check_revocation(dao(held), "d", "bob", hours(5))
    with refused("delegation_ended"):
        check_revocation(dao(held), "d", "ann", hours(20))
    with refused("delegation_ended"):
        check_revocation(dao(replace(held, revoked_at=hours(4))), "d", "ann", hours(5))


@pytest.mark.parametrize("status", ["draft", "open", "voting"])
def test_its_proposer_may_cancel_a_proposal_until_it_has_ended(status: Status) -> None:
    check_cancel(under_way(status=status), "ann", hours(72))
    with refused("not_proposer"):
        check_cancel(under_way(status=status), "bob", hours(5))


def test_nothing_that_is_over_is_cancelled() -> None:
    """Nor a vote of which only the count is left: its proposer may have seen that it fails."""
    ended: tuple[Status, ...] = ("passed", "failed", "implemented", "cancelled")
    for status in ended:
        with refused("already_ended"):
            check_cancel(under_way(status=status), "ann", hours(5))
    with refused("voting_closed"):
        check_cancel(under_way(), "ann", hours(73))


def test_only_a_draft_is_opened_and_by_its_proposer() -> None:
    check_open(under_way(status="draft"), "ann")
    for status, actor, code in (
        ("draft", "bob", "not_proposer"),
        ("open", "ann", "already_open"),
        ("voting", "ann", "already_open"),
        ("cancelled", "ann", "already_ended"),
    ):
        with refused(code):
            check_open(under_way(status=status), actor)


def test_what_has_passed_is_implemented_once_by_any_member() -> None:
    check_implement(under_way(status="passed"), MEMBERS, "bob")
    with refused("not_a_member"):
        check_implement(under_way(status="passed"), MEMBERS, "dia")
    with refused("already_ended"):
        check_implement(under_way(status="implemented"), MEMBERS, "bob")
    for status in ("draft", "open", "voting", "failed", "cancelled"):
        with refused("not_passed"):
            check_implement(under_way(status=status), MEMBERS, "bob")


def test_a_proposal_and_a_member_have_to_be_known() -> None:
    assert known_proposal(dao(proposals=(under_way(),)), "p") == under_way()
    with refused("proposal_unknown"):
        known_proposal(dao(), "p")
    check_member("ann", MEMBERS)
    with refused("not_a_member"):
        check_member("dia", MEMBERS)


def test_an_attribute_leaves_every_member_a_weight() -> None:
    check_attributes({"founder": 1, "tall": 0}, Rules(weights={"founder": 2}))
    with refused("weight_negative"):
        check_attributes({"founder": -1}, Rules())
    with refused("weight_negative"):
        check_attributes({"banned": 1}, Rules(weights={"banned": -1}))


def test_a_member_has_so_many_delegations_that_hold_and_no_more() -> None:
    topics = [handed("ann", "bob", scope=Scope("topic", f"t{number}"), at=0) for number in range(3)]
    new = handed("ann", "bob", at=5)
    with refused("delegations_too_many"):
        check_delegation(dao(*topics), new, MEMBERS, hours(5), 3)
    check_delegation(dao(*topics), new, MEMBERS, hours(5), 4)
    check_delegation(dao(*topics[1:], replace(topics[0], revoked_at=hours(4))), new, MEMBERS, hours(5), 3)
    check_delegation(dao(*topics), handed("cem", "bob", at=5), MEMBERS, hours(5), 3)
