"""The DAO's records as what its routes answer.

Belongs here: from the kernel's records to the models of `dao_schemas.py`.
Does not belong here: reading the records, and who may see them (`dao_access.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from lpm_kernel.dao.events import Event, kind_of, proposal_of
from lpm_kernel.dao.records import Ballot, Counted, Delegation, Resolution, Scope, Tally
from lpm_kernel.dao.service import Cast, Dashboard, Standing
from twin_serving.dao_schemas import (
    BallotOut,
    CountedOut,
    DashboardOut,
    DelegationOut,
    LedgerLineOut,
    ProposalItemOut,
    ProposalOut,
    ResolutionOut,
    RulesOut,
    ScopeForm,
    StandingOut,
    StatusAnswer,
    TallyOut,
    VoteAnswer,
)

if TYPE_CHECKING:
    from lpm_kernel.dao.fold import ProposalState
    from twin_serving.dao_access import Shown


def proposal_item_out(proposal: ProposalState) -> ProposalItemOut:
    return ProposalItemOut(
        proposal_id=proposal.proposal_id,
        title=proposal.title,
        topic=proposal.topic,
        proposer=proposal.proposer,
        status=proposal.status,
        amends=proposal.amends,
        drafted_at=proposal.drafted_at,
        opened_at=proposal.opened_at,
        starts_at=proposal.starts_at,
        ends_at=proposal.ends_at,
        extended=proposal.extended,
        ended_why=proposal.ended_why,
        resolution=resolution_out(proposal.resolution) if proposal.resolution else None,
    )


def proposal_out(proposal: ProposalState) -> ProposalOut:
    rules = proposal.rules
    return ProposalOut(
        **proposal_item_out(proposal).model_dump(exclude={"resolution"}),
        resolution=resolution_out(proposal.resolution) if proposal.resolution else None,
        text=proposal.text,
        implemented_at=proposal.implemented_at,
        cancelled_at=proposal.cancelled_at,
        rules=RulesOut.model_validate(rules, from_attributes=True),
    )


def tally_out(tally: Tally) -> TallyOut:
    return TallyOut.model_validate(
        {
            "for": tally.for_,
            "against": tally.against,
            "abstain": tally.abstain,
            "electorate": tally.electorate,
            "voters": tally.voters,
            "represented": tally.represented,
        }
    )


def resolution_out(resolution: Resolution) -> ResolutionOut:
    return ResolutionOut(
        proposal_id=resolution.proposal_id,
        outcome=resolution.outcome,
        reason=resolution.reason,
        closed_by=resolution.closed_by,
        tally=tally_out(resolution.tally),
        rules_version=resolution.rules_version,
        resolved_at=resolution.resolved_at,
    )


def time_left_s(proposal: ProposalState, at: datetime) -> float:
    if proposal.status != "voting" or proposal.ends_at is None:
        return 0.0
    return round(max(0.0, (proposal.ends_at - at).total_seconds()), 3)


def standing_out(standing: Standing, at: datetime) -> StandingOut:
    return StandingOut(
        proposal=proposal_item_out(standing.proposal),
        tally=tally_out(standing.tally),
        turnout_percent=standing.turnout_percent,
        time_left_s=time_left_s(standing.proposal, at),
        stalled=standing.stalled,
    )


def status_out(standing: Standing, at: datetime) -> StatusAnswer:
    return StatusAnswer(
        at=at,
        proposal=proposal_out(standing.proposal),
        tally=tally_out(standing.tally),
        turnout_percent=standing.turnout_percent,
        time_left_s=time_left_s(standing.proposal, at),
        stalled=standing.stalled,
        members=[counted_out(each) for each in standing.counted],
    )


def counted_out(counted: Counted) -> CountedOut:
    return CountedOut(member=counted.member, weight=counted.weight, choice=counted.choice, through=counted.through)


def vote_out(cast: Cast) -> VoteAnswer:
    ballot = cast.ballot
    return VoteAnswer(
        ballot_id=ballot.ballot_id,
        proposal_id=ballot.proposal_id,
        voter=ballot.voter,
        choice=ballot.choice,
        cast_by=ballot.cast_by,
        cast_at=ballot.cast_at,
        counts_from=ballot.counts_from,
        status=cast.proposal.status,
        resolution=resolution_out(cast.resolution) if cast.resolution else None,
        repeated=cast.repeated,
    )


def ballot_out(ballot: Ballot, shown: Shown, *, counts: bool, vetoed: bool) -> BallotOut:
    return BallotOut(
        ballot_id=ballot.ballot_id,
        voter=ballot.voter,
        choice=ballot.choice,
        cast_by=ballot.cast_by,
        cast_at=ballot.cast_at,
        counts_from=ballot.counts_from,
        counts=counts,
        vetoed=vetoed,
        confidence=ballot.confidence,
        consent=ballot.consent,
        reasons=shown.reasons,
        reasons_sha256=ballot.reasons_sha256,
        reasons_withdrawn=ballot.reasons_sha256 is not None and shown.reasons is None,
        citations=shown.citations,
        citations_withheld=len(ballot.citations) - len(shown.citations),
    )


def delegation_out(delegation: Delegation) -> DelegationOut:
    return DelegationOut(
        delegation_id=delegation.delegation_id,
        delegator=delegation.delegator,
        delegate=delegation.delegate,
        scope=ScopeForm(kind=delegation.scope.kind, of=delegation.scope.of),
        given_at=delegation.given_at,
        ends_at=delegation.ends_at,
        standing=delegation.standing,
        revoked_at=delegation.revoked_at,
    )


def scope_of(form: ScopeForm) -> Scope:
    return Scope(form.kind, form.of)


def dashboard_out(dashboard: Dashboard) -> DashboardOut:
    return DashboardOut(
        at=dashboard.at,
        open=[standing_out(each, dashboard.at) for each in dashboard.open],
        resolved=[resolution_out(each) for each in dashboard.resolved],
        members=dashboard.members,
        last_seq=dashboard.last_seq,
    )


def line_out(event: Event) -> LedgerLineOut:
    """Without what happened in full: a ballot's citations are not everybody's."""
    return LedgerLineOut(
        seq=event.seq,
        at=event.at,
        actor=event.actor,
        kind=kind_of(event.happening),
        proposal_id=proposal_of(event.happening),
        hash=event.hash,
    )


def lines_out(events: Iterable[Event]) -> list[LedgerLineOut]:
    return [line_out(event) for event in events]
