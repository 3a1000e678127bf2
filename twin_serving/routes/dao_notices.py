"""`GET /twin/{user_id}/notices`: what of the DAO waits for a person.

Belongs here: transport, and its form on the wire.
Does not belong here: what waits (`lpm_kernel/dao/notices.py`).
"""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel

from lpm_kernel.dao.notices import NoticeKind
from lpm_kernel.records import check_user_id
from lpm_kernel.stores.users import get_user
from twin_serving.dao_access import DaoDep
from twin_serving.deps import ServicesDep

router = APIRouter()


class NoticeOut(BaseModel):
    """`vote_waits`: nobody has voted for them; `twin_cast`: their twin has, and until then they may take it back;
    `draft_waits`: `POST /vote` with this `draft_id` casts it. `choice`: the twin's."""

    kind: NoticeKind
    proposal_id: str
    title: str
    until: datetime
    left_s: float
    choice: str | None
    draft_id: str | None
    reminded_percent: int | None


class NoticesAnswer(BaseModel):
    user_id: str
    at: datetime
    notices: list[NoticeOut]


@router.get("/twin/{user_id}/notices", summary="What waits for a person")
def notices(user_id: str, services: ServicesDep, dao: DaoDep) -> NoticesAnswer:
    """Votes that nobody has cast for them, ballots of their twin while they may veto them, and drafts that can be cast; the
    most pressing first, each with the time that is left. One goes when it is done or over."""
    check_user_id(user_id)
    with services.stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)
    at = dao.clock()
    told = [
        NoticeOut(
            kind=each.kind,
            proposal_id=each.proposal_id,
            title=each.title,
            until=each.until,
            left_s=round((each.until - at).total_seconds(), 3),
            choice=each.choice,
            draft_id=each.draft_id,
            reminded_percent=each.reminded_percent,
        )
        for each in dao.notices(user_id, at)
    ]
    return NoticesAnswer(user_id=user_id, at=at, notices=told)
