"""What the thread of a live turn does: run the agent, and tell the turn's listeners.

Belongs here: from the kernel's records to the content of events, and what a failure says.
Does not belong here: listeners (`live_turns.py`), the order of a turn (`agent/graph.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lpm_kernel.asked_again import check_same
from lpm_kernel.chat import TurnKey
from lpm_kernel.errors import LlmError, TwinError
from lpm_kernel.L2.prompt import declines
from lpm_kernel.records import ChatMessage, is_text
from lpm_kernel.request_context import request_id
from lpm_kernel.stores.ballot_drafts import KeptDraft, list_drafts
from lpm_kernel.stores.conversations import delete_said, find_message
from lpm_kernel.stores.open import Stores
from twin_serving.agent.graph import Work, run_turn
from twin_serving.deps import Services
from twin_serving.engine.booking import Booking
from twin_serving.engine.listener import listened_to
from twin_serving.errors import log, problem_of
from twin_serving.live_turns import LiveTurn
from twin_serving.schemas import DoneOut, draft_out, place_out, turn_out


def hold_turn(
    services: Services,
    booking: Booking,
    question: str,
    session_id: str | None,
    asker: str | None,
    live: LiveTurn,
    key: TurnKey | None = None,
) -> None:
    """One turn from its question to its last word; whatever happens, `live` comes to an end and the booking is left."""
    with failure_told(live):
        with booking, listened_to(live.is_left):
            reply = run_turn(
                Work(
                    booking.stores(services.stores),
                    booking.llm(services.llm_or_away()),
                    services.adapters,
                    live.user_id,
                    question,
                    session_id,
                    asker,
                    live.message_id,
                    begun=lambda turn: live.start(turn_out(turn).model_dump(mode="json")),
                    say=live.say,
                    is_left=live.is_left,
                    narrow=services.narrow,
                    key=key,
                )
            )
        if reply.message is None:
            raise LlmError("turn_left", "the answer was given up before its first word")
        live.end(done_content(reply.message, reply.drafts), reply)
        services.change_worker.wake()
    if live.dropped and asker is not None:
        _unsay(services.stores, live.user_id, asker)


def _unsay(stores: Stores, user_id: str, asker: str) -> None:
    """Who asked was deleted meanwhile, with all that they had said: this turn was not over then, and is kept nowhere either.

    The rows of the twin's own person need nothing: without them none can be stored.
    """
    asked_by = request_id()
    if asked_by is None:
        return
    try:
        with stores.tables.transaction(user_id) as connection:
            delete_said(connection, user_id, asker, asked_by)
    except TwinError as error:
        log.error("a turn of somebody who was deleted stays stored: %s", error)


@contextmanager
def failure_told(live: LiveTurn) -> Iterator[None]:
    """Whatever is raised in here ends the turn, and its listeners hear of it; nothing of it goes on."""
    try:
        yield
    except TwinError as error:
        live.fail(error, problem_of(error))
    except Exception as error:
        # the status may have been sent: without this event the stream would only break off
        log.error("a turn failed", exc_info=error)
        live.fail(error, problem_of(error))


def done_content(message: ChatMessage, drafts: Sequence[KeptDraft]) -> dict[str, Any]:
    """The same from a turn that ends now and from one that was stored long ago."""
    return DoneOut(
        answer=message.content,
        message_id=message.message_id,
        session_id=message.session_id,
        answerable=not declines(message.content),
        cut_off=message.cut_off,
        degraded=list(message.degraded),
        citations=[place_out(place) for place in message.citations],
        ballot_drafts=[draft_out(draft) for draft in drafts],
    ).model_dump(mode="json")


def answered_before(
    stores: Stores, user_id: str, key: TurnKey, question: str, session_id: str | None
) -> tuple[ChatMessage, list[KeptDraft]] | None:
    """What was answered to the question of this key, with its drafts; None where it is not answered yet.

    Raises: UserInputError `key_reused`; StoreError.
    """
    with stores.tables.transaction(user_id) as connection:
        asked = find_message(connection, user_id, key.question_id)
    if asked is None:
        return None
    check_same((asked.session_id, asked.content), (session_id or key.session_id, question.strip()))
    return stored_answer(stores, user_id, key.answer_id)


def stored_answer(stores: Stores, user_id: str, message_id: str) -> tuple[ChatMessage, list[KeptDraft]] | None:
    """An answer of the twin with its drafts; None for another message, another user's, and an id that no message has."""
    if not is_text(message_id):
        return None
    with stores.tables.transaction(user_id) as connection:
        message = find_message(connection, user_id, message_id)
        if message is None or message.sender != "twin":
            return None
        return message, list_drafts(connection, user_id, message_id)
