"""What the clock, or the last ballot, asks for. Pure: the same state and moment give the same steps, and a step that was taken
is not asked for again, so whoever gets to it first may take it.

Belongs here: the beginning of a vote, reminders, unblocking, extension and resolution, and when to look again.
Does not belong here: who looks (`service.py`, the sensor) and what the steps change (`fold.py`).

A vote that stalls is unblocked in this order: reminders; from `standing_at_percent` of the time without a quorum, standing
delegations; one extension; then it fails, and says why. The quorum itself never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from lpm_kernel.dao.events import Happening, MembersReminded, ProposalResolved, StandingApplied, VotingExtended, VotingStarted
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.records import Delegation, Resolution
from lpm_kernel.dao.tally import decided, quorum_met, standing_from, tally, verdict

JUST_AFTER = timedelta(microseconds=1)
"""A ballot that arrives at the end itself still counts, so the vote closes after it."""

PUNCTUAL = timedelta(minutes=5)
"""How long after a vote's end the clock may look, and still extend it from that end."""


def next_steps(
    proposal: ProposalState, delegations: Mapping[str, Delegation], electorate: Mapping[str, int], at: datetime
) -> tuple[Happening, ...]:
    """The next step due at this moment, if any; call again with it applied until there is none.

    `electorate`: members now, with their weights; it becomes the vote's if the vote begins.
    """
    if proposal.status == "open" and proposal.opened_at is not None:
        if at < proposal.opened_at + timedelta(hours=proposal.rules.discussion_hours):
            return ()
        ends_at = at + timedelta(hours=proposal.rules.voting_hours)
        return (VotingStarted(proposal.proposal_id, dict(sorted(electorate.items())), ends_at),)
    if proposal.status != "voting" or proposal.ends_at is None:
        return ()
    over = at > proposal.ends_at
    if decided(proposal, delegations, at) is not None:
        return (_resolved(proposal, delegations, at),)
    if not over and (percent := _reminder_due(proposal, at)) is not None:
        return (MembersReminded(proposal.proposal_id, percent, _without_ballot(proposal)),)
    if _standing_due(proposal, delegations, at):
        return (StandingApplied(proposal.proposal_id),)
    if _late_quorum_due(proposal, delegations, at):
        return (VotingExtended(proposal.proposal_id, _extended_end(proposal, at), "late_quorum"),)
    if not over:
        return ()
    if proposal.rules.extend_stalled and not proposal.extended and not _quorum_at(proposal, delegations, at):
        return (VotingExtended(proposal.proposal_id, _extended_end(proposal, at), "stalled"),)
    return (_resolved(proposal, delegations, at),)


def next_due(proposal: ProposalState, delegations: Mapping[str, Delegation], at: datetime) -> datetime | None:
    """The first moment, from `at` on, at which `next_steps` asks for something if nothing happens until then; None: never.

    A ballot, veto, delegation or revocation may bring it forward: ask again after each.
    """
    if proposal.status == "open" and proposal.opened_at is not None:
        return max(at, proposal.opened_at + timedelta(hours=proposal.rules.discussion_hours))
    if proposal.status != "voting" or proposal.ends_at is None or proposal.starts_at is None:
        return None
    closing = proposal.ends_at + JUST_AFTER
    moments = {at, closing, *(_mark(proposal, percent) for percent in proposal.rules.remind_at_percent)}
    standing_at = standing_from(proposal)
    if standing_at is not None and not proposal.standing_applied:
        moments.add(standing_at)
    moments.update(_when_quorum_may_come(proposal, delegations, at))
    moments.update(_when_it_may_be_decided(proposal, delegations, at))
    for moment in sorted(moments):
        if at <= moment < closing and next_steps(proposal, delegations, {}, moment):
            return moment
    return max(at, closing)


def _mark(proposal: ProposalState, percent: int) -> datetime:
    """So much of the time, extensions aside: a reminder's moment does not move."""
    assert proposal.starts_at is not None
    return proposal.starts_at + timedelta(hours=proposal.rules.voting_hours) * percent / 100


