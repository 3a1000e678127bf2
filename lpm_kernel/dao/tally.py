"""What the ballots of a vote amount to, in integers.

Belongs here: which ballots count, whose weight they carry, and the outcome by the rules.
Does not belong here: when a vote ends (`steps.py`) and whether a ballot may be cast (`commands.py`).

Everything is a function of what is known and of one moment: what was cast or given later does not count, nor anything after the
vote's end, so a resolution can be computed again at any time. The order of ballots and delegations is without meaning.

A person's word goes before their twin's, however and whenever they gave it: their own ballot, or a delegation that holds in
this vote. A standing delegation is for when they are away, which is when their twin serves too, so it gives way to the twin.
Between a person's own ballot and their own delegation the ballot wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from lpm_kernel.dao.delegation import carriers, delegations_of_vote
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.records import Ballot, ClosedBy, Counted, Delegation, Outcome, ResolutionReason, Tally
from lpm_kernel.dao.rules import Rules

Verdict = tuple[Outcome, ResolutionReason]
_NOBODY: Mapping[str, Delegation] = {}
"""Nobody delegates."""


def counting_until(proposal: ProposalState, at: datetime) -> datetime:
    """The moment that a tally asked for at `at` is of: never after the vote's end."""
    ends = [proposal.ends_at, proposal.cancelled_at, proposal.resolution.resolved_at if proposal.resolution else None]
    return min([at, *(each for each in ends if each is not None)])


def counting_ballots(
    proposal: ProposalState, at: datetime, delegations: Mapping[str, Delegation] = _NOBODY
) -> dict[str, Ballot]:
    """Voter to the one ballot of theirs that counts: the newest by (`cast_at`, `ballot_id`), a human's before any twin's.

    Left out: who is not of the electorate, vetoed ballots, a twin's while its person may still veto it, and a twin's whose
    person has handed their voice to somebody (`delegations`).
    """
    newest = _newest_ballots(proposal, counting_until(proposal, at))
    if not delegations or all(ballot.cast_by == "human" for ballot in newest.values()):
        return newest
    return _heeded(newest, _handed_on(proposal, delegations.values(), at))


def _newest_ballots(proposal: ProposalState, until: datetime) -> dict[str, Ballot]:
    """Why `counts_from` too: `cast_at` is by the voter's clock, and who says that they chose earlier than they came would else
    be heard before others who came before them."""
    newest: dict[str, tuple[tuple[bool, datetime, str], Ballot]] = {}
    for ballot in proposal.ballots:
        if (
            max(ballot.cast_at, ballot.counts_from) > until
            or ballot.ballot_id in proposal.vetoed
            or ballot.voter not in proposal.electorate
        ):
            continue
        rank = (ballot.cast_by == "human", ballot.cast_at, ballot.ballot_id)
        other = newest.get(ballot.voter)
        if other is None or rank > other[0]:
            newest[ballot.voter] = (rank, ballot)
    return {voter: ballot for voter, (_, ballot) in newest.items()}


def _heeded(newest: Mapping[str, Ballot], chosen: Mapping[str, Delegation]) -> dict[str, Ballot]:
    """Without what a twin cast whose person lets somebody else vote."""
    return {
        voter: ballot
        for voter, ballot in newest.items()
        if ballot.cast_by == "human" or (given := chosen.get(voter)) is None or given.standing
    }


def _handed_on(proposal: ProposalState, delegations: Iterable[Delegation], at: datetime) -> dict[str, Delegation]:
    """Delegator to their delegation that holds in this vote at this moment."""
    until, since = counting_until(proposal, at), standing_from(proposal)
    standing = proposal.standing_applied and since is not None and until >= since
    return delegations_of_vote(delegations, proposal.proposal_id, proposal.topic, until, standing=standing)


