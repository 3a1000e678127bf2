"""`POST /twin/{user_id}/chat`: a question to a twin, answered as JSON or as a stream of server-sent events that can be resumed.

Belongs here: transport. The turn itself is `lpm_kernel/chat.py`, and it goes on apart from its listeners (`live_turns.py`).
Does not belong here: recall, prompts, the model.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Request, Response
from sse_starlette import EventSourceResponse

from lpm_kernel.asked_again import check_same
from lpm_kernel.chat import TurnKey, new_answer_id, turn_key
from lpm_kernel.errors import UserInputError
from lpm_kernel.recall.scopes import check_asker
from lpm_kernel.records import check_user_id
from lpm_kernel.reply import Reply
from twin_serving.asking import asker_of, may_hear
from twin_serving.auth import PrincipalDep
from twin_serving.deps import Services, ServicesDep
from twin_serving.errors import problems
from twin_serving.events import check_number, number_after, stored_events, turn_events
from twin_serving.leaving import hear
from twin_serving.live_turns import BEFORE_THE_START, LiveTurn
from twin_serving.schemas import ChatAnswer, ChatRequest, DoneOut, draft_out, turn_out
from twin_serving.talk import answered_before, done_content, hold_turn, stored_answer

router = APIRouter()
HEARTBEAT_S = 15
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "JSON, or the events of the answer"}
}


@router.post(
    "/twin/{user_id}/chat",
    summary="Ask a twin",
    response_model=ChatAnswer | DoneOut,
    responses={**STREAM, **problems(404, 409)},
)
async def chat(
    user_id: str,
    request: ChatRequest,
    connection: Request,
    services: ServicesDep,
    principal: PrincipalDep,
    accept: Annotated[str, Header()] = "*/*",
    idempotency_key: Annotated[str | None, Header()] = None,
):
    """JSON, or with `Accept: text/event-stream` the events `start` (what an answer may rest on), `token` (some text) and `done`
    (the whole; where `answerable` is false the twin declined, and rests on nothing).

    Every event has an id. A client that was cut off asks `GET /twin/{user_id}/chat/{message_id}/events` for what comes after
    the last id it has seen; meanwhile the answer goes on. `degraded` names what the answer is without: parts of the memory, or
    `answerer`, `adapter`, `base` for models that failed; where all did, it is the best line as it stands.
    Errors before the first event are HTTP statuses; later ones are an `error` event. A client that waits for JSON and leaves
    ends the answer where it is: nobody could come back for it.

    With an `Idempotency-Key` it can: the same question with the same key is one turn, however often it is sent. It is joined
    while it is under way, told as it is stored when it is answered (`DoneOut`), and answered now where it is not.
    """
    check_user_id(user_id)
    # who may act for the person speaks as them
    asker = check_asker(asker_of(None if principal.operator else principal.user_id, user_id, request.asker), user_id)
    wants_events = "text/event-stream" in accept
    key = turn_key(user_id, asker, idempotency_key) if idempotency_key is not None else None
    if key and (
        kept := await to_thread.run_sync(answered_before, services.stores, user_id, key, request.question, request.session_id)
    ):
        content = done_content(*kept)
        return _replay(user_id, key.answer_id, kept[0].content, content) if wants_events else DoneOut(**content)
    asked = (request.session_id or key.session_id, request.question.strip()) if key else None
    live = services.turns.get(user_id, key.answer_id) if key else None
    # nothing is waited for from here to the turn's beginning: of two requests with one key the second finds it
    if live is None or live.error is not None:
        live = _begin(services, user_id, request, asker, key, asked)
    elif asked and live.asked:
        check_same(live.asked, asked)  # its question may not be stored yet
    if not await hear(connection, live, whole=not wants_events, kept=key is not None):
        return Response(status_code=204)  # nobody reads it
    if wants_events:
        return _stream(live)
    reply: Reply = live.result
    drafts = [draft_out(draft) for draft in reply.drafts]
    cut_off = reply.message is not None and reply.message.cut_off
    return ChatAnswer(answer=reply.text, cut_off=cut_off, ballot_drafts=drafts, **turn_out(reply.turn).model_dump())


def _begin(
    services: Services,
    user_id: str,
    request: ChatRequest,
    asker: str | None,
    key: TurnKey | None,
    asked: tuple[str, str] | None,
) -> LiveTurn:
    booking = services.book(user_id, asker)
    try:
        hold = partial(hold_turn, services, booking, request.question, request.session_id, asker, key=key)
        return services.turns.begin(user_id, key.answer_id if key else new_answer_id(), hold, asker, asked)
    except BaseException:
        booking.leave()
        raise


@router.get(
    "/twin/{user_id}/chat/{message_id}/events",
    response_class=Response,
    summary="Hear an answer again, from an event on",
    responses={**STREAM, 204: {"description": "every event has been seen"}, **problems(404)},
)
async def events(
    user_id: str,
    message_id: str,
    services: ServicesDep,
    principal: PrincipalDep,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """The events of an answer, after `Last-Event-ID` where it is given: of a turn that is under way or ended a moment ago as
    they came, later out of the stored answer (the words that are missing, and `done`). 204 when there is none left.

    `message_id` is that of the `start` event; only whose talk it was may hear it again. What nobody comes back for in time is
    cut off, and `done` says so.
    """
    check_user_id(user_id)
    unknown = UserInputError("message_unknown", f"the twin {user_id!r} has given no such answer")
    live = services.turns.get(user_id, message_id)
    if live is not None:
        if not may_hear(principal, user_id, live.asker):
            raise unknown
        number = number_after(message_id, last_event_id)
        check_number(number, live.last_number)
        if live.has_ended and number == live.last_number:
            return Response(status_code=204)
        return _stream(live, number)
    stored = await to_thread.run_sync(stored_answer, services.stores, user_id, message_id)
    if stored is None or not may_hear(principal, user_id, stored[0].asker):
        raise unknown
    message, drafts = stored
    number = number_after(message_id, last_event_id)
    last = len(message.content) + 1
    check_number(number, last)
    if number == last:
        return Response(status_code=204)
    return _replay(user_id, message_id, message.content, done_content(message, drafts), number)


def _replay(
    user_id: str, message_id: str, answer: str, content: dict[str, Any], number: int = BEFORE_THE_START
) -> EventSourceResponse:
    async def kept():
        for event in stored_events(message_id, answer, content, number):
            yield event

    return EventSourceResponse(kept(), headers=_where(user_id, message_id), ping=HEARTBEAT_S)


def _stream(live: LiveTurn, *after: int) -> EventSourceResponse:
    return EventSourceResponse(turn_events(live, *after), headers=_where(live.user_id, live.message_id), ping=HEARTBEAT_S)


def _where(user_id: str, message_id: str) -> dict[str, str]:
    return {"Content-Location": f"/twin/{user_id}/chat/{message_id}/events"}
