"""A chat request as a turn of a twin, and its answer in OpenAI's form, whole or in chunks.

Belongs here: the way there and back. What OpenAI has no place for stands under `twin`, which its clients pass over.
Does not belong here: transport (`routes/openai_chat.py`) and the turn itself (`lpm_kernel/chat.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from lpm_kernel.answering import close
from lpm_kernel.chat import Brought, TurnKey, begin_turn, stream_turn
from lpm_kernel.errors import LlmError
from lpm_kernel.records import Release
from lpm_kernel.reply import Reply
from lpm_kernel.turn import Turn
from twin_serving.deps import Services
from twin_serving.engine.booking import Booking
from twin_serving.openai_wire.conversation import latest, read_talk, session_of
from twin_serving.openai_wire.decoding import AskedAnswerer, AskedLlm
from twin_serving.openai_wire.schemas import ChatCompletionRequest, refuse_unsupported
from twin_serving.schemas import turn_out


@dataclass(slots=True)
class WireTurn:
    """A turn under way. The question is stored; to be closed by whoever has this."""

    model: str
    reply: Reply
    llm: AskedLlm
    pieces: Iterator[str]
    usage_asked: bool
    booking: Booking
    created: int = field(default_factory=lambda: int(time.time()))
    """Unix seconds."""

    @property
    def turn(self) -> Turn:
        """As far as it has come: it may decline in the end, and who failed to answer is named in it."""
        return self.reply.turn

    def close(self) -> None:
        """Ends the answer where it is and gives its place back. Idempotent."""
        try:
            close(self.pieces)
        finally:
            self.booking.leave()

    def twin(self) -> dict[str, Any]:
        """Where the turn is stored and what it rests on."""
        return turn_out(self.turn).model_dump(mode="json")

    def usage(self, said: str) -> dict[str, int]:
        """Tokens of the model's own tokenizer: of the prompt as it was rendered, notes and all, and of the answer."""
        asked, answered = self.llm.prompt_tokens(self.turn.messages), self.llm.answer_tokens(said)
        return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}

    def head(self, kind: str) -> dict[str, Any]:
        return head(kind, self.turn.answer_id, self.created, self.model, self.turn.release)


class Told(Protocol):
    """What an answer's form is made of, whether it is being given or was stored long ago."""

    @property
    def usage_asked(self) -> bool: ...

    def head(self, kind: str) -> dict[str, Any]: ...

    def twin(self) -> dict[str, Any]: ...


def head(kind: str, answer_id: str, created: int, model: str, release: Release | None) -> dict[str, Any]:
    """`release`: None where the one that answered is gone."""
    return {
        "id": f"chatcmpl-{answer_id}",
        "object": kind,
        "created": created,
        "model": model,
        "system_fingerprint": f"fp_{release.gguf_sha256[:12]}" if release else None,
    }


def begin_wire_turn(
    services: Services,
    request: ChatCompletionRequest,
    user_id: str,
    caller: str | None,
    session_id: str | None,
    booking: Booking | None = None,
    key: TurnKey | None = None,
) -> WireTurn:
    """Read the request, store the question, recall. `caller` is who asks; `session_id` is what they named, if anything.
    `booking`: its place where that was had before; it is left with the turn.

    Raises: RequestRefused, LlmError `too_many_requests`, `engine_busy`, and as `begin_turn`.
    """
    refuse_unsupported(request)
    talk = read_talk(request.messages)
    longest = request.max_completion_tokens or request.max_tokens
    session_id = session_id or session_of(talk, user_id, caller, request.user)
    booking = booking or services.book(user_id)
    try:
        llm = AskedLlm(booking.llm(services.llm_or_away()), longest, request.stops())
        history = latest(talk.history, llm, services.stores.settings.serving.openai_history_messages)
        brought = Brought(history, talk.instructions)
        stores = booking.stores(services.stores)
        if stores.answerer is not None:
            stores = replace(stores, answerer=AskedAnswerer(stores.answerer, llm))
        ids = {"answer_id": key.answer_id, "key": key} if key else {}
        turn = begin_turn(stores, llm, user_id, talk.question, session_id, adapters=services.adapters, brought=brought, **ids)
    except BaseException:
        booking.leave()
        raise
    reply = stream_turn(stores, llm, turn, services.adapters)

    def ended() -> None:
        booking.leave()
        services.change_worker.wake()

    usage_asked = bool(request.stream_options and request.stream_options.include_usage)
    return WireTurn(request.model, reply, llm, spoken(llm, reply, ended), usage_asked, booking)


def spoken(llm: AskedLlm, reply: Reply, ended: Callable[[], None]) -> Iterator[str]:
    """What is sent: the answer, and nothing at all where it began with a stop sequence; `ended` is told when that is over."""
    try:
        yield from reply
    except LlmError as error:
        if error.code != "answer_empty" or not llm.stopped:
            raise
    finally:
        try:
            reply.close()
        finally:
            ended()


def whole_answer(turn: WireTurn, is_left: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """`is_left`: asked after each piece whether the rest need not be said. Raises: as `stream_turn`."""
    said = ""
    for piece in turn.pieces:
        said += piece
        if is_left():
            turn.close()
            raise LlmError("turn_left", "the answer was given up before its end")
    return completion(turn, said, turn.llm.finish_reason(said), turn.usage(said))


def completion(turn: Told, said: str, finish_reason: str, usage: dict[str, int] | None) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": said, "refusal": None},
        "logprobs": None,
        "finish_reason": finish_reason,
    }
    return {**turn.head("chat.completion"), "choices": [choice], "usage": usage, "twin": turn.twin()}


def chunk(turn: Told, delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    usage = {"usage": None} if turn.usage_asked else {}
    return {**turn.head("chat.completion.chunk"), "choices": [choice], **usage, **more}


def first_chunk(turn: Told) -> dict[str, Any]:
    return chunk(turn, {"role": "assistant", "content": "", "refusal": None}, twin=turn.twin())


def last_chunks(turn: WireTurn, said: str) -> list[dict[str, Any]]:
    """Why it ended, and, where that was asked for, what it took."""
    return ending_chunks(turn, turn.llm.finish_reason(said), turn.usage(said) if turn.usage_asked else None)


def ending_chunks(turn: Told, finish_reason: str, usage: dict[str, int] | None) -> list[dict[str, Any]]:
    ended = chunk(turn, {}, finish_reason, twin=turn.twin())
    if not turn.usage_asked or usage is None:
        return [ended]
    return [ended, {**turn.head("chat.completion.chunk"), "choices": [], "usage": usage}]