def standing_from(proposal: ProposalState) -> datetime | None:
    """From when standing delegations may serve in this vote. Counted from the rule's moment and not from when the clock got to
    it, so that a clock that stood still changes no outcome."""
    if proposal.starts_at is None or proposal.rules.standing_at_percent >= 100:
        return None
    return proposal.starts_at + timedelta(hours=proposal.rules.voting_hours) * proposal.rules.standing_at_percent / 100


def count(proposal: ProposalState, delegations: Mapping[str, Delegation], at: datetime) -> tuple[Counted, ...]:
    """Where each member's weight went, by member. A member's own ballot goes before any delegation of theirs."""
    return _count(proposal, *_in_force(proposal, delegations, at))


def tally(proposal: ProposalState, delegations: Mapping[str, Delegation], at: datetime) -> Tally:
    """Weights by choice, at this moment or at the vote's end if that came before."""
    ballots, chosen = _in_force(proposal, delegations, at)
    sums = {"for": 0, "against": 0, "abstain": 0}
    represented = 0
    for each in _count(proposal, ballots, chosen):
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


def decided(proposal: ProposalState, delegations: Mapping[str, Delegation], at: datetime) -> Verdict | None:
    """The outcome that stands from now on, whatever is cast, vetoed, delegated or revoked by those who may; else None.

    Fixed is the weight of who has voted themself, since no rule lets them replace it, and that of a twin's ballot that counts,
    once its person had their time to veto it: they may vote over it until the vote closes, and this is when it closes. All
    other weight is free: who has not voted may vote or delegate, a delegator may vote themself or revoke, and a ballot that
    does not count yet may be vetoed. Where the rules leave no time for a veto (`veto_hours` 0), nobody had the time to speak
    up against their twin, so that its ballot is free as well and only the deadline closes such a vote.

    So the vote is failed for good when it fails even with all free weight for, and passed for good when it passes both with all
    of it against, the worst for the threshold, and with none of it cast, the worst for the quorum. All other ways that the free
    weight can go lie between. The reason of such a failure is the one that all free weight could not remove.
    """
    if proposal.starts_at is None or proposal.rules.replaceable:
        return None
    fixed = {"for": 0, "against": 0, "abstain": 0}
    for voter, ballot in counting_ballots(proposal, at, delegations).items():
        if ballot.cast_by == "human" or proposal.rules.veto_hours:
            fixed[ballot.choice] += proposal.electorate[voter]
    everything = sum(proposal.electorate.values())
    free = everything - sum(fixed.values())

    def with_free(for_: int = 0, against: int = 0) -> Verdict:
        sums = Tally(fixed["for"] + for_, fixed["against"] + against, fixed["abstain"], everything, 0, 0)
        return decide(sums, proposal.rules)

    best = with_free(for_=free)
    if best[0] == "failed":
        return best
    if with_free(against=free)[0] == "passed" and with_free()[0] == "passed":
        return best
    return None


def verdict(proposal: ProposalState, delegations: Mapping[str, Delegation], at: datetime) -> tuple[Tally, Verdict, ClosedBy]:
    """How the vote ends if it ends at this moment: what a resolution says, and what an audit compares it with."""
    sums = tally(proposal, delegations, at)
    fixed = decided(proposal, delegations, at)
    return (sums, decide(sums, proposal.rules), "deadline") if fixed is None else (sums, fixed, "decided")


def _in_force(
    proposal: ProposalState, delegations: Mapping[str, Delegation], at: datetime
) -> tuple[dict[str, Ballot], dict[str, Delegation]]:
    """The ballots that count, and the delegations that hold."""
    chosen = _handed_on(proposal, delegations.values(), at) if delegations else {}
    return _heeded(_newest_ballots(proposal, counting_until(proposal, at)), chosen), chosen


def _count(proposal: ProposalState, ballots: Mapping[str, Ballot], chosen: Mapping[str, Delegation]) -> tuple[Counted, ...]:
    rules, electorate = proposal.rules, proposal.electorate
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
