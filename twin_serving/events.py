"""A turn as server-sent events: their ids, their form, and the plain generators behind a stream.

Belongs here: from events to lines on the wire, of a turn under way and of a stored answer.
Does not belong here: routes, and the turn itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

from sse_starlette import ServerSentEvent

from lpm_kernel.errors import LlmError, UserInputError
from twin_serving.errors import problem_of
from twin_serving.live_turns import BEFORE_THE_START, LiveTurn, TurnEvent

GRACE_S = 5.0
"""How long after its life is over a turn may take to say so itself."""

_ID = re.compile(r"(?P<message_id>[0-9a-f]{32}):(?P<number>\d{1,9})")


def event_id(message_id: str, number: int) -> str:
    return f"{message_id}:{number}"


def number_after(message_id: str, last_event_id: str | None) -> int:
    """The number that a listener has heard last; before the start where they name none.

    Raises: UserInputError `event_id_invalid` when it is none of this answer's.
    """
    if not last_event_id:
        return BEFORE_THE_START
    match = _ID.fullmatch(last_event_id)
    if match is None or match["message_id"] != message_id:
        raise UserInputError("event_id_invalid", "Last-Event-ID is none of this answer's: an id is that of an event as it came")
    return int(match["number"])


def check_number(number: int, last: int) -> None:
    """Raises: UserInputError `event_id_invalid` for an event that has not been yet."""
    if number > last:
        raise UserInputError("event_id_invalid", f"Last-Event-ID {number} is of no event: the last is {last}")


async def turn_events(
    turn: LiveTurn, number: int = BEFORE_THE_START, grace_s: float = GRACE_S
) -> AsyncIterator[ServerSentEvent]:
    """As `heard_events`, for the wire."""
    async with aclosing(heard_events(turn, number, grace_s)) as heard:
        async for event in heard:
            yield encoded(turn.message_id, event)


async def heard_events(
    turn: LiveTurn, number: int = BEFORE_THE_START, grace_s: float = GRACE_S
) -> AsyncGenerator[TurnEvent, None]:
    """What comes after `number`, until the end of the turn or of its life. Closing this early leaves the turn as it is."""
    with turn.heard():
        while True:
            for event in turn.events_after(number):
                number = event.number
                yield event
            if turn.has_ended and number >= turn.last_number:
                return
            heard = number

            def more(heard: int = heard) -> bool:
                return turn.last_number > heard

            if not await turn.wait(more, max(0.0, turn.life_left_s()) + grace_s):
                expire(turn)


def expire(turn: LiveTurn) -> None:
    """End a turn whose thread hangs where nothing can be asked of it."""
    error = LlmError("turn_expired", "the answer took too long and was given up; ask again")
    turn.fail(error, problem_of(error))


def stored_events(message_id: str, answer: str, done: Any, number: int) -> Iterator[ServerSentEvent]:
    """What comes after `number` in an answer that is stored: the words that are missing, and the end."""
    if BEFORE_THE_START < number < len(answer):
        yield encoded(message_id, TurnEvent(len(answer), "token", {"text": answer[number:]}))
    yield encoded(message_id, TurnEvent(len(answer) + 1, "done", done))


def encoded(message_id: str, event: TurnEvent) -> ServerSentEvent:
    """JSON in one line: no line break of any text can end an event early."""
    data = json.dumps(event.content, ensure_ascii=False)
    return ServerSentEvent(data, event=event.name, id=event_id(message_id, event.number))
