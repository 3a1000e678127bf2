"""`/proposals`: making them, seeing how they stand, and their end.

Belongs here: transport, and who may do it.
Does not belong here: the rules (`lpm_kernel/dao`) and ballots (`dao_ballots.py`).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query

from lpm_kernel.dao.records import Status
from lpm_kernel.errors import UserInputError, VoteError
from lpm_kernel.paging import MAX_CURSOR_CHARACTERS, MAX_PAGE_ITEMS, PAGE_ITEMS, make_cursor, read_cursor, take_page
from lpm_kernel.records import is_text
from twin_serving.auth import Principal, PrincipalDep
from twin_serving.dao_access import DaoDep, KeyHeader, MemberDep, actor_of, key_of
from twin_serving.dao_answers import proposal_item_out, proposal_out, standing_out, status_out
from twin_serving.dao_schemas import (
    ActorRequest,
    CancelRequest,
    ImplementRequest,
    OpenProposalsAnswer,
    ProposalOut,
    ProposalRequest,
    ProposalsAnswer,
    StatusAnswer,
)
from twin_serving.errors import problems

if TYPE_CHECKING:
    from lpm_kernel.dao.service import Dao

router = APIRouter()


@router.post("/proposals", status_code=201, responses=problems(403, 404, 409), summary="Propose")
def propose(request: ProposalRequest, principal: PrincipalDep, dao: DaoDep, key: KeyHeader = None) -> ProposalOut:
    """A proposal, open at once unless `open` is false; it is voted on by the rules that are in the settings now. `proposer` is
    whom the token names. The same `Idempotency-Key` (or `key`) with the same content makes one proposal."""
    proposal = dao.propose(
        actor_of(principal, request.proposer),
        request.title,
        request.text,
        topic=request.topic,
        amends=request.amends,
        open=request.open,
        key=key_of(key, request.key),
    )
    return proposal_out(proposal)


@router.get("/proposals/open", responses=problems(403), summary="What is open")
def open_proposals(member: MemberDep, dao: DaoDep) -> OpenProposalsAnswer:
    """Proposals that are open or voted on, with their tallies, turnout and time left."""
    dashboard = dao.dashboard()
    return OpenProposalsAnswer(at=dashboard.at, proposals=[standing_out(each, dashboard.at) for each in dashboard.open])


@router.get("/proposals", responses=problems(403), summary="All proposals")
def proposals(
    member: MemberDep,
    dao: DaoDep,
    status: Annotated[Status | None, Query(description="only those that stand so")] = None,
    cursor: Annotated[
        str | None, Query(max_length=MAX_CURSOR_CHARACTERS, description="`next_cursor` of the page before")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_ITEMS)] = PAGE_ITEMS,
) -> ProposalsAnswer:
    """Page by page, those first that were drafted last."""
    found = dao.newest(limit + 1, status, _place(cursor) if cursor is not None else None)
    page = take_page(found, limit, lambda each: make_cursor("proposals", each.drafted_at.isoformat(), each.proposal_id))
    return ProposalsAnswer(proposals=[proposal_item_out(each) for each in page.items], next_cursor=page.next_cursor)


@router.get("/proposals/{proposal_id}/status", responses=problems(403), summary="How a proposal stands")
def status(proposal_id: str, member: MemberDep, dao: DaoDep) -> StatusAnswer:
    """Its state and rules, the tally, turnout, time left, whether it is stalled, where each member's weight goes, and its
    end."""
    at = dao.clock()
    return status_out(dao.standing(proposal_id, at), at)


@router.post("/proposals/{proposal_id}/open", responses=problems(403), summary="Open a draft")
def open_draft(proposal_id: str, principal: PrincipalDep, dao: DaoDep, request: ActorRequest | None = None) -> ProposalOut:
    """By its proposer, who drafted it with `open: false`. The vote begins after the rules' time for discussion."""
    return proposal_out(dao.open_proposal(_actor(principal, dao, proposal_id, request), proposal_id))


@router.post("/proposals/{proposal_id}/cancel", responses=problems(403), summary="Cancel a proposal")
def cancel(proposal_id: str, request: CancelRequest, principal: PrincipalDep, dao: DaoDep) -> ProposalOut:
    """By its proposer, or by who may act for everyone; before it has ended. Ballots stay in the ledger and count for
    nothing."""
    actor = _actor(principal, dao, proposal_id, request)
    return proposal_out(dao.cancel(actor, proposal_id, request.why, by_operator=principal.operator))


@router.post("/proposals/{proposal_id}/implemented", responses=problems(403), summary="Say that it is done")
def implemented(
    proposal_id: str,
    principal: PrincipalDep,
    dao: DaoDep,
    request: ImplementRequest | None = None,
    key: KeyHeader = None,
) -> ProposalOut:
    """What has passed is carried out; by its proposer, or by who may act for everyone."""
    actor = _actor(principal, dao, proposal_id, request)
    if not principal.operator and actor != dao.proposal(proposal_id).proposer:
        raise VoteError("not_proposer", "that it is carried out is said by who proposed it, or by who may act for everyone")
    key = key_of(key, request.key if request else None)
    return proposal_out(dao.implement(actor, proposal_id, key, by_operator=principal.operator))


def _place(cursor: str) -> tuple[datetime, str]:
    """Raises: UserInputError `cursor_invalid`."""
    drafted_at, proposal_id = read_cursor("proposals", cursor, (str, str))
    try:
        moment = datetime.fromisoformat(str(drafted_at))
    except ValueError:
        moment = datetime.min
    if moment.tzinfo is None or not is_text(str(proposal_id)):
        raise UserInputError("cursor_invalid", "this is no cursor of that list: take `next_cursor` of the page before")
    return moment, str(proposal_id)


def _actor(principal: Principal, dao: Dao, proposal_id: str, request: ActorRequest | None) -> str:
    """Whom the token or the request names; where neither does, which needs no token, the proposer."""
    named = request.actor if request else None
    if named is None and principal.user_id is None:
        return dao.proposal(proposal_id).proposer
    return actor_of(principal, named)
