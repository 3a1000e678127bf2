"""From what a person said to what is remembered of it, after the turn and not within it.

Belongs here: what is offered to memory of a message that waits in the outbox.
Does not belong here: the outbox (`stores/changes.py`), when it is tried and given up (`sync/worker.py`), and what is worth
remembering (`write_gate.py`, `turn_preferences.py`).

Nothing of a turn is passed on but its message: a process that died between the two has lost nothing, and the queue holds no
text of a document that could be deleted meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from lpm_kernel.errors import RetrievalError, StoreError
from lpm_kernel.recall.plan import recall_lines
from lpm_kernel.recall.turn_preferences import preference_memories
from lpm_kernel.recall.write_gate import remember_turn, write_memories
from lpm_kernel.records import ChatMessage
from lpm_kernel.stores.conversations import find_message, messages_before
from lpm_kernel.stores.documents import deleted_documents
from lpm_kernel.stores.memory_writes import MemoryWrite
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import live_release


def write_memories_of(
    stores: Stores,
    user_id: str,
    clock: Callable[[], datetime] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """What waits for one user's memory and is due; how many were tried. Raises: StoreError of the outbox. Idempotent."""
    from lpm_kernel.sync.worker import work_changes_of  # which comes here for each

    return work_changes_of(stores, user_id, clock, stopped, ("memories",))


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
