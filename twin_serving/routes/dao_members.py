"""`PUT /twin/{user_id}/attributes`: what a member has of what the rules give weight for.

Belongs here: transport, and who may do it.
Does not belong here: what an attribute weighs (`lpm_kernel/dao/rules.py`).
"""

from __future__ import annotations

from fastapi import APIRouter

from lpm_kernel.errors import VoteError
from lpm_kernel.records import check_user_id
from twin_serving.auth import PrincipalDep
from twin_serving.dao_access import DaoDep, check_operator
from twin_serving.dao_schemas import MAX_ATTRIBUTE, MAX_ID_CHARACTERS, AttributesForm
from twin_serving.errors import problems

router = APIRouter()


@router.put("/twin/{user_id}/attributes", responses=problems(403, 404, 409), summary="Set what a member's weight is made of")
def set_attributes(user_id: str, request: AttributesForm, principal: PrincipalDep, dao: DaoDep) -> AttributesForm:
    """By who may act for everyone: nobody gives weight to themself. It weighs in votes that begin later, by `dao.weights`; what
    is left out the member has not. An amount is over 0, and no member's weight falls under 1."""
    check_user_id(user_id)
    check_operator(principal, "an attribute")
    for name, amount in request.attributes.items():
        if not 0 < amount <= MAX_ATTRIBUTE or not 0 < len(name) <= MAX_ID_CHARACTERS:
            raise VoteError(
                "weight_invalid", f"an attribute has a name and an amount of 1 to {MAX_ATTRIBUTE}; leave out what is 0"
            )
    dao.set_attributes(principal.user_id or user_id, user_id, request.attributes)
    return request
