"""`/twin/{user_id}/feedback`: what a person thinks of a reply of their twin.

Belongs here: keeping it and showing it.
Does not belong here: what is learnt from it; the asset `dpo` reads the same rows.
"""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter

from lpm_kernel.records import check_user_id
from lpm_kernel.stores.feedback import keep_feedback, list_rated
from lpm_kernel.stores.users import get_user
from twin_serving.deps import ServicesDep
from twin_serving.feedback_schemas import FeedbackAnswer, FeedbackRequest, feedback_out

router = APIRouter()


@router.post("/twin/{user_id}/feedback", status_code=204)
def give_feedback(user_id: str, request: FeedbackRequest, services: ServicesDep) -> None:
    """Rate a reply or say it better. The newest feedback on a reply stands, whole."""
    check_user_id(user_id)
    with services.stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)
        keep_feedback(
            connection,
            user_id,
            request.message_id,
            voice=request.voice,
            truth=request.truth,
            edited=request.edited,
            created_at=datetime.now(UTC),
        )


@router.get("/twin/{user_id}/feedback")
def feedback(user_id: str, services: ServicesDep) -> FeedbackAnswer:
    """Every reply that was rated or edited, with the question it answered, in the order of the talk."""
    check_user_id(user_id)
    with services.stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)
        return FeedbackAnswer(feedback=[feedback_out(rated) for rated in list_rated(connection, user_id)])
