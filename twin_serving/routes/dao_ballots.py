"""`POST /vote` and the ballots of a proposal: casting, reading, and taking back what a twin has cast.

Belongs here: transport, and who may do it.
Does not belong here: which ballot counts (`lpm_kernel/dao/tally.py`) and how a twin makes up its mind (`dao_twins.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query

from lpm_kernel.dao.ballot_draft import Choice
from lpm_kernel.dao.tally import counting_ballots
from lpm_kernel.errors import UserInputError, VoteError
from lpm_kernel.paging import MAX_CURSOR_CHARACTERS, MAX_PAGE_ITEMS, PAGE_ITEMS, make_cursor, read_cursor, take_page
from lpm_kernel.stores.ballot_drafts import list_drafts
from twin_serving.auth import PrincipalDep
from twin_serving.dao_access import DaoDep, KeyHeader, MemberDep, actor_of, key_of, moment_of, shown_of
from twin_serving.dao_answers import ballot_out, proposal_out, vote_out
from twin_serving.dao_schemas import ActorRequest, BallotsAnswer, ProposalOut, VoteAnswer, VoteRequest
from twin_serving.deps import ServicesDep
from twin_serving.errors import problems

if TYPE_CHECKING:
    from lpm_kernel.dao.fold import ProposalState
    from lpm_kernel.dao.service import Dao
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
    meant = _meant(services.stores, dao, voter, request)
    if request.weight is not None:
        check_weight(request.weight, dao.proposal(meant.proposal_id), voter)
    cast = dao.vote(
        voter,
        meant.proposal_id,
        meant.choice,
        cast_by="human",
        reasons=meant.reasons,
        documents=meant.documents,
        key=key_of(key, request.key),
        cast_at=moment_of(request.cast_at, "cast_at"),
    )
    side.count(cast)
    return vote_out(cast)


@router.get("/proposals/{proposal_id}/ballots", responses=problems(403), summary="The ballots on a proposal")
def ballots(
    proposal_id: str,
    member: MemberDep,
    services: ServicesDep,
    dao: DaoDep,
    cursor: Annotated[
        str | None, Query(max_length=MAX_CURSOR_CHARACTERS, description="`next_cursor` of the page before")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_ITEMS)] = PAGE_ITEMS,
) -> BallotsAnswer:
    """Every ballot that was ever cast, page by page, oldest first, which of them counts, and why it was cast so. Of what a
    ballot rests on the reader is told what stands in documents that its voter shares; the rest is the voter's alone."""
    proposal, places = dao.proposal(proposal_id), ("ballots", proposal_id)
    first = read_cursor(places[0], cursor, (str, int)) if cursor is not None else [proposal_id, 0]
    if first[0] != proposal_id:
        raise UserInputError("cursor_invalid", "this is a cursor of the ballots on another proposal")
    numbered = list(enumerate(dao.ballots(proposal_id), start=1))[int(first[1]) : int(first[1]) + limit + 1]
    page = take_page(numbered, limit, lambda last: make_cursor(*places, last[0]))
    found = [each for _, each in page.items]
    until = proposal.resolution.resolved_at if proposal.resolution else dao.clock()
    given = {each.delegation_id: each for each in dao.delegations()}
    counting = {ballot.ballot_id for ballot in counting_ballots(proposal, until, given).values()}
    shown = shown_of(services.stores, member, found)
    told = [
        ballot_out(
            ballot,
            shown[ballot.ballot_id],
            counts=ballot.ballot_id in counting,
            vetoed=ballot.ballot_id in proposal.vetoed,
        )
        for ballot, _ in found
    ]
    return BallotsAnswer(proposal_id=proposal_id, ballots=told, next_cursor=page.next_cursor)


@router.post("/proposals/{proposal_id}/veto", responses=problems(403), summary="Take back your twin's ballot")
def veto(proposal_id: str, principal: PrincipalDep, dao: DaoDep, request: ActorRequest | None = None) -> ProposalOut:
    """While it does not count yet. Afterwards the person votes themself: their ballot goes before their twin's at any time."""
    return proposal_out(dao.veto(actor_of(principal, request.actor if request else None), proposal_id))


@dataclass(frozen=True, slots=True)
class Meant:
    """`documents`: what the reasons quote."""

    proposal_id: str
    choice: Choice
    reasons: str | None
    documents: tuple[str, ...] = ()


def _meant(stores: Stores, dao: Dao, voter: str, request: VoteRequest) -> Meant:
    """Raises: UserInputError `ballot_incomplete`, `draft_unknown`, `draft_differs`; VoteError `proposal_unknown`."""
    if request.draft_id is None:
        if request.proposal is None or request.choice is None:
            raise UserInputError("ballot_incomplete", "a ballot names its `proposal` and a `choice`, or a `draft_id`")
        return Meant(request.proposal, request.choice, request.reasons)
    with stores.tables.transaction(voter) as connection:
        drafts = [kept for kept in list_drafts(connection, voter) if kept.draft_id == request.draft_id]
    if not drafts:
        raise UserInputError("draft_unknown", f"the twin of {voter!r} has drafted no such ballot")
    kept = drafts[0]
    draft, named = kept.draft, request.proposal
    if request.choice not in (None, draft.choice):
        raise UserInputError("draft_differs", f"the draft says {draft.choice!r}: leave `choice` out, or vote without the draft")
    if named is not None and named != draft.proposal and not _names(draft.proposal, dao.proposal(named)):
        raise UserInputError(
            "draft_differs", "the draft is of another proposal, whatever it would say of this one: vote on it without the draft"
        )
    publishes = request.publish_reason and request.reasons is None
    documents = tuple(place.partition(":")[0] for place in kept.citations) if publishes else ()
    return Meant(named or draft.proposal, draft.choice, draft.reason if publishes else request.reasons, documents)


def _names(reference: str, proposal: ProposalState) -> bool:
    """Whether a reference, as a twin writes it in an answer, is to this proposal: by its id or by its title."""
    said = " ".join(reference.split()).casefold().strip("#\"“”'‘’")
    return said in (proposal.proposal_id.casefold(), " ".join(proposal.title.split()).casefold())


def check_weight(weight: int, proposal: ProposalState, voter: str) -> None:
    """Nobody chooses what their voice weighs. Raises: VoteError `weight_invalid`, `weight_not_yours`."""
    if weight <= 0:
        raise VoteError("weight_invalid", "a weight is a whole number over 0, and the rules give it: leave `weight` out")
    given = proposal.electorate.get(voter)
    if given is not None and weight != given:
        raise VoteError(
            "weight_not_yours", f"the ballot of {voter!r} weighs {given} in this vote, not {weight}: leave `weight` out"
        )
