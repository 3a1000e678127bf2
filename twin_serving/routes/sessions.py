"""`GET /twin/{user_id}/sessions` and what was said in one.

Belongs here: transport.
Does not belong here: the pages (`lpm_kernel/sessions.py`).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from lpm_kernel.paging import MAX_CURSOR_CHARACTERS, MAX_PAGE_ITEMS, PAGE_ITEMS
from lpm_kernel.sessions import page_of_messages, page_of_sessions
from twin_serving.data_schemas import MessagesAnswer, SessionsAnswer, message_out, session_out
from twin_serving.deps import ServicesDep

router = APIRouter()
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE_ITEMS)]
Cursor = Annotated[str | None, Query(max_length=MAX_CURSOR_CHARACTERS, description="`next_cursor` of the page before")]


@router.get("/twin/{user_id}/sessions")
def sessions(user_id: str, services: ServicesDep, cursor: Cursor = None, limit: Limit = PAGE_ITEMS) -> SessionsAnswer:
    """Conversations, the one that began last first."""
    page = page_of_sessions(services.stores, user_id, cursor=cursor, limit=limit)
    return SessionsAnswer(
        user_id=user_id, sessions=[session_out(session) for session in page.items], next_cursor=page.next_cursor
    )


@router.get("/twin/{user_id}/sessions/{session_id}")
def messages(
    user_id: str, session_id: str, services: ServicesDep, cursor: Cursor = None, limit: Limit = PAGE_ITEMS
) -> MessagesAnswer:
    """What was said in a conversation, in order."""
    page = page_of_messages(services.stores, user_id, session_id, cursor=cursor, limit=limit)
    return MessagesAnswer(
        user_id=user_id,
        session_id=session_id,
        messages=[message_out(message) for _, message in page.items],
        next_cursor=page.next_cursor,
    )
