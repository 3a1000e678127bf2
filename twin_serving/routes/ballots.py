"""`GET /twin/{user_id}/ballot-drafts`: what a twin would vote, for its person to look at.

Belongs here: reading rows.
Does not belong here: casting; a draft is no ballot.
"""

from __future__ import annotations

from fastapi import APIRouter

from lpm_kernel.records import check_user_id
from lpm_kernel.stores.ballot_drafts import list_drafts
from lpm_kernel.stores.users import get_user
from twin_serving.deps import ServicesDep
from twin_serving.schemas import BallotDraftsAnswer, draft_out

router = APIRouter()


@router.get("/twin/{user_id}/ballot-drafts")
def ballot_drafts(user_id: str, services: ServicesDep) -> BallotDraftsAnswer:
    """The ballots that this twin has drafted, newest first. None is cast by that: `POST /vote` with its `draft_id` does it."""
    check_user_id(user_id)
    with services.stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)
        drafts = list_drafts(connection, user_id)
    return BallotDraftsAnswer(user_id=user_id, drafts=[draft_out(draft) for draft in drafts])
