"""`POST /v1/chat/completions`: a twin as OpenAI's clients ask a model, answered whole or as a stream.

Belongs here: transport, and what becomes of a stream whose listener leaves or whose model fails.
Does not belong here: the turn, and OpenAI's forms (`openai_wire/`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from threading import Event
from typing import Annotated, Any

import anyio
from anyio import to_thread
from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from lpm_kernel.errors import TwinError
from twin_serving.auth import PrincipalDep
from twin_serving.deps import Services, ServicesDep
from twin_serving.engine.listener import listened_to
from twin_serving.errors import UNFORESEEN, log, openai_error_body, problems
from twin_serving.leaving import hear, heard_out
from twin_serving.openai_wire.conversation import SESSION_HEADER, named_session
from twin_serving.openai_wire.errors import OpenAiRoute, wire_error
from twin_serving.openai_wire.models import user_of
from twin_serving.openai_wire.once import DONE, StoredAnswer, chunks_of, event_of, join_or_begin, read_keyed, whole_of
from twin_serving.openai_wire.schemas import ChatCompletion, ChatCompletionRequest
from twin_serving.openai_wire.turns import WireTurn, begin_wire_turn, chunk, first_chunk, last_chunks, whole_answer

router = APIRouter(route_class=OpenAiRoute, tags=["OpenAI"])
HEARTBEAT_S = 15


@router.post(
    "/v1/chat/completions",
    summary="Ask a twin as a model",
    response_model=ChatCompletion,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}, **problems(404, 409)},
)
async def chat_completions(
    request: ChatCompletionRequest,
    connection: Request,
    services: ServicesDep,
    principal: PrincipalDep,
    session: Annotated[str | None, Header(alias=SESSION_HEADER)] = None,
    idempotency_key: Annotated[str | None, Header()] = None,
):
    """The last message is the question, those before it are what the model sees as the talk, and system messages are what the
    caller asks of the twin. The turn is stored in the session named by the header `X-Session-Id` or by `metadata.session_id`;
    without either in one that follows from the first question.

    With an `Idempotency-Key` the same question in the same session is one turn, however often it is sent, whole or as a stream:
    it goes on when its client leaves, is joined while it is under way, and told as it is stored once it is answered, then
    without `usage`. What else the request asks for is that of the first.
    """
    user_id = user_of(request.model, principal)
    named = named_session(session, request.metadata)
    own_thread = anyio.CapacityLimiter(1)  # as of every turn: it may wait for the model for long
    arguments = (services, request, user_id, principal.user_id, named)
    if idempotency_key is not None:
        asked = await to_thread.run_sync(read_keyed, *arguments, idempotency_key)
        if asked.stored is not None:
            stored = asked.stored
            return _stream(_kept(stored)) if request.stream else JSONResponse(stored.whole())
        live = join_or_begin(services, request, user_id, principal.user_id, asked)
        if not await hear(connection, live, whole=not request.stream, kept=True):
            return Response(status_code=204)  # nobody reads it
        return _stream(chunks_of(live, request)) if request.stream else JSONResponse(whole_of(live))
    if request.stream:
        turn = await to_thread.run_sync(begin_wire_turn, *arguments, limiter=own_thread)
        return CompletionStream(turn)
    left = Event()
    waiting = to_thread.run_sync(_answer, left.is_set, *arguments, limiter=own_thread)
    return JSONResponse(await heard_out(connection, waiting, left.set))


def _stream(events: AsyncIterator[ServerSentEvent]) -> EventSourceResponse:
    return EventSourceResponse(events, ping=HEARTBEAT_S)


async def _kept(stored: StoredAnswer) -> AsyncIterator[ServerSentEvent]:
    for event in stored.events():
        yield event


def _answer(
    is_left: Callable[[], bool],
    services: Services,
    request: ChatCompletionRequest,
    user_id: str,
    caller: str | None,
    session_id: str | None,
) -> dict[str, Any]:
    with listened_to(is_left):
        turn = begin_wire_turn(services, request, user_id, caller, session_id)
        try:
            return whole_answer(turn, is_left)
        finally:
            turn.close()


class CompletionStream(EventSourceResponse):
    """The stream of one turn, which is closed also where the client left before the first chunk."""

    def __init__(self, turn: WireTurn) -> None:
        super().__init__(completion_events(turn), ping=HEARTBEAT_S)
        self._turn = turn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(self._turn.close, limiter=anyio.CapacityLimiter(1))


async def completion_events(turn: WireTurn) -> AsyncIterator[ServerSentEvent]:
    """The chunks of one answer, then `[DONE]`; a failure is an event with an error, and nothing after it. When the listener
    leaves, the pieces are closed, which keeps what was said so far."""
    own_thread = anyio.CapacityLimiter(1)
    try:
        yield event_of(first_chunk(turn))
        said = ""
        try:
            while (piece := await to_thread.run_sync(next, turn.pieces, None, limiter=own_thread)) is not None:
                said += piece
                yield event_of(chunk(turn, {"content": piece}))
            for last in await to_thread.run_sync(last_chunks, turn, said, limiter=own_thread):
                yield event_of(last)
        except TwinError as error:
            yield event_of(openai_error_body(*wire_error(error)))
            return
        except Exception as error:
            # the status has been sent: without this event the stream would only break off
            log.error("a stream of chunks failed", exc_info=error)
            yield event_of(openai_error_body(*UNFORESEEN, 500))
            return
        yield DONE
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(turn.close, limiter=own_thread)
