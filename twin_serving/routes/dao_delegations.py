"""`/delegations`: who votes for whom, in what, and until when.

Belongs here: transport, and who may do it.
Does not belong here: how a delegation counts (`lpm_kernel/dao/tally.py`).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from lpm_kernel.errors import VoteError
from twin_serving.auth import PrincipalDep, check_may_act_for
from twin_serving.dao_access import DaoDep, KeyHeader, MemberDep, actor_of, ends_moment, key_of
from twin_serving.dao_answers import delegation_out, scope_of
from twin_serving.dao_schemas import DelegationOut, DelegationRequest, DelegationsAnswer, Member
from twin_serving.errors import problems

router = APIRouter()


@router.post("/delegations", status_code=201, responses=problems(403, 404, 409), summary="Let another vote for you")
def delegate(request: DelegationRequest, principal: PrincipalDep, dao: DaoDep, key: KeyHeader = None) -> DelegationOut:
    """For everything, a topic or one proposal, until it ends or is revoked; the own ballot always goes before. A delegate may
    hand it on, where the rules let them. Refused to oneself, to who is no member, and where it would come back to oneself."""
    delegator = actor_of(principal, request.delegator)
    ends_at, scope = ends_moment(request.ends_at, dao.clock()), scope_of(request.scope)
    key = key_of(key, request.key)
    given = dao.delegate(delegator, request.delegate, scope, ends_at=ends_at, standing=request.standing, key=key)
    return delegation_out(given)


@router.get("/delegations", responses=problems(403), summary="Who votes for whom")
def delegations(
    member: MemberDep,
    dao: DaoDep,
    of: Annotated[Member | None, Query(alias="member", description="only those that this member gave or holds")] = None,
) -> DelegationsAnswer:
    """Every delegation, also those that have ended or were revoked."""
    return DelegationsAnswer(delegations=[delegation_out(each) for each in dao.delegations(of)])


@router.delete("/delegations/{delegation_id}", responses=problems(403, 409), summary="Take a delegation back")
def revoke(delegation_id: str, principal: PrincipalDep, dao: DaoDep) -> DelegationOut:
    """By who gave it. Votes under way are counted without it from now on; those that are over stay as they are."""
    found = next((each for each in dao.delegations() if each.delegation_id == delegation_id), None)
    if found is None:
        raise VoteError("delegation_unknown", "there is no such delegation")
    check_may_act_for(principal, found.delegator)
    return delegation_out(dao.revoke(found.delegator, delegation_id))
