"""`/twin/{user_id}/memories`: looked through, corrected, forgotten by their person.

Belongs here: transport, and who asks.
Does not belong here: what a correction is (`lpm_kernel/corrections.py`).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from lpm_kernel.corrections import MAX_QUERY_CHARACTERS, correct_memory, forget_memory, list_memories, search_memories
from lpm_kernel.errors import UserInputError
from lpm_kernel.paging import PAGE_ITEMS
from twin_serving.auth import PrincipalDep
from twin_serving.data_schemas import CorrectionRequest, ForgottenAnswer, MemoriesAnswer, MemoryOut, memory_out
from twin_serving.deps import ServicesDep
from twin_serving.routes.sessions import Cursor, Limit

router = APIRouter()


@router.get("/twin/{user_id}/memories")
def memories(
    user_id: str,
    services: ServicesDep,
    kind: Annotated[list[str] | None, Query(max_length=10, description="of these kinds alone; may be repeated")] = None,
    q: Annotated[str | None, Query(max_length=MAX_QUERY_CHARACTERS, description="the nearest to these words")] = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_ITEMS,
) -> MemoriesAnswer:
    """What is remembered now, newest first, page by page; with `q` the nearest to it, best first, in one page."""
    kinds = kind or []
    if q is not None:
        if cursor is not None:
            raise UserInputError("cursor_invalid", "a search has one page: ask for more by `limit`")
        found = search_memories(services.stores, user_id, q, kinds=kinds, limit=limit)
        hits = [memory_out(memory, score) for memory, score in found]
        return MemoriesAnswer(user_id=user_id, memories=hits, next_cursor=None)
    page = list_memories(services.stores, user_id, kinds=kinds, cursor=cursor, limit=limit)
    items = [memory_out(memory) for memory in page.items]
    return MemoriesAnswer(user_id=user_id, memories=items, next_cursor=page.next_cursor)


@router.patch("/twin/{user_id}/memories/{memory_id}")
def correct(
    user_id: str, memory_id: str, correction: CorrectionRequest, services: ServicesDep, principal: PrincipalDep
) -> MemoryOut:
    """The memory that holds from now on in place of this one, which stays in its history. Who asked is on record."""
    return memory_out(correct_memory(services.stores, user_id, memory_id, correction.text, by=principal.user_id))


@router.delete("/twin/{user_id}/memories/{memory_id}")
def forget(user_id: str, memory_id: str, services: ServicesDep) -> ForgottenAnswer:
    """Remove a memory and every earlier version of it. What a document says is not remembered from it again."""
    return ForgottenAnswer(memory_id=memory_id, versions=forget_memory(services.stores, user_id, memory_id))
