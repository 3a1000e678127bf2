"""One turn of a chat: what was asked, what was recalled, what the twin said, and that both are kept.

Belongs here: the order of a turn, the same for the API and the command line.
Does not belong here: transport (JSON, SSE) and the model itself.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from lpm_kernel.errors import IngestionError, LlmError, StoreError, UserInputError
from lpm_kernel.L2.adapter_files import fetch_adapter
from lpm_kernel.L2.prompt import DECLINE, declines, fit_messages
from lpm_kernel.L2.release import read_communities
from lpm_kernel.recall.confidence import seeks_knowledge
from lpm_kernel.recall.plan import Line, Part, recall_lines
from lpm_kernel.recall.turn_preferences import preference_memories
from lpm_kernel.recall.write_gate import remember_turn, write_memories
from lpm_kernel.records import ChatMessage, Evidence, Message, Release, User, check_user_id, is_text
from lpm_kernel.stores.conversations import append_message, count_questions, last_messages
from lpm_kernel.stores.documents import deleted_documents
from lpm_kernel.stores.llm import Llm
from lpm_kernel.stores.memories import Outcome
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import live_release
from lpm_kernel.stores.users import get_user

MAX_QUESTION_CHARACTERS = 4000
_LOG = logging.getLogger(__name__)
SESSION_ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that is ready to be answered; the question is stored already."""

    user: User
    release: Release
    session_id: str
    asked: ChatMessage
    number: int
    """Of the question in its session, from 1."""
    answer_id: str
    messages: tuple[Message, ...]
    lines: tuple[Line, ...]
    """What stands in the prompt of all that was recalled."""
    degraded: tuple[Part, ...] = ()
    """Parts of the memory whose store failed, which this answer is without."""
    confidence: float = 1.0
    answerable: bool = True
    """False: the twin says that it does not know, unasked or because the model finds that likelier."""
    told: tuple[str, ...] = ()
    """What came out of memory, or was said by the twin: heard from the person, it is an echo and no memory."""
    remembered: Outcome | None = None
    """What became of the question as a memory; None when the memory store failed, which keeps nobody from an answer."""

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What the answer rests on of the documents: nothing, where the model did not see it."""
        return tuple(line.evidence for line in self.lines if line.evidence is not None) if self.answerable else ()


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    turn: Turn


def begin_turn(stores: Stores, llm: Llm, user_id: str, question: str, session_id: str | None = None) -> Turn:
    """Check, store the question, recall, and offer the question to memory.

    Raises: UserInputError with `user_id_invalid`, `twin_not_found`, `no_release`, `question_empty`, `question_invalid`,
    `question_too_long`, `session_id_invalid`; RetrievalError, StoreError.
    """
    check_user_id(user_id)
    question = question.strip()
    if not question:
        raise UserInputError("question_empty", "there is no question")
    if len(question) > MAX_QUESTION_CHARACTERS:
        raise UserInputError("question_too_long", f"{len(question)} characters, and {MAX_QUESTION_CHARACTERS} are allowed")
    if not is_text(question):
        raise UserInputError("question_invalid", "the question holds a NUL character or half of a character, which no text may")
    session_id = check_session_id(session_id) if session_id else uuid.uuid4().hex
    with stores.tables.transaction(user_id) as connection:
        user = get_user(connection, user_id)
        release = live_release(connection, user_id)
        if release is None:
            raise UserInputError(
                "no_release", f"the twin {user_id!r} has no release yet; its profile says what became of its documents"
            )
        fit_messages(user, question, (), (), llm, stores.settings.models.answer_tokens)  # before anything is stored
        deleted = deleted_documents(connection, user_id)
        history = last_messages(connection, user_id, session_id, stores.settings.recall.history_messages)
        asked = ChatMessage(uuid.uuid4().hex, user_id, session_id, "user", datetime.now(UTC), question)
        append_message(connection, asked)
        number = count_questions(connection, user_id, session_id)
    said = [message.content for message in history]
    recalled = recall_lines(
        stores,
        user_id,
        release.memory_generation,
        question,
        now=asked.ts,
        fingerprint=release.embedding_fingerprint,
        read_communities=lambda: read_communities(stores.blobs, release),
        already_said=said,
        deleted=deleted,
    )
    talk = [Message("user" if message.sender == "user" else "assistant", message.content) for message in history]
    messages, kept = fit_messages(user, question, recalled.lines, talk, llm, stores.settings.models.answer_tokens)
    # a remembered line is left out: said again it is a repetition, which prolongs it, and no echo of the twin
    told = [line.text for line in recalled.lines if not line.memory] + [
        message.content for message in history if message.sender == "twin"
    ]
    return Turn(
        user,
        release,
        session_id,
        asked,
        number,
        uuid.uuid4().hex,
        messages,
        kept,
        recalled.degraded,
        recalled.confidence,
        recalled.answerable,
        tuple(told),
        remembered=None if "memories" in recalled.degraded else _remember(stores, asked, number, told),
    )


def _remember(stores: Stores, asked: ChatMessage, number: int, told: list[str]) -> Outcome | None:
    try:
        return remember_turn(stores.memories, asked, number, told, stores.settings.gate).outcome
    except (StoreError, LlmError) as error:
        # the message itself is stored: what is lost is one line of memory, not what was said
        _LOG.warning("message %s of user %s is not in memory: %s", asked.message_id, asked.user_id, error.code)
        return None


def _remember_preferences(stores: Stores, turn: Turn) -> None:
    """What the person's words tell of their preferences. After the answer: reading them takes longer than recalling."""
    user_id, said = turn.user.user_id, turn.asked
    try:
        told = preference_memories(said, turn.number, stores.preference_head)
        write_memories(stores.memories, user_id, told, turn.told, stores.settings.gate)
    except (StoreError, LlmError, IngestionError) as error:
        _LOG.warning("preferences in message %s of user %s are not in memory: %s", said.message_id, user_id, error.code)


