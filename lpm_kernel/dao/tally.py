"""What the ballots of a vote amount to, in integers.

Belongs here: which ballots count, whose weight they carry, and the outcome by the rules.
Does not belong here: when a vote ends (`steps.py`) and whether a ballot may be cast (`commands.py`).

Everything is a function of what is known and of one moment: what was cast or given later does not count, nor anything after the
vote's end, so a resolution can be computed again at any time. The order of ballots and delegations is without meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from lpm_kernel.dao.delegation import carriers, delegations_of_vote
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.records import Ballot, ClosedBy, Counted, Delegation, Outcome, ResolutionReason, Tally
from lpm_kernel.dao.rules import Rules

Verdict = tuple[Outcome, ResolutionReason]


def counting_until(proposal: ProposalState, at: datetime) -> datetime:
    """The moment that a tally asked for at `at` is of: never after the vote's end."""
    ends = [proposal.ends_at, proposal.cancelled_at, proposal.resolution.resolved_at if proposal.resolution else None]
    return min([at, *(each for each in ends if each is not None)])


def counting_ballots(proposal: ProposalState, at: datetime) -> dict[str, Ballot]:
    """Voter to the one ballot of theirs that counts: the newest by (`cast_at`, `ballot_id`), a human's before any twin's.

    Left out: who is not of the electorate, vetoed ballots, and a twin's while its person may still veto it.
    """
    until = counting_until(proposal, at)
    newest: dict[str, tuple[tuple[bool, datetime, str], Ballot]] = {}
    for ballot in proposal.ballots:
        by_human = ballot.cast_by == "human"
        if (
            ballot.cast_at > until
            or (ballot.counts_from > until and not by_human)
            or ballot.ballot_id in proposal.vetoed
            or ballot.voter not in proposal.electorate
        ):
            continue
        rank = (by_human, ballot.cast_at, ballot.ballot_id)
        other = newest.get(ballot.voter)
        if other is None or rank > other[0]:
            newest[ballot.voter] = (rank, ballot)
    return {voter: ballot for voter, (_, ballot) in newest.items()}


def standing_from(proposal: ProposalState) -> datetime | None:
    """From when standing delegations may serve in this vote. Counted from the rule's moment and not from when the clock got to
    it, so that a clock that stood still changes no outcome."""
    if proposal.starts_at is None or proposal.rules.standing_at_percent >= 100:
        return None
    return proposal.starts_at + timedelta(hours=proposal.rules.voting_hours) * proposal.rules.standing_at_percent / 100


def count(proposal: ProposalState, delegations: Mapping[str, Delegation], at: datetime) -> tuple[Counted, ...]:
    """Where each member's weight went, by member. A member's own ballot goes before any delegation of theirs."""
    return _count(proposal, delegations.values(), counting_ballots(proposal, at), at)


def tally(proposal: ProposalState, delegations: Mapping[str, Delegation], at: datetime) -> Tally:
    """Weights by choice, at this moment or at the vote's end if that came before."""
    ballots = counting_ballots(proposal, at)
    sums = {"for": 0, "against": 0, "abstain": 0}
    represented = 0
    for each in _count(proposal, delegations.values(), ballots, at):
        if each.choice is not None:
            sums[each.choice] += each.weight
            represented += each.through != each.member
    return Tally(
        for_=sums["for"],
        against=sums["against"],
        abstain=sums["abstain"],
        electorate=sum(proposal.electorate.values()),
        voters=len(ballots),
        represented=represented,
    )


def quorum_met(tally: Tally, rules: Rules) -> bool:
    counted = tally.cast if rules.abstain_counts_to_quorum else tally.for_ + tally.against
    return 100 * counted >= rules.quorum_percent * tally.electorate


def decide(tally: Tally, rules: Rules) -> Verdict:
    """The outcome if the vote ended with this tally. The quorum is looked at first."""
    if not quorum_met(tally, rules):
        return "failed", "quorum_not_met"
    decisive = tally.for_ + tally.against
    if decisive == 0:
        return "failed", "no_decisive_votes"
    if 100 * tally.for_ < rules.threshold_percent * decisive:
        return "failed", "threshold_not_met"
    return "passed", "threshold_met"


