"""`POST /vote` and the ballots of a proposal: casting, reading, and taking back what a twin has cast.

Belongs here: transport, and who may do it.
Does not belong here: which ballot counts (`lpm_kernel/dao/tally.py`) and how a twin makes up its mind (`dao_twins.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import APIRouter

from lpm_kernel.dao.ballot_draft import Choice
from lpm_kernel.dao.tally import counting_ballots
from lpm_kernel.errors import UserInputError, VoteError
from lpm_kernel.stores.ballot_drafts import list_drafts
from twin_serving.auth import PrincipalDep
from twin_serving.dao_access import DaoDep, KeyHeader, MemberDep, actor_of, key_of, moment_of, shown_citations
from twin_serving.dao_answers import ballot_out, proposal_out, vote_out
from twin_serving.dao_schemas import ActorRequest, BallotsAnswer, ProposalOut, VoteAnswer, VoteRequest
from twin_serving.deps import ServicesDep
from twin_serving.errors import problems

if TYPE_CHECKING:
    from lpm_kernel.dao.fold import ProposalState
    from lpm_kernel.stores.open import Stores

router = APIRouter()


@router.post("/vote", responses=problems(403, 404, 409), summary="Cast a ballot")
def vote(
    request: VoteRequest, principal: PrincipalDep, services: ServicesDep, dao: DaoDep, key: KeyHeader = None
) -> VoteAnswer:
    """A person's own ballot, which goes before their twin's. With `draft_id` the ballot that their twin drafted, cast by the
    person: `proposal` says on which, where the draft does not name one by its id. The vote closes at once when this ballot
    decides it; then `resolution` is there. The same `Idempotency-Key` (or `key`) with the same content casts one ballot.
    """
    voter, side = actor_of(principal, request.voter), services.dao_side
    meant = _meant(services.stores, voter, request)
    if request.weight is not None:
        check_weight(request.weight, dao.proposal(meant.proposal_id), voter)
    cast = dao.vote(
        voter,
        meant.proposal_id,
        meant.choice,
        cast_by="human",
        reasons=meant.reasons,
        key=key_of(key, request.key),
        cast_at=moment_of(request.cast_at, "cast_at"),
    )
    side.count(cast)
    return vote_out(cast)


@router.get("/proposals/{proposal_id}/ballots", responses=problems(403), summary="The ballots on a proposal")
def ballots(proposal_id: str, member: MemberDep, services: ServicesDep, dao: DaoDep) -> BallotsAnswer:
    """Every ballot that was ever cast, oldest first, which of them counts, and why it was cast so. Of what a ballot rests on
    the reader is told what stands in documents that its voter shares; the rest is the voter's alone."""
    proposal, found = dao.proposal(proposal_id), dao.ballots(proposal_id)
    until = proposal.resolution.resolved_at if proposal.resolution else dao.clock()
    counting = {ballot.ballot_id for ballot in counting_ballots(proposal, until).values()}
    shown = shown_citations(services.stores, member, (ballot for ballot, _ in found))
    told = [
        ballot_out(
            ballot,
            reasons,
            shown[ballot.ballot_id],
            counts=ballot.ballot_id in counting,
            vetoed=ballot.ballot_id in proposal.vetoed,
        )
        for ballot, reasons in found
    ]
    return BallotsAnswer(proposal_id=proposal_id, ballots=told)


@router.post("/proposals/{proposal_id}/veto", responses=problems(403), summary="Take back your twin's ballot")
def veto(proposal_id: str, principal: PrincipalDep, dao: DaoDep, request: ActorRequest | None = None) -> ProposalOut:
    """While it does not count yet. Afterwards the person votes themself: their ballot goes before their twin's at any time."""
    return proposal_out(dao.veto(actor_of(principal, request.actor if request else None), proposal_id))


@dataclass(frozen=True, slots=True)
class Meant:
    proposal_id: str
    choice: Choice
    reasons: str | None


def _meant(stores: Stores, voter: str, request: VoteRequest) -> Meant:
    """Raises: UserInputError `ballot_incomplete`, `draft_unknown`, `draft_differs`."""
    if request.draft_id is None:
        if request.proposal is None or request.choice is None:
            raise UserInputError("ballot_incomplete", "a ballot names its `proposal` and a `choice`, or a `draft_id`")
        return Meant(request.proposal, request.choice, request.reasons)
    with stores.tables.transaction(voter) as connection:
        drafts = [kept.draft for kept in list_drafts(connection, voter) if kept.draft_id == request.draft_id]
    if not drafts:
        raise UserInputError("draft_unknown", f"the twin of {voter!r} has drafted no such ballot")
    draft = drafts[0]
    if request.choice not in (None, draft.choice):
        raise UserInputError("draft_differs", f"the draft says {draft.choice!r}: leave `choice` out, or vote without the draft")
    reason = draft.reason if request.publish_reason and request.reasons is None else request.reasons
    return Meant(request.proposal or draft.proposal, draft.choice, reason)


def check_weight(weight: int, proposal: ProposalState, voter: str) -> None:
    """Nobody chooses what their voice weighs. Raises: VoteError `weight_invalid`, `weight_not_yours`."""
    if weight <= 0:
        raise VoteError("weight_invalid", "a weight is a whole number over 0, and the rules give it: leave `weight` out")
    given = proposal.electorate.get(voter)
    if given is not None and weight != given:
        raise VoteError(
            "weight_not_yours", f"the ballot of {voter!r} weighs {given} in this vote, not {weight}: leave `weight` out"
        )
