"""What a member may do, and when: each check says yes by returning, or names the rule that is against it.

Belongs here: the rules on what is asked of a vote, given the state.
Does not belong here: what the clock does by itself (`steps.py`), a person's consent to what their twin casts
(`twin_ballots.py`), and keys of idempotency (`stores/dao_ledger.py`).

All checks raise VoteError. The server's clock (`at`) alone decides what is open and what is over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from lpm_kernel.dao.ballot_draft import CHOICES
from lpm_kernel.dao.delegation import circle_closed_by, holds
from lpm_kernel.dao.fold import DaoState, ProposalState
from lpm_kernel.dao.records import ENDED, Ballot, CastBy, Delegation
from lpm_kernel.dao.rules import Rules
from lpm_kernel.errors import VoteError

CLOCK_SKEW = timedelta(minutes=2)
"""By which a voter's clock may be off."""
MOST_DELEGATIONS = 20
"""Of one member that hold, where the settings say nothing."""


def known_proposal(state: DaoState, proposal_id: str) -> ProposalState:
    """Raises: VoteError `proposal_unknown`."""
    proposal = state.proposals.get(proposal_id)
    if proposal is None:
        raise VoteError("proposal_unknown", f"there is no proposal {proposal_id[:80]!r}: see the open ones for their ids")
    return proposal


def check_member(member: str, members: Collection[str]) -> None:
    """Raises: VoteError `not_a_member`."""
    if member not in members:
        raise VoteError("not_a_member", f"{member[:80]!r} is no member of this community, and only members may do this")


def time_of_cast(stated: datetime | None, at: datetime) -> datetime:
    """When a ballot counts as cast, given what its voter's clock says: that time, which orders one voter's ballots, but never a
    moment that the server has not come to yet.

    Raises: VoteError `clock_skewed` for more than two minutes either way: a clock that far off orders nothing, and a ballot
    that was held back cannot pass for an early one.
    """
    if stated is None:
        return at
    if abs(stated - at) > CLOCK_SKEW:
        raise VoteError(
            "clock_skewed",
            f"the ballot says it was cast at {stated.isoformat()}, and here it is {at.isoformat()}: "
            "set the clock right, or leave the time out and send it again",
        )
    return min(stated, at)


def counts_from(rules: Rules, cast_by: CastBy, at: datetime) -> datetime:
    """From when a ballot that came at this moment counts: a twin's after its person's time to veto it, a human's at once.

    Why of the server's moment and not of the voter's clock: two minutes of skew are enough to stand before the last hours of a
    vote, and so keep a late quorum from extending it.
    """
    return at + timedelta(hours=rules.veto_hours) if cast_by == "twin" else at


def check_ballot(proposal: ProposalState, ballot: Ballot, at: datetime) -> None:
    """Whether this ballot may be cast now. One that arrives at the vote's end itself still may.

    Raises: VoteError `choice_unknown`, `voting_not_open`, `voting_closed`, `not_in_electorate`, `no_weight`, `ballot_final`,
    `ballot_late`.
    """
    if ballot.choice not in CHOICES:
        raise VoteError("choice_unknown", f"{str(ballot.choice)[:80]!r} is no choice: use one of {', '.join(CHOICES)}")
    _check_voting(proposal, at)
    _check_voter(proposal, ballot.voter)
    own = [each for each in proposal.ballots if each.voter == ballot.voter]
    by_human = [each for each in own if each.cast_by == "human"]
    if ballot.cast_by == "twin":
        if by_human:
            raise VoteError("ballot_final", f"{ballot.voter} has voted, and a twin's ballot never replaces its person's")
        if any(each.ballot_id in proposal.vetoed for each in own):
            raise VoteError("ballot_final", f"{ballot.voter} took back what their twin had cast: now only they themselves vote")
    same = [each for each in own if each.cast_by == ballot.cast_by]
    if not same:
        return
    if not proposal.rules.replaceable:
        raise VoteError(
            "ballot_final", f"{ballot.voter} has cast a ballot, and by the rules of {proposal.proposal_id} it stays"
        )
    newest = max((each.cast_at, each.ballot_id) for each in same)
    if (ballot.cast_at, ballot.ballot_id) < newest:
        raise VoteError(
            "ballot_late",
            f"this ballot is of {ballot.cast_at.isoformat()}, and {ballot.voter} has cast a newer one at "
            f"{newest[0].isoformat()}, which stands: to change it, cast another now",
        )


def check_veto(proposal: ProposalState, voter: str, at: datetime) -> tuple[Ballot, ...]:
    """The ballots that the voter takes back with a veto now: all that their twin has cast and that do not count yet.

    Raises: VoteError `voting_not_open`, `voting_closed`, `ballot_unknown`, `veto_too_late`.
    """
    _check_voting(proposal, at)
    cast = [each for each in proposal.ballots if each.voter == voter and each.cast_by == "twin"]
    left = [each for each in cast if each.ballot_id not in proposal.vetoed]
    if not left:
        raise VoteError("ballot_unknown", f"the twin of {voter[:80]} has no ballot to veto on {proposal.proposal_id}")
    pending = tuple(each for each in left if each.counts_from > at)
    if not pending:
        raise VoteError(
            "veto_too_late",
            f"the twin's ballot on {proposal.proposal_id} counts since {max(each.counts_from for each in left).isoformat()}: "
            "cast your own, it goes before the twin's",
        )
    return pending


