"""How a twin stands: what it has, what is still to be done, and what failed. Read from what the stores know.

Belongs here: counts and marks of one user, cheap enough to be asked for all the time.
Does not belong here: the runs themselves; they are Dagster's, and nobody here asks it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from lpm_kernel.errors import StoreError
from lpm_kernel.L2.release import find_unbuilt
from lpm_kernel.records import ReleaseStatus, User, check_user_id
from lpm_kernel.stores.conversations import count_messages
from lpm_kernel.stores.dead_letters import DeadLetter, list_dead_letters
from lpm_kernel.stores.documents import deleted_documents, list_documents
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import ReleaseState, ServedModel, release_states, served_model
from lpm_kernel.stores.users import get_user

Work = Literal["none", "waiting", "building"]
"""Of the documents: every one is in a release or cannot be read; changes wait to be taken up; no release holds them yet."""


@dataclass(frozen=True, slots=True)
class TwinStatus:
    """`memories` is None where their store did not answer, and `degraded` names it then."""

    user: User
    documents: dict[str, int]
    """By status; `deleted` are those that something is still left of."""
    work: Work
    live: ReleaseState | None
    releases: dict[ReleaseStatus, int]
    model: ServedModel
    dead_letters: tuple[DeadLetter, ...]
    """Stages that failed for good and that no later run has mended, the newest first."""
    sessions: int
    messages: int
    memories: dict[str, int] | None
    degraded: tuple[str, ...]


def read_status(stores: Stores, user_id: str, now: datetime | None = None) -> TwinStatus:
    """Raises: UserInputError `user_id_invalid`, `twin_not_found`, `deletion_under_way`; StoreError of the tables."""
    check_user_id(user_id)
    with stores.tables.transaction(user_id) as connection:
        user = get_user(connection, user_id)
        documents = Counter[str](document.status for document in list_documents(connection, user_id))
        documents["deleted"] = len(deleted_documents(connection, user_id))
        unbuilt = find_unbuilt(connection, user_id)
        states, model = release_states(connection, user_id), served_model(connection, user_id)
        letters = list_dead_letters(connection, user_id)
        sessions, messages = count_messages(connection, user_id)
    try:
        memories = stores.memories.count(user_id, as_of=now or datetime.now(UTC))
    except StoreError:
        memories = None  # a count that cannot be had keeps nobody from the rest, and is no count of nothing
    return TwinStatus(
        user=user,
        documents=dict(documents),
        work="none" if unbuilt is None else "waiting" if unbuilt.waiting else "building",
        live=next((state for state in states if state.status == "live"), None),
        releases=dict(Counter(state.status for state in states)),
        model=model,
        dead_letters=tuple(letters),
        sessions=sessions,
        messages=messages,
        memories=memories,
        degraded=() if memories is not None else ("memories",),
    )