def _reminder_due(proposal: ProposalState, at: datetime) -> int | None:
    """The latest that is due, if it was not sent: of several that were missed, one is enough."""
    due = [percent for percent in proposal.rules.remind_at_percent if _mark(proposal, percent) <= at]
    latest = max(due, default=None)
    return None if latest is None or latest <= max(proposal.reminded, default=-1) else latest


def _without_ballot(proposal: ProposalState) -> tuple[str, ...]:
    """Who has a vote, and has cast none, nor their twin one that they left standing."""
    voted = {ballot.voter for ballot in proposal.ballots if ballot.ballot_id not in proposal.vetoed}
    return tuple(sorted(member for member, weight in proposal.electorate.items() if weight > 0 and member not in voted))


def _quorum_at(proposal: ProposalState, delegations: Mapping[str, Delegation], at: datetime) -> bool:
    return quorum_met(tally(proposal, delegations, at), proposal.rules)


def _standing_due(proposal: ProposalState, delegations: Mapping[str, Delegation], at: datetime) -> bool:
    """Without a quorum at the rule's moment, or at the end. Looked at for those two moments alone, whenever that is done: how
    often the clock looks changes nothing."""
    since = standing_from(proposal)
    if proposal.standing_applied or since is None or at < since or proposal.ends_at is None:
        return False
    return not _quorum_at(proposal, delegations, since) or (at > proposal.ends_at and not _quorum_at(proposal, delegations, at))


def _late_mark(proposal: ProposalState) -> datetime | None:
    """From when on a first quorum is a late one; None: no extension is left for that."""
    if proposal.extended or not proposal.rules.late_quorum_hours or proposal.ends_at is None:
        return None
    return proposal.ends_at - timedelta(hours=proposal.rules.late_quorum_hours)


def _late_quorum_due(proposal: ProposalState, delegations: Mapping[str, Delegation], at: datetime) -> bool:
    """A quorum now, and none when the last hours began."""
    late = _late_mark(proposal)
    if late is None or at <= late:
        return False
    return _quorum_at(proposal, delegations, at) and not _quorum_at(proposal, delegations, late)


def _extended_end(proposal: ProposalState, at: datetime) -> datetime:
    """Counted from now where the clock had stood still, so that members have the time in any case."""
    assert proposal.ends_at is not None
    since = proposal.ends_at if at <= proposal.ends_at + PUNCTUAL else at
    return since + timedelta(hours=proposal.rules.extension_hours)


def _when_quorum_may_come(proposal: ProposalState, delegations: Mapping[str, Delegation], at: datetime) -> set[datetime]:
    """Moments of the last hours at which a quorum can come about by time alone: a twin's ballot begins to count, or a
    delegation ends and an older one takes its place."""
    late = _late_mark(proposal)
    if late is None or proposal.ends_at is None:
        return set()
    moments = {each.counts_from for each in proposal.ballots if each.cast_by == "twin"}
    moments.update(each.ends_at for each in delegations.values() if each.ends_at is not None)
    return {moment for moment in moments if max(late, at) < moment <= proposal.ends_at}


def _when_it_may_be_decided(proposal: ProposalState, delegations: Mapping[str, Delegation], at: datetime) -> set[datetime]:
    """Moments at which time alone may decide a vote: a twin's ballot begins to count, or counts again, since the delegation
    that its person gave has ended."""
    if proposal.rules.replaceable:
        return set()
    cast = [each for each in proposal.ballots if each.cast_by == "twin" and each.ballot_id not in proposal.vetoed]
    voters = {each.voter for each in cast}
    moments = {each.counts_from for each in cast}
    moments.update(each.ends_at for each in delegations.values() if each.ends_at is not None and each.delegator in voters)
    return {moment for moment in moments if moment > at}


def _resolved(proposal: ProposalState, delegations: Mapping[str, Delegation], at: datetime) -> ProposalResolved:
    sums, (outcome, reason), closed_by = verdict(proposal, delegations, at)
    return ProposalResolved(
        Resolution(
            proposal_id=proposal.proposal_id,
            outcome=outcome,
            reason=reason,
            closed_by=closed_by,
            tally=sums,
            rules_version=proposal.rules.version,
            resolved_at=at,
        )
    )
