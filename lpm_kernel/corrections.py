"""Memories in the hands of their person: looked through, corrected, forgotten.

Belongs here: the bounds of what is asked for, and who is on record for a correction.
Does not belong here: the stores (`stores/memories.py`), and memories that come out of documents and chats by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import partial
from typing import get_args

from lpm_kernel.errors import UserInputError
from lpm_kernel.paging import Page, make_cursor, read_cursor, take_page
from lpm_kernel.recall.session_summaries import drop_summary
from lpm_kernel.records import Memory, MemoryKind, check_user_id, is_text, sha256_hex
from lpm_kernel.stores.changes import Change, put_change, words_of
from lpm_kernel.stores.memories import check_memory_id, is_forgotten
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.session_summaries import FORGET
from lpm_kernel.stores.users import get_user
from lpm_kernel.sync.appliers import Applier, Finish, nothing_more
from lpm_kernel.sync.retry import LEASE_S
from lpm_kernel.sync.worker import try_change

MAX_TEXT_CHARACTERS = 2000
MAX_QUERY_CHARACTERS = 1000
CORRECT = "correct_memory"
OWNER = "user"
"""Who corrected it, where nobody has to say who they are."""
KINDS: tuple[str, ...] = get_args(MemoryKind)


def list_memories(
    stores: Stores,
    user_id: str,
    *,
    kinds: Collection[str] = (),
    cursor: str | None = None,
    limit: int,
    now: datetime | None = None,
) -> Page[Memory]:
    """What holds now, newest first. Raises: UserInputError `twin_not_found`, `kind_unknown`, `cursor_invalid`; StoreError."""
    _check_user(stores, user_id)
    _check_kinds(kinds)
    before = None
    if cursor is not None:
        at, memory_id = read_cursor("memories", cursor, (str, str))
        before = _moment(str(at)), str(memory_id)
    rows = stores.memories.page(user_id, as_of=now or datetime.now(UTC), kinds=kinds, before=before, limit=limit + 1)
    return take_page(rows, limit, lambda memory: make_cursor("memories", memory.created_at.isoformat(), memory.memory_id))


def search_memories(
    stores: Stores, user_id: str, words: str, *, kinds: Collection[str] = (), limit: int, now: datetime | None = None
) -> list[tuple[Memory, float]]:
    """The nearest that hold now, best first, each with its score.

    Raises: UserInputError `twin_not_found`, `kind_unknown`, `query_invalid`; StoreError, LlmError.
    """
    _check_user(stores, user_id)
    _check_kinds(kinds)
    if not words.strip() or len(words) > MAX_QUERY_CHARACTERS or not is_text(words):
        raise UserInputError("query_invalid", f"what is looked for is 1-{MAX_QUERY_CHARACTERS} characters with a word in them")
    found = stores.memories.search(user_id, words.strip(), limit, as_of=now or datetime.now(UTC), kinds=kinds)
    return [(hit.memory, hit.score) for hit in found]


def correct_memory(
    stores: Stores, user_id: str, memory_id: str, text: str, *, by: str | None, now: datetime | None = None
) -> Memory:
    """The memory that holds instead from now on. `by`: the person who asks, as far as that is known.

    It is put on record first: where memories are away the worker of changes makes it when they are back.
    Raises: UserInputError `text_invalid`, and as `Memories.correct`; StoreError, LlmError.
    """
    _check_user(stores, user_id)
    if not text.strip() or len(text) > MAX_TEXT_CHARACTERS or not is_text(text):
        raise UserInputError("text_invalid", f"a memory is 1-{MAX_TEXT_CHARACTERS} characters with a word in them")
    words = text.strip()
    reference = {
        "memory_id": check_memory_id(user_id, memory_id),
        "words_sha256": sha256_hex(words.encode()),
        "by": by or OWNER,
    }
    corrected: list[Memory] = []
    _try_at_once(stores, user_id, CORRECT, reference, now, partial(_correct, corrected.append, words), words)
    return corrected[0]


def forget_memory(stores: Stores, user_id: str, memory_id: str, now: datetime | None = None) -> int:
    """How many versions of it went. With a turn the summary of its session goes, which may say it too. It is put on record
    first, as a correction is.

    Raises: UserInputError as `Memories.forget`; StoreError.
    """
    _check_user(stores, user_id)
    gone: list[int] = []
    reference = {"memory_id": check_memory_id(user_id, memory_id)}
    _try_at_once(stores, user_id, FORGET, reference, now, partial(_forget, gone.append))
    return gone[0]


def _try_at_once(
    stores: Stores,
    user_id: str,
    kind: str,
    reference: dict[str, str],
    now: datetime | None,
    apply: Applier,
    words: str | None = None,
) -> None:
    with stores.tables.transaction(user_id) as connection:
        at = now or datetime.now(UTC)
        change = put_change(connection, user_id, "memories", kind, reference, at=at, held_s=LEASE_S, words=words)
    error = try_change(stores, change, apply=apply)
    if error is not None:
        raise error


def correction_steps() -> dict[str, Applier]:
    def unheard(_: object) -> None:
        """Whoever asked has gone."""

    return {f"memories/{CORRECT}": partial(_correct, unheard, None), f"memories/{FORGET}": partial(_forget, unheard)}


def _correct(tell: Callable[[Memory], None], words: str | None, stores: Stores, change: Change) -> Finish:
    """As of the moment when it was asked for, so that a second try makes the same memory. Without `words` those on record."""
    if words is None:
        with stores.tables.transaction(change.user_id) as connection:
            words = words_of(connection, change)
    if words is None:  # wanted anew since, and done by then
        return nothing_more
    reference = change.reference
    told = stores.memories.correct(change.user_id, reference["memory_id"], words, by=reference["by"], at=change.created_at)
    tell(told)
    return nothing_more


def _forget(tell: Callable[[int], None], stores: Stores, change: Change) -> Finish:
    user_id, memory_id = change.user_id, change.reference["memory_id"]
    versions = stores.memories.history(user_id, memory_id)
    turns = [version for version in versions if version.kind == "turn" and not is_forgotten(version)]
    sessions = {version.session_id for version in turns if version.session_id}
    for session_id in sessions:  # first: what breaks off is finished by asking again
        drop_summary(stores, user_id, session_id)
    tell(stores.memories.forget(user_id, memory_id))
    for session_id in sessions:  # and one that was made meanwhile
        drop_summary(stores, user_id, session_id)
    return nothing_more


def _check_user(stores: Stores, user_id: str) -> None:
    check_user_id(user_id)
    with stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)


def _check_kinds(kinds: Collection[str]) -> None:
    wrong = sorted(set(kinds) - set(KINDS))
    if wrong:
        raise UserInputError("kind_unknown", f"a memory is one of {', '.join(KINDS)}")


def _moment(words: str) -> datetime:
    try:
        moment = datetime.fromisoformat(words)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise UserInputError("cursor_invalid", "this is no cursor of that list: take `next_cursor` of the page before")
    return moment
