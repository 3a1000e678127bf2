"""Deleting a user: out of every store, whichever of them fails on the way.

Belongs here: the order in which a person goes.
Does not belong here: one document of theirs (`forget.py`), and what the pipeline
remembers of them (`twin_assets/deletions.py`).

The order: it is put on record, and from then on nobody is answered and nothing is taken in under this id; then each store is
emptied, one that fails keeping none of the others; then, when nothing is left anywhere, the rows go in one transaction. What
broke off is finished by asking again, by whoever asks: the record outlives the rows, for it hangs on none of them.

What stays is their id in the ledger of the DAO, which nobody can change (`dao/leaving.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lpm_kernel.dao.leaving import leave_dao
from lpm_kernel.dao.service import open_dao
from lpm_kernel.errors import StoreError
from lpm_kernel.forget import adapters_among
from lpm_kernel.L2.adapter_files import drop_local_copies
from lpm_kernel.layout import tenant_prefix
from lpm_kernel.records import check_user_id
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.conversations import delete_asked
from lpm_kernel.stores.deletions import begin_deletion, end_deletion, find_deletion
from lpm_kernel.stores.documents import lock_documents, mark_taken_up
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import lock_releases, named_by_releases, retire_live
from lpm_kernel.stores.users import find_user, remove_user


@dataclass(frozen=True, slots=True)
class UserErasure:
    """`existed`: whether there was anybody to delete, or a deletion to finish."""

    user_id: str
    existed: bool
    blobs: int = 0
    memories: int = 0


def delete_user(stores: Stores, user_id: str, adapters: Path, now: datetime | None = None) -> UserErasure:
    """Remove everything of a user from every store. `adapters`: the folder of local copies.

    Idempotent: of somebody who is not there nothing is deleted, and that is no error.
    Raises: UserInputError `user_id_invalid`; StoreError `deletion_incomplete` (retryable) naming the stores that failed; the
    others are empty by then, and the next call goes on.
    """
    check_user_id(user_id)
    with stores.tables.transaction(user_id) as connection:
        lock_documents(connection, user_id)
        lock_releases(connection, user_id)
        under_way = find_deletion(connection, user_id)
        if find_user(connection, user_id) is None and (under_way is None or under_way.done_at is not None):
            # somebody may have asked for a signed form and never have come back
            return UserErasure(user_id, existed=False, blobs=_remove_blobs(stores, user_id, adapters))
        begin_deletion(connection, user_id, now or datetime.now(UTC))
        retire_live(connection, user_id)
        mark_taken_up(connection, user_id)
        copies = named_by_releases(connection, user_id, "gguf_sha256")
    blobs, memories = _empty_stores(stores, user_id, adapters, copies)
    with stores.tables.operator_transaction() as connection:
        delete_asked(connection, user_id)
    with stores.tables.transaction(user_id) as connection:
        lock_documents(connection, user_id)  # an upload that was begun before is over, or is refused and takes its bytes back
        lock_releases(connection, user_id)
        _remove_blobs(stores, user_id, adapters)
        remove_user(connection, user_id)
        end_deletion(connection, user_id, now or datetime.now(UTC))
    return UserErasure(user_id, True, blobs, memories)


def sweep_after_deletion(stores: Stores, user_id: str, adapters: Path) -> bool:
    """Remove what a run that was under way may have left of somebody who was deleted meanwhile; False where the id is in use
    again, and then nothing is touched. Idempotent. Raises: StoreError.

    Why under the lock of documents: an upload puts its bytes back, should they be gone, when it has that lock.
    """
    with stores.tables.transaction(user_id) as connection:
        lock_documents(connection, user_id)
        if find_user(connection, user_id) is not None:
            return False
        _empty_stores(stores, user_id, adapters, set())
    return True


def _empty_stores(stores: Stores, user_id: str, adapters: Path, copies: set[str]) -> tuple[int, int]:
    """How many blobs and memories went. Raises: StoreError `deletion_incomplete`."""
    counts: dict[str, int] = {}

    def remember(name: str, count: int | None) -> None:
        counts[name] = count or 0

    steps: dict[str, Callable[[], object]] = {
        "adapters": lambda: drop_local_copies(adapters, copies),
        "blobs": lambda: remember("blobs", _remove_blobs(stores, user_id, adapters)),
        "vectors": lambda: stores.vectors.delete_user(user_id),
        "memories": lambda: remember("memories", stores.memories.delete_all(user_id)),
        "graph": lambda: stores.graph.delete_user(user_id),
        "dao": lambda: leave_dao(open_dao(stores), stores.graph, user_id),
    }
    failed: dict[str, str] = {}
    for name, step in steps.items():
        try:
            step()
        except StoreError as error:
            failed[name] = error.code
        except OSError as error:
            failed[name] = type(error).__name__
    if failed:
        named = ", ".join(f"{name} ({code})" for name, code in failed.items())
        raise StoreError(
            "deletion_incomplete", f"user {user_id} is deleted in part, and {named} did not take it: ask for the deletion again"
        )
    return counts["blobs"], counts["memories"]


def _remove_blobs(stores: Stores, user_id: str, adapters: Path) -> int:
    """Local copies first: their names are known from the keys alone."""
    own = TenantBlobs(stores.blobs, user_id)
    keys = list(own.list_keys(tenant_prefix(user_id)))
    drop_local_copies(adapters, adapters_among(keys))
    for key in keys:
        own.delete(key)
    return len(keys)
