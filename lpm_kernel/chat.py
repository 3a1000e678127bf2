"""One turn of a chat: what was asked, what was recalled, what the twin said, and that both are kept.

Belongs here: the order of a turn, the same for the API and the command line, and each of its steps by itself.
Does not belong here: transport (JSON, SSE), the twin's words (`reply.py`) and the model itself.

    open_turn -> recall_turn -> choose_route -> look_wider (where the route asks for it) -> compose_turn -> stream_turn
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lpm_kernel.asked_again import TurnKey, check_same, turn_key, unanswered
from lpm_kernel.dao.ballot_draft import INSTRUCTION, asks_for_ballot
from lpm_kernel.errors import UserInputError
from lpm_kernel.L2.prompt import fit_messages
from lpm_kernel.L2.release import read_communities
from lpm_kernel.recall.plan import Recalled, recall_lines
from lpm_kernel.recall.route import Route, choose_route, look_wider
from lpm_kernel.recall.scopes import OWN, Scope, check_asker
from lpm_kernel.records import ChatMessage, check_user_id, is_text
from lpm_kernel.reply import Reply
from lpm_kernel.serving_release import RELEASE, choose_release, confirm_choice
from lpm_kernel.stores.conversations import append_message, find_message, last_messages, messages_before, number_of_question
from lpm_kernel.stores.deletions import check_not_going
from lpm_kernel.stores.documents import deleted_documents, private_documents
from lpm_kernel.stores.llm import Llm
from lpm_kernel.stores.memory_writes import put_memory_write
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.users import get_user
from lpm_kernel.turn import Asked, Brought, Turn, settle

__all__ = [
    "Answer",
    "Asked",
    "Brought",
    "Turn",
    "TurnKey",
    "answer",
    "begin_turn",
    "compose_turn",
    "open_turn",
    "recall_turn",
    "settle",
    "stream_turn",
    "turn_key",
]

MAX_QUESTION_CHARACTERS = 4000
SESSION_ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    turn: Turn


def new_answer_id() -> str:
    return uuid.uuid4().hex


def begin_turn(
    stores: Stores,
    llm: Llm,
    user_id: str,
    question: str,
    session_id: str | None = None,
    *,
    answer_id: str | None = None,
    adapters: Path | None = None,
    asker: str | None = None,
    brought: Brought | None = None,
    key: TurnKey | None = None,
) -> Turn:
    """Check, store the question, recall what is known of it, and put the prompt together.

    Raises: as `open_turn`; RetrievalError, StoreError.
    """
    asked = open_turn(
        *(stores, llm, user_id, question, session_id),
        answer_id=answer_id,
        adapters=adapters,
        asker=asker,
        brought=brought,
        key=key,
    )
    recalled = recall_turn(stores, asked)
    route = choose_route(asked.message.content, recalled.lines)
    if route != "own_memory":
        recalled = widen_turn(stores, asked, recalled)
    return compose_turn(stores, llm, asked, recalled, route)


def open_turn(
    stores: Stores,
    llm: Llm,
    user_id: str,
    question: str,
    session_id: str | None = None,
    *,
    answer_id: str | None = None,
    adapters: Path | None = None,
    asker: str | None = None,
    brought: Brought | None = None,
    key: TurnKey | None = None,
) -> Asked:
    """Check the question and store it, before anything else is done with it; in the same transaction it is queued for memory.

    `adapters`: the folder of local copies; without it the live release answers, whether its adapter loads or not.
    `asker`: who asks, where it is not the person. They hear what is shared (`recall/scopes.py`) and their own session, and
    nothing that they say is remembered of the person.
    A question that stands unanswered at the end of its session is not stored again: its caller tries once more. So is that of
    a `key`, wherever it stands.
    Raises: UserInputError with `user_id_invalid`, `asker_invalid`, `twin_not_found`, `no_release`, `question_empty`,
    `question_invalid`, `question_too_long`, `session_id_invalid`, `key_reused`, `deletion_under_way` (of an
    asker); LlmError `too_many_requests`, `engine_busy`; StoreError.
    """
    check_user_id(user_id)
    asker = check_asker(asker, user_id)
    question = question.strip()
    if not question:
        raise UserInputError("question_empty", "there is no question")
    if len(question) > MAX_QUESTION_CHARACTERS:
        raise UserInputError("question_too_long", f"{len(question)} characters, and {MAX_QUESTION_CHARACTERS} are allowed")
    if not is_text(question):
        raise UserInputError("question_invalid", "the question holds a NUL character or half of a character, which no text may")
    session_id = check_session_id(session_id) if session_id else key.session_id if key else uuid.uuid4().hex
    # before the transaction: fetching an adapter may take longer than anybody may keep a connection
    choice = choose_release(stores, llm, user_id, adapters, asker=asker) if adapters else None
    if asker is not None:
        with stores.tables.transaction(asker) as connection:
            check_not_going(connection, asker)  # what they say now would stay behind their deletion
    with stores.tables.transaction(user_id) as connection:
        user = get_user(connection, user_id)
        choice = confirm_choice(connection, user_id, choice)
        if choice is None:
            raise UserInputError(
                "no_release", f"the twin {user_id!r} has no release yet; its profile says what became of its documents"
            )
        scope = Scope(asker, private_documents(connection, user_id)) if asker else OWN
        with_adapter = scope.allows_weights(choice.release)
        # before anything is stored
        fit_messages(
            *(user, question, (), (), llm, stores.settings.models.answer_tokens, _instruction(question, scope)),
            wishes=brought.wishes if brought else "",
        )
        limit = stores.settings.recall.history_messages
        history = last_messages(connection, user_id, session_id, limit, asker=asker)
        before = find_message(connection, user_id, key.question_id) if key else unanswered(history, question)
        question_id = key.question_id if key else uuid.uuid4().hex
        message = before or ChatMessage(question_id, user_id, session_id, "user", datetime.now(UTC), question, asker=asker)
        if before is None and not append_message(connection, message):
            # another process has stored the question of this key since it was looked for
            before = find_message(connection, user_id, question_id)
            message = before or message
        if before is not None:
            check_same((before.session_id, before.content), (session_id, question))
            history = messages_before(connection, before, limit)
        number = number_of_question(connection, message)
        # one that was stored before was queued with it, and may have been remembered since
        if asker is None and before is None:
            put_memory_write(connection, message, number)
    return Asked(
        user,
        choice.release,
        message,
        number,
        answer_id or new_answer_id(),
        tuple(history),
        (RELEASE,) if choice.degraded else (),
        scope,
        with_adapter,
        brought,
    )


def recall_turn(stores: Stores, asked: Asked) -> Recalled:
    """What the twin knows of the question, as of the moment it was asked, but for what was deleted since: turns wait for each
    other before they come here. Raises: RetrievalError, StoreError."""
    release = asked.release
    return recall_lines(
        stores,
        asked.user.user_id,
        release.memory_generation,
        asked.message.content,
        now=asked.message.ts,
        fingerprint=release.embedding_fingerprint,
        read_communities=lambda: read_communities(stores.blobs, release),
        already_said=[message.content for message in asked.talk],
        deleted=_deleted_by_now(stores, asked),
        scope=asked.scope,
    )


def widen_turn(stores: Stores, asked: Asked, recalled: Recalled) -> Recalled:
    """The same with a wider look into the graph of what people decide together."""
    message = asked.message
    deleted = _deleted_by_now(stores, asked)
    return look_wider(stores, message.user_id, message.content, recalled, now=message.ts, deleted=deleted, scope=asked.scope)


def _deleted_by_now(stores: Stores, asked: Asked) -> frozenset[str]:
    """sha256 of documents that nothing may show any more, whatever a store still holds of them."""
    with stores.tables.transaction(asked.user.user_id) as connection:
        return deleted_documents(connection, asked.user.user_id)


def compose_turn(stores: Stores, llm: Llm, asked: Asked, recalled: Recalled, route: Route) -> Turn:
    """The prompt, and what of all that was recalled found room in it."""
    messages, kept = fit_messages(
        *(asked.user, asked.message.content, recalled.lines, asked.talk, llm, stores.settings.models.answer_tokens),
        instruction=_instruction(asked.message.content, asked.scope),
        wishes=asked.brought.wishes if asked.brought else "",
    )
    return Turn(
        asked.user,
        asked.release,
        asked.message.session_id,
        asked.message,
        asked.number,
        asked.answer_id,
        messages,
        kept,
        (*asked.degraded, *recalled.degraded),
        recalled.confidence,
        recalled.answerable,
        route,
        asked.message.asker,
        asked.with_adapter,
    )


def _instruction(question: str, scope: Scope) -> str:
    """Only the person themself makes their twin draft a ballot."""
    return INSTRUCTION if scope.is_own and asks_for_ballot(question) else ""


def check_session_id(session_id: str) -> str:
    """Raises: UserInputError `session_id_invalid`."""
    if not SESSION_ID_PATTERN.fullmatch(session_id):
        raise UserInputError("session_id_invalid", "a session id is 1-64 of letters, digits, '-' and '_'")
    return session_id


def stream_turn(stores: Stores, llm: Llm, turn: Turn, adapters: Path) -> Reply:
    """The answer in pieces, as they come; see there for what it raises and what is stored."""
    return Reply(stores, llm, turn, adapters)


def answer(
    stores: Stores,
    llm: Llm,
    user_id: str,
    question: str,
    adapters: Path,
    session_id: str | None = None,
    *,
    asker: str | None = None,
) -> Answer:
    """A whole turn at once. Raises: as `begin_turn`, and LlmError."""
    turn = begin_turn(stores, llm, user_id, question, session_id, adapters=adapters, asker=asker)
    reply = stream_turn(stores, llm, turn, adapters)
    text = "".join(reply)
    return Answer(text, reply.turn)