def check_session_id(session_id: str) -> str:
    """Raises: UserInputError `session_id_invalid`."""
    if not SESSION_ID_PATTERN.fullmatch(session_id):
        raise UserInputError("session_id_invalid", "a session id is 1-64 of letters, digits, '-' and '_'")
    return session_id


def stream_turn(stores: Stores, llm: Llm, turn: Turn, adapters: Path) -> Iterator[str]:
    """Pieces of the answer as they come. What was said is stored when it ends, also when the listener leaves early.

    Raises: LlmError `answer_empty` when the model ends without a word; what `Llm.stream` raises; StoreError.
    """
    said: list[str] = []
    pieces = _pieces(stores, llm, turn, adapters) if turn.answerable else iter([DECLINE])
    try:
        for piece in pieces:
            said.append(piece)
            yield piece
        if not "".join(said).strip():
            raise LlmError("answer_empty", "the twin found no words for this question; ask it in others", retryable=False)
    finally:
        text = "".join(said).strip()
        if text:
            reply = ChatMessage(
                message_id=turn.answer_id,
                user_id=turn.user.user_id,
                session_id=turn.session_id,
                sender="twin",
                ts=datetime.now(UTC),
                content=text,
                citations=tuple(line.citation for line in settle(turn, text).evidence),
                release_id=turn.release.release_id,
            )
            with stores.tables.transaction(turn.user.user_id) as connection:
                append_message(connection, reply)
        if "memories" not in turn.degraded:
            _remember_preferences(stores, turn)


def settle(turn: Turn, text: str) -> Turn:
    """The turn as its answer leaves it: one that declines rests on nothing."""
    return replace(turn, answerable=False) if declines(text) else turn


def _pieces(stores: Stores, llm: Llm, turn: Turn, adapters: Path) -> Iterator[str]:
    user_id, release = turn.user.user_id, turn.release
    adapter = fetch_adapter(stores.blobs, user_id, release.gguf_key, release.gguf_sha256, release.base_sha256, adapters)
    return llm.stream(
        turn.messages,
        tenant=user_id,
        adapter=adapter,
        max_tokens=stores.settings.models.answer_tokens,
        declining=DECLINE if turn.lines and seeks_knowledge(turn.asked.content) else None,
    )


def answer(stores: Stores, llm: Llm, user_id: str, question: str, adapters: Path, session_id: str | None = None) -> Answer:
    """A whole turn at once. Raises: as `begin_turn`, and LlmError."""
    turn = begin_turn(stores, llm, user_id, question, session_id)
    text = "".join(stream_turn(stores, llm, turn, adapters)).strip()
    return Answer(text, settle(turn, text))