def decided(proposal: ProposalState, at: datetime) -> Verdict | None:
    """The outcome that nothing can change any more, whatever is cast, vetoed, delegated or revoked until the end; else None.

    Only the weight of a member whose own human ballot counts is fixed, since no rule lets them replace it. All other weight is
    free: who has not voted may vote or delegate, a delegator may vote themselves or revoke, and a twin's ballot gives way to
    its human until the moment of closing, or is vetoed while it does not count yet. Of one that counts only the choice is free.

    So the vote is failed for good when it fails even with all free weight for, and passed for good when it passes both with all
    of it against, the worst for the threshold, and with as little cast as can be, the worst for the quorum. All other ways
    that the free weight can go lie between. The reason of such a failure is the one that all free weight could not remove.
    """
    if proposal.starts_at is None or proposal.rules.replaceable:
        return None
    fixed = {"for": 0, "against": 0, "abstain": 0}
    of_twins = 0
    for voter, ballot in counting_ballots(proposal, at).items():
        if ballot.cast_by == "human":
            fixed[ballot.choice] += proposal.electorate[voter]
        else:
            of_twins += proposal.electorate[voter]
    everything = sum(proposal.electorate.values())
    free = everything - sum(fixed.values())

    def with_free(for_: int = 0, against: int = 0, abstain: int = 0) -> Verdict:
        sums = Tally(fixed["for"] + for_, fixed["against"] + against, fixed["abstain"] + abstain, everything, 0, 0)
        return decide(sums, proposal.rules)

    best = with_free(for_=free)
    if best[0] == "failed":
        return best
    if with_free(against=free)[0] == "passed" and with_free(abstain=of_twins)[0] == "passed":
        return best
    return None


def is_decided(proposal: ProposalState, tally: Tally, at: datetime) -> bool:
    """Whether no later ballot can change the outcome (`decided`). `tally`: of `at`; not all that it holds is fixed."""
    return decided(proposal, at) is not None


def verdict(proposal: ProposalState, delegations: Mapping[str, Delegation], at: datetime) -> tuple[Tally, Verdict, ClosedBy]:
    """How the vote ends if it ends at this moment: what a resolution says, and what an audit compares it with."""
    sums = tally(proposal, delegations, at)
    fixed = decided(proposal, at)
    return (sums, decide(sums, proposal.rules), "deadline") if fixed is None else (sums, fixed, "decided")


def _count(
    proposal: ProposalState, delegations: Iterable[Delegation], ballots: Mapping[str, Ballot], at: datetime
) -> tuple[Counted, ...]:
    until = counting_until(proposal, at)
    rules, electorate = proposal.rules, proposal.electorate
    standing_at = standing_from(proposal)
    standing = proposal.standing_applied and standing_at is not None and until >= standing_at
    chosen = delegations_of_vote(delegations, proposal.proposal_id, proposal.topic, until, standing=standing)
    carried = carriers(chosen, ballots, electorate, transitive=rules.transitive_delegation) if chosen else {}
    if rules.max_delegated:
        carried = _within_limit(carried, chosen, rules.max_delegated)
    counted: list[Counted] = []
    for member in sorted(electorate):
        through = member if member in ballots else carried.get(member)
        choice = None if through is None else ballots[through].choice
        counted.append(Counted(member, electorate[member], choice, through))
    return tuple(counted)


def _within_limit(carried: Mapping[str, str], chosen: Mapping[str, Delegation], limit: int) -> dict[str, str]:
    """Of more than the limit, those who delegated first are carried."""
    kept: dict[str, str] = {}
    carries: dict[str, int] = {}
    for member in sorted(carried, key=lambda each: (chosen[each].given_at, chosen[each].delegation_id)):
        carrier = carried[member]
        if carries.get(carrier, 0) < limit:
            carries[carrier] = carries.get(carrier, 0) + 1
            kept[member] = carrier
    return kept