def check_delegation(
    state: DaoState, delegation: Delegation, members: Collection[str], at: datetime, most: int = MOST_DELEGATIONS
) -> None:
    """Whether this delegation may be given now. `most`: that one member may have given and that still hold.

    Raises: VoteError `not_a_member`, `delegation_to_self`, `delegate_unknown`, `proposal_unknown`, `already_ended`,
    `delegation_ended`, `delegations_too_many`, `delegation_circle`.
    """
    check_member(delegation.delegator, members)
    if delegation.delegate == delegation.delegator:
        raise VoteError("delegation_to_self", f"{delegation.delegator} cannot delegate to themselves: cast a ballot instead")
    if delegation.delegate not in members:
        raise VoteError("delegate_unknown", f"{delegation.delegate[:80]!r} is no member of this community: delegate to one")
    if delegation.scope.kind == "proposal":
        _check_not_ended(known_proposal(state, delegation.scope.of))
    if delegation.ends_at is not None and delegation.ends_at <= at:
        raise VoteError("delegation_ended", f"the delegation would end at {delegation.ends_at.isoformat()}, which is over")
    given = sum(each.delegator == delegation.delegator and holds(each, at) for each in state.delegations.values())
    if given >= most:
        raise VoteError(
            "delegations_too_many",
            f"{delegation.delegator} has given {given} delegations that hold, and dao.max_delegations lets nobody give more: "
            "revoke one, or delegate for a wider scope",
        )
    topics = {each.proposal_id: each.topic for each in state.proposals.values() if each.status not in ENDED}
    circle = circle_closed_by(delegation, state.delegations.values(), topics, at)
    if circle:
        raise VoteError(
            "delegation_circle",
            f"the delegation would go in a circle ({' → '.join((*circle, circle[0]))}), in which nobody would vote: "
            "delegate to another member, or for a narrower scope",
        )


def check_revocation(state: DaoState, delegation_id: str, delegator: str, at: datetime) -> Delegation:
    """The delegation to revoke. Another's is as unknown as one that is not there.

    Raises: VoteError `delegation_unknown`, `delegation_ended`.
    """
    given = state.delegations.get(delegation_id)
    if given is None or given.delegator != delegator:
        raise VoteError("delegation_unknown", f"{delegator[:80]} has given no delegation {delegation_id[:80]!r}")
    if not holds(given, max(at, given.given_at)):
        raise VoteError("delegation_ended", f"the delegation {delegation_id} is revoked or over already")
    return given


def check_open(proposal: ProposalState, actor: str) -> None:
    """Raises: VoteError `not_proposer`, `already_ended`, `already_open`."""
    _check_proposer(proposal, actor, "open it")
    _check_not_ended(proposal)
    if proposal.status != "draft":
        raise VoteError("already_open", f"{proposal.proposal_id} is open since {proposal.opened_at}")


def check_cancel(proposal: ProposalState, actor: str, at: datetime) -> None:
    """Its proposer may, until it has ended, or its time is over and only the count is left.

    Raises: VoteError `not_proposer`, `already_ended`, `voting_closed`.
    """
    _check_proposer(proposal, actor, "cancel it")
    _check_not_ended(proposal)
    if proposal.ends_at is not None and at > proposal.ends_at:
        raise VoteError("voting_closed", f"the vote on {proposal.proposal_id} closed at {proposal.ends_at.isoformat()}")


def check_implement(proposal: ProposalState, members: Collection[str], actor: str) -> None:
    """Any member may say that what was passed is done, once.

    Raises: VoteError `not_a_member`, `already_ended`, `not_passed`.
    """
    check_member(actor, members)
    if proposal.status == "implemented":
        raise VoteError("already_ended", f"{proposal.proposal_id} was implemented at {proposal.implemented_at}")
    if proposal.status != "passed":
        raise VoteError("not_passed", f"{proposal.proposal_id} is {proposal.status}: only what has passed can be implemented")


def check_attributes(attributes: Mapping[str, int], rules: Rules) -> None:
    """Raises: VoteError `weight_negative` for an amount under 0, and for one that would leave the member no weight."""
    for name, amount in attributes.items():
        if amount < 0:
            raise VoteError("weight_negative", f"{name[:80]!r} would be {amount}: an attribute is 0 or more")
    weight = 1 + sum(each * attributes.get(name, 0) for name, each in rules.weights.items())
    if weight <= 0:
        raise VoteError("weight_negative", f"with these attributes the member would weigh {weight}: it has to be 1 or more")


def _check_voting(proposal: ProposalState, at: datetime) -> None:
    if proposal.status in ("draft", "open"):
        raise VoteError("voting_not_open", f"the vote on {proposal.proposal_id} has not begun: it is {proposal.status}")
    if proposal.status in ENDED:
        raise VoteError("voting_closed", f"the vote on {proposal.proposal_id} is over: it is {proposal.status}")
    if proposal.ends_at is not None and at > proposal.ends_at:
        raise VoteError("voting_closed", f"the vote on {proposal.proposal_id} closed at {proposal.ends_at.isoformat()}")


def _check_voter(proposal: ProposalState, voter: str) -> None:
    weight = proposal.electorate.get(voter)
    if weight is None:
        raise VoteError(
            "not_in_electorate",
            f"{voter[:80]!r} was no member when the vote on {proposal.proposal_id} began, and has a vote on later ones",
        )
    if weight <= 0:
        raise VoteError("no_weight", f"{voter} had a weight of {weight} when the vote on {proposal.proposal_id} began")


def _check_proposer(proposal: ProposalState, actor: str, what: str) -> None:
    if actor != proposal.proposer:
        raise VoteError("not_proposer", f"{proposal.proposal_id} was proposed by another, and only its proposer may {what}")


def _check_not_ended(proposal: ProposalState) -> None:
    if proposal.status in ENDED:
        raise VoteError("already_ended", f"{proposal.proposal_id} has ended already: it is {proposal.status}")
