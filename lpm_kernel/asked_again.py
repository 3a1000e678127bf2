"""A question that comes again: a client that was told to come back, or heard no answer, is heard once.

Belongs here: which stored question is the same one, by the key that the client gave it or by standing without an answer.
Does not belong here: answering it, and whether an answer that is there is told again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from lpm_kernel.errors import UserInputError
from lpm_kernel.records import ChatMessage, content_id, is_text

MAX_KEY_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class TurnKey:
    """What a client's key stands for: the ids of one question and its answer, and their session where none is named."""

    question_id: str
    answer_id: str
    session_id: str


def turn_key(user_id: str, asker: str | None, key: str, way: str = "turn") -> TurnKey:
    """The same for the same key, of one asker of one twin, on one way to it; nobody else's key leads there.

    Raises: UserInputError `key_invalid`.
    """
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS or not is_text(key):
        raise UserInputError("key_invalid", f"an idempotency key is 1-{MAX_KEY_CHARACTERS} characters")
    ids = (content_id(way, part, user_id, asker or "", key)[:32] for part in ("question", "answer", "session"))
    return TurnKey(*ids)


def check_same(first: tuple[str, str], again: tuple[str, str]) -> None:
    """Of a session and a question in it each: what a key was used for first, and what it comes with again.

    Raises: UserInputError `key_reused` where the key's question was another, or asked elsewhere.
    """
    if first != again:
        raise UserInputError(
            "key_reused", "this idempotency key was used for another question: take a new one for a new question"
        )


def unanswered(history: Sequence[ChatMessage], question: str) -> ChatMessage | None:
    """The same question at the end of its session, where nobody has answered since."""
    waiting = takewhile(lambda message: message.sender == "user", reversed(history))
    return next((message for message in waiting if message.content == question), None)
