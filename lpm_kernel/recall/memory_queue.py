"""From what a person said to what is remembered of it, after the turn and not within it.

Belongs here: working off the queue that `stores/memory_writes.py` keeps: what is written, how often it is tried, and when it
is given up.
Does not belong here: what is worth remembering (`write_gate.py`, `turn_preferences.py`) and the thread that does it.

Nothing of a turn is passed on but its message: a process that died between the two has lost nothing, and the queue holds no
text of a document that could be deleted meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta

from lpm_kernel.errors import RetrievalError, StoreError, TwinError
from lpm_kernel.recall.plan import recall_lines
from lpm_kernel.recall.turn_preferences import preference_memories
from lpm_kernel.recall.write_gate import remember_turn, write_memories
from lpm_kernel.records import ChatMessage
from lpm_kernel.request_context import RequestContext, within_request
from lpm_kernel.stores.conversations import find_message, messages_before
from lpm_kernel.stores.documents import deleted_documents
from lpm_kernel.stores.memory_writes import (
    MemoryWrite,
    claim_memory_write,
    finish_memory_write,
    give_up_memory_write,
    put_off_memory_write,
    users_with_due_writes,
)
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import live_release

LEASE_S = 120.0
"""How long a write is left to whoever claimed it; then it was lost, and the next may try."""

LONGEST_PAUSE_S = 600.0
USERS_AT_ONCE = 100
LOST = ("memory_write_lost", "no try came to its end, and none could say why")
_LOG = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


def write_due_memories(
    stores: Stores, clock: Callable[[], datetime] = _now, stopped: Callable[[], bool] = lambda: False
) -> int:
    """Everybody's writes that are due, each user's in order, until none is left; how many were tried.

    Raises: StoreError when the queue itself cannot be read. Idempotent.
    """
    tried = 0
    while not stopped():
        with stores.tables.operator_transaction() as connection:
            users = users_with_due_writes(connection, clock(), USERS_AT_ONCE)
        before = tried
        for user_id in users:
            if stopped():
                break
            tried += write_memories_of(stores, user_id, clock, stopped)
        if tried == before:  # none is due, or others hold what is
            break
    return tried


def write_memories_of(
    stores: Stores, user_id: str, clock: Callable[[], datetime] = _now, stopped: Callable[[], bool] = lambda: False
) -> int:
    """One user's writes that are due; how many were tried. Raises: StoreError of the queue. Idempotent."""
    tried = 0
    while not stopped():
        with stores.tables.transaction(user_id) as connection:
            write = claim_memory_write(connection, user_id, clock(), LEASE_S)
        if write is None:
            break
        tried += 1
        with _within_its_request(write):
            _try(stores, write, clock)
    return tried


def _within_its_request(write: MemoryWrite) -> AbstractContextManager[None]:
    """So that logs and stores name the request that what is written came with."""
    if write.request_id is None:
        return nullcontext()
    return within_request(RequestContext(write.request_id, frozenset({write.user_id})))


def _try(stores: Stores, write: MemoryWrite, clock: Callable[[], datetime]) -> None:
    gate = stores.settings.gate
    failure: tuple[str, str] | None = None
    retryable = True
    if write.attempts > gate.write_attempts:
        failure, retryable = (write.code or LOST[0], write.reason or LOST[1]), False
    else:
        try:
            remember_message(stores, write)
        except TwinError as error:
            failure, retryable = (error.code, error.message), error.retryable
        except Exception as error:
            _LOG.error("message %s of user %s is not in memory", write.message_id, write.user_id, exc_info=error)
            failure = "internal", f"the write failed with {type(error).__name__}; the log says where"
    with stores.tables.transaction(write.user_id) as connection:
        if failure is None:
            finish_memory_write(connection, write)
        elif retryable and write.attempts < gate.write_attempts:
            put_off_memory_write(connection, write, clock() + pause_after(write.attempts, gate.write_delay_s), *failure)
        else:
            give_up_memory_write(connection, write, *failure)
    if failure:
        told = write.message_id, write.user_id, write.attempts, failure[0]
        _LOG.warning("message %s of user %s is not in memory after try %d: %s", *told)


def pause_after(attempts: int, delay_s: float) -> timedelta:
    """Twice as long after each try."""
    return timedelta(seconds=min(LONGEST_PAUSE_S, delay_s * 2 ** min(attempts - 1, 20)))


def remember_message(stores: Stores, write: MemoryWrite) -> None:
    """Offer a message and the preferences in it to memory; a message that was deleted meanwhile is nothing to remember.

    Raises: RetrievalError, StoreError, LlmError, IngestionError. Idempotent: a memory is known by what was said, and when.
    """
    recall = stores.settings.recall
    with stores.tables.transaction(write.user_id) as connection:
        message = find_message(connection, write.user_id, write.message_id)
        if message is None:
            return
        before = messages_before(connection, message, recall.history_messages)
    told = [*_noted(stores, message), *(earlier.content for earlier in before if earlier.sender == "twin")]
    gate = stores.settings.gate
    remember_turn(stores.memories, message, write.turn, told, gate)
    preferences = preference_memories(message, write.turn, stores.preference_head)
    write_memories(stores.memories, write.user_id, preferences, told, gate)


def _noted(stores: Stores, message: ChatMessage) -> list[str]:
    """What the twin's notes say of the like: heard from the person it is an echo and no memory.

    Remembered lines are left out: said again they are a repetition, which prolongs them.
    """
    with stores.tables.transaction(message.user_id) as connection:
        release = live_release(connection, message.user_id)
        deleted = deleted_documents(connection, message.user_id)
    if release is None:
        return []
    try:
        recalled = recall_lines(
            stores,
            message.user_id,
            release.memory_generation,
            message.content,
            now=message.ts,
            fingerprint=release.embedding_fingerprint,
            deleted=deleted,
            parts=("documents", "facts"),
        )
    except RetrievalError as error:
        if error.code == "memory_empty":
            return []
        raise
    if "documents" in recalled.degraded:
        raise StoreError("documents_away", "the notes could not be asked, and what repeats them is no memory")
    return [line.text for line in recalled.lines]
