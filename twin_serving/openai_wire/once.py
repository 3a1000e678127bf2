"""A completion with an `Idempotency-Key`: one turn, however often it is asked for, and in whichever form.

Belongs here: what a key leads to (an answer that is stored, a turn under way, or a turn that begins now), and how each is told.
Does not belong here: transport (`routes/openai_chat.py`), and completions without a key, which end when their client leaves.

OpenAI's client sends no such header by itself; one that it is given (`extra_headers`) comes with each of its retries.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sse_starlette import ServerSentEvent

from lpm_kernel.asked_again import TurnKey, check_same, turn_key
from lpm_kernel.chat import check_session_id
from lpm_kernel.errors import LlmError, TwinError
from lpm_kernel.records import ChatMessage, Release
from lpm_kernel.stores.ballot_drafts import KeptDraft
from lpm_kernel.stores.releases import get_release
from twin_serving.deps import Services
from twin_serving.engine.booking import Booking
from twin_serving.engine.listener import listened_to
from twin_serving.errors import UNFORESEEN, openai_error_body
from twin_serving.events import heard_events
from twin_serving.live_turns import LiveTurn
from twin_serving.openai_wire.conversation import read_talk, session_of
from twin_serving.openai_wire.errors import wire_error
from twin_serving.openai_wire.schemas import ChatCompletionRequest, refuse_unsupported
from twin_serving.openai_wire.turns import (
    WireTurn,
    begin_wire_turn,
    chunk,
    completion,
    ending_chunks,
    first_chunk,
    head,
)
from twin_serving.talk import answered_before, done_content, failure_told

WAY = "completion"
"""Its keys are none of `/twin/{user_id}/chat`: what is said there in answer has another form."""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer out of what is stored: without scores, and without what it took."""

    model: str
    message: ChatMessage
    drafts: tuple[KeptDraft, ...]
    release: Release | None
    usage_asked: bool

    def head(self, kind: str) -> dict[str, Any]:
        return head(kind, self.message.message_id, int(self.message.ts.timestamp()), self.model, self.release)

    def twin(self) -> dict[str, Any]:
        told = done_content(self.message, self.drafts)
        del told["answer"]
        return {**told, "release_id": self.message.release_id}

    @property
    def finish_reason(self) -> str:
        return "length" if self.message.cut_off else "stop"

    def whole(self) -> dict[str, Any]:
        return completion(self, self.message.content, self.finish_reason, None)

    def events(self) -> Iterator[ServerSentEvent]:
        yield event_of(first_chunk(self))
        yield event_of(chunk(self, {"content": self.message.content}))
        for last in ending_chunks(self, self.finish_reason, None):
            yield event_of(last)
        yield DONE


@dataclass(frozen=True, slots=True)
class Keyed:
    """What a request with a key asks for. `stored`: its answer, if it has one already."""

    key: TurnKey
    session_id: str
    question: str
    stored: StoredAnswer | None


@dataclass(frozen=True, slots=True)
class Ended:
    finish_reason: str
    usage: dict[str, int]


DONE = ServerSentEvent("[DONE]")


def event_of(content: object) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(content, ensure_ascii=False))


def read_keyed(
    services: Services, request: ChatCompletionRequest, user_id: str, caller: str | None, session_id: str | None, key: str
) -> Keyed:
    """Raises: RequestRefused; UserInputError `key_invalid`, `key_reused`, `session_id_invalid`; StoreError."""
    refuse_unsupported(request)
    talk = read_talk(request.messages)
    session_id = check_session_id(session_id or session_of(talk, user_id, caller, request.user))
    turn, question = turn_key(user_id, caller, key, WAY), talk.question.strip()
    kept = answered_before(services.stores, user_id, turn, question, session_id)
    if kept is None:
        return Keyed(turn, session_id, question, None)
    message, drafts = kept
    release = None
    if message.release_id is not None:
        with services.stores.tables.transaction(user_id) as connection:
            release = get_release(connection, user_id, message.release_id)
    stored = StoredAnswer(request.model, message, tuple(drafts), release, usage_asked(request))
    return Keyed(turn, session_id, question, stored)


def join_or_begin(
    services: Services, request: ChatCompletionRequest, user_id: str, caller: str | None, asked: Keyed
) -> LiveTurn:
    """The turn of this key that is under way, or one that begins now. Waits for nothing: of two at once the second finds it.

    Raises: UserInputError `key_reused`; LlmError `too_many_requests`, `engine_busy`, `turns_busy`.
    """
    said = asked.session_id, asked.question
    live = services.turns.get(user_id, asked.key.answer_id)
    if live is not None and live.error is None:
        if live.asked:
            check_same(live.asked, said)
        return live
    booking = services.book(user_id)
    try:
        hold = partial(hold_wire_turn, services, booking, request, caller, asked)
        return services.turns.begin(user_id, asked.key.answer_id, hold, asked=said)
    except BaseException:
        booking.leave()
        raise


def hold_wire_turn(
    services: Services, booking: Booking, request: ChatCompletionRequest, caller: str | None, asked: Keyed, live: LiveTurn
) -> None:
    """What the thread of such a turn does. Its events are those of any turn; this wire's form is made for each listener."""
    with failure_told(live), booking, listened_to(live.is_left):
        turn = begin_wire_turn(services, request, live.user_id, caller, asked.session_id, booking, asked.key)
        try:
            live.turn = turn
            live.start(turn.twin())
            said = ""
            for piece in turn.pieces:
                said += piece
                live.say(piece)
                if live.is_left():
                    turn.close()
        finally:
            turn.close()
        message = turn.reply.message
        if message is None and not turn.llm.stopped:
            raise LlmError("turn_left", "the answer was given up before its first word")
        cut_off = message is not None and message.cut_off
        ended = Ended("length" if cut_off else turn.llm.finish_reason(said), turn.usage(said))
        live.end(done_content(message or _nothing_said(turn), turn.reply.drafts), ended)


def whole_of(live: LiveTurn) -> dict[str, Any]:
    """Of a turn that has ended well."""
    ended: Ended = live.result
    return completion(live.turn, live.said, ended.finish_reason, ended.usage)


async def chunks_of(live: LiveTurn, request: ChatCompletionRequest) -> AsyncGenerator[ServerSentEvent, None]:
    """A turn in chunks from its start, whoever began it, then `[DONE]`; a failure is an event with an error, and nothing after
    it. Closing this early leaves the turn as it is."""
    async with aclosing(heard_events(live)) as heard:
        async for event in heard:
            if event.name == "error":
                failure = wire_error(live.error) if isinstance(live.error, TwinError) else (*UNFORESEEN, 500)
                yield event_of(openai_error_body(*failure))
                return
            turn: WireTurn = replace(live.turn, usage_asked=usage_asked(request))
            if event.name == "start":
                yield event_of(first_chunk(turn))
            elif event.name == "token":
                yield event_of(chunk(turn, {"content": event.content["text"]}))
            else:
                for last in ending_chunks(turn, live.result.finish_reason, live.result.usage):
                    yield event_of(last)
                yield DONE


def usage_asked(request: ChatCompletionRequest) -> bool:
    return bool(request.stream_options and request.stream_options.include_usage)


def _nothing_said(turn: WireTurn) -> ChatMessage:
    """It began with a stop sequence: nothing of it is stored."""
    whose = turn.turn.user.user_id, turn.turn.session_id
    return ChatMessage(turn.turn.answer_id, *whose, "twin", datetime.now(UTC), "", release_id=turn.turn.release.release_id)
