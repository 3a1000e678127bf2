"""`POST /twin/{user_id}/chat`: a question to a twin, answered as JSON or as a stream of server-sent events.

Belongs here: transport. The turn itself is `lpm_kernel/chat.py`.
Does not belong here: recall, prompts, the model.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import anyio
from anyio import to_thread
from fastapi import APIRouter, Header
from sse_starlette import EventSourceResponse, ServerSentEvent

from lpm_kernel.chat import Turn, answer, begin_turn, settle, stream_turn
from lpm_kernel.errors import TwinError
from twin_serving.deps import ServicesDep
from twin_serving.errors import UNFORESEEN, error_body, log
from twin_serving.schemas import ChatAnswer, ChatRequest, turn_out

router = APIRouter()
HEARTBEAT_S = 15


@router.post("/twin/{user_id}/chat", response_model=ChatAnswer)
async def chat(user_id: str, request: ChatRequest, services: ServicesDep, accept: Annotated[str, Header()] = "*/*"):
    """JSON, or with `Accept: text/event-stream` the events `start` (what an answer may rest on), `token` (some text) and `done`
    (where `answerable` is false the twin declined, and rests on nothing).

    Errors before the first event are HTTP statuses; later ones are an `error` event.
    """
    if "text/event-stream" in accept:
        turn = await to_thread.run_sync(
            begin_turn, services.stores, services.llm, user_id, request.question, request.session_id
        )
        pieces = stream_turn(services.stores, services.llm, turn, services.adapters)
        return EventSourceResponse(chat_events(turn, pieces), ping=HEARTBEAT_S)
    reply = await to_thread.run_sync(
        *(answer, services.stores, services.llm, user_id, request.question, services.adapters, request.session_id),
        limiter=anyio.CapacityLimiter(1),  # a thread of its own: turns that wait for the engine must not keep uploads waiting
    )
    return ChatAnswer(answer=reply.text, **turn_out(reply.turn).model_dump())


async def chat_events(turn: Turn, pieces: Iterator[str]) -> AsyncIterator[ServerSentEvent]:
    """The events of one turn. When the listener leaves, the pieces are closed, which keeps what was said so far."""
    # A thread of its own: with those of all other requests, waiting turns would keep the turns they wait for from going on.
    own_thread = anyio.CapacityLimiter(1)
    try:
        yield _event("start", turn_out(turn).model_dump(mode="json"))
        said = ""
        try:
            while (piece := await to_thread.run_sync(next, pieces, None, limiter=own_thread)) is not None:
                said += piece
                yield _event("token", {"text": piece})
        except TwinError as error:
            yield _event("error", error_body(error.code, error.message))
            return
        except Exception as error:
            # the status has been sent: without this event the stream would only break off
            log.error("a stream of answers failed", exc_info=error)
            yield _event("error", error_body(*UNFORESEEN))
            return
        answerable = settle(turn, said).answerable
        yield _event("done", {"answer": said.strip(), "message_id": turn.answer_id, "answerable": answerable})
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(_close, pieces, limiter=own_thread)


def _event(name: str, content: object) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(content, ensure_ascii=False), event=name)


def _close(pieces: Iterator[str]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()
