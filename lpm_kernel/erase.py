"""Deleting a user: out of every store, whichever of them fails on the way.

Belongs here: the order in which a person goes.
Does not belong here: one document of theirs (`forget.py`), and what the pipeline
remembers of them (`twin_assets/deletions.py`).

The order: it is put on record, with a change for each store, and from then on nobody is answered and nothing is taken in under
this id; then each store is emptied, one that fails keeping none of the others; then, with the last of them, the rows go in one
transaction. What broke off is finished by the worker of changes, or by whoever asks again: the record outlives the rows, for it
hangs on none of them.

What stays is their id in the ledger of the DAO, which nobody can change (`dao/leaving.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lpm_kernel.dao.leaving import leave_dao
from lpm_kernel.dao.service import open_dao
from lpm_kernel.errors import StoreError
from lpm_kernel.forget import adapters_among
from lpm_kernel.L2.adapter_files import drop_local_copies
from lpm_kernel.layout import tenant_prefix
from lpm_kernel.records import check_user_id
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.changes import TARGETS, Change, Target, drop_undone_changes, list_undone, put_change
from lpm_kernel.stores.conversations import delete_asked
from lpm_kernel.stores.deletions import begin_deletion, end_deletion, find_deletion
from lpm_kernel.stores.documents import lock_documents, mark_taken_up
from lpm_kernel.stores.locks import Lease
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import lock_releases, named_by_releases, retire_live
from lpm_kernel.stores.social_cursors import drop_account_cursors
from lpm_kernel.stores.users import find_user, remove_user
from lpm_kernel.sync.appliers import Applier, Finish
from lpm_kernel.sync.retry import LEASE_S, failure_of
from lpm_kernel.sync.worker import try_change

if TYPE_CHECKING:
    from sqlalchemy import Connection

KIND = "delete_user"


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
    others are empty by then, and the next call goes on; `lease_held`, `lease_lost` where somebody else changes this user.
    """
    check_user_id(user_id)
    with stores.locks.hold(user_id) as lease:
        return _delete_user(stores, user_id, adapters, now, lease)


def _delete_user(stores: Stores, user_id: str, adapters: Path, now: datetime | None, lease: Lease) -> UserErasure:
    with stores.tables.transaction(user_id) as connection:
        lease.check(connection)
        lock_documents(connection, user_id)
        lock_releases(connection, user_id)
        under_way = find_deletion(connection, user_id)
        if find_user(connection, user_id) is None and (under_way is None or under_way.done_at is not None):
            # somebody may have asked for a signed form and never have come back, or have talked with others' twins alone
            _forget_asked(stores, user_id)
            return UserErasure(user_id, existed=False, blobs=_remove_blobs(stores, user_id, adapters))
        begin_deletion(connection, user_id, now or datetime.now(UTC))
        retire_live(connection, user_id)
        mark_taken_up(connection, user_id)
        drop_undone_changes(connection, user_id, but=KIND)  # else what they said is remembered of them after they are gone
        at = datetime.now(UTC)
        changes = [put_change(connection, user_id, target, KIND, {}, at=at, held_s=LEASE_S) for target in TARGETS]
    counts: dict[str, int] = {}
    steps = erasure_steps(adapters, counts, now)
    errors: dict[Target, Exception | None] = {}
    for change in changes:
        lease.keep()
        errors[change.target] = try_change(stores, change, apply=steps[change.step])
    if failed := {target: error for target, error in errors.items() if error is not None}:
        named = ", ".join(f"{target} ({failure_of(error).code})" for target, error in failed.items())
        raise StoreError(
            "deletion_incomplete", f"user {user_id} is deleted in part, and {named} did not take it: ask for the deletion again"
        )
    return UserErasure(user_id, True, counts["blobs"], counts["memories"])


def erasure_steps(adapters: Path, counts: dict[str, int] | None = None, now: datetime | None = None) -> dict[str, Applier]:
    """What each store does for it, by target and kind; the last that is done ends it. `counts`: takes how much
    went, by store."""

    def step(target: Target) -> Applier:
        def apply(stores: Stores, change: Change) -> Finish:
            removed = _EMPTY[target](stores, change.user_id, adapters)
            if counts is not None:
                counts[target] = removed
            return lambda connection: _end_with_the_last(stores, connection, change, adapters, now)

        return apply

    return {f"{target}/{KIND}": step(target) for target in TARGETS}


def _end_with_the_last(stores: Stores, connection: Connection, change: Change, adapters: Path, now: datetime | None) -> None:
    """Where this is all that was left to do, every row goes, in the transaction that says so: no process that dies can leave a
    person who is in no store and still has rows."""
    user_id = change.user_id
    lock_documents(connection, user_id)  # an upload that was begun before is over, or is refused and takes its bytes back
    lock_releases(connection, user_id)
    undone = [item for item in list_undone(connection, user_id) if item.kind == KIND]
    if [(item.change_id, item.seq) for item in undone] != [(change.change_id, change.seq)]:
        return
    _remove_blobs(stores, user_id, adapters)
    drop_account_cursors(connection, user_id)  # no row of theirs, and it names their account
    remove_user(connection, user_id)
    end_deletion(connection, user_id, now or datetime.now(UTC))


def sweep_after_deletion(stores: Stores, user_id: str, adapters: Path) -> bool:
    """Remove what a run that was under way may have left of somebody who was deleted meanwhile; False where the id is in use
    again, and then nothing is touched. Idempotent. Raises: StoreError.

    Why under the lock of documents: an upload puts its bytes back, should they be gone, when it has that lock.
    """
    with stores.tables.transaction(user_id) as connection:
        lock_documents(connection, user_id)
        if find_user(connection, user_id) is not None:
            return False
        for empty in _EMPTY.values():
            empty(stores, user_id, adapters)
    return True


def _empty_blobs(stores: Stores, user_id: str, adapters: Path) -> int:
    with stores.tables.transaction(user_id) as connection:
        copies = named_by_releases(connection, user_id, "gguf_sha256")
    try:
        drop_local_copies(adapters, user_id, copies)
        return _remove_blobs(stores, user_id, adapters)
    except OSError as error:
        raise StoreError("adapters_stay", f"local copies of adapters cannot be removed: {type(error).__name__}") from error


def _empty_vectors(stores: Stores, user_id: str, _: Path) -> int:
    stores.vectors.delete_user(user_id)
    return 0


def _empty_memories(stores: Stores, user_id: str, _: Path) -> int:
    _forget_asked(stores, user_id)
    return stores.memories.delete_all(user_id)


def _forget_asked(stores: Stores, user_id: str) -> None:
    """What they said to others' twins."""
    with stores.tables.operator_transaction() as connection:
        delete_asked(connection, user_id)


def _empty_graph(stores: Stores, user_id: str, _: Path) -> int:
    """Their own, and what all could know of them."""
    stores.graph.delete_user(user_id)
    return leave_dao(open_dao(stores), stores.graph, user_id)


_EMPTY: dict[Target, Callable[[Stores, str, Path], int]] = {
    "blobs": _empty_blobs,
    "vectors": _empty_vectors,
    "memories": _empty_memories,
    "graph": _empty_graph,
}


def _remove_blobs(stores: Stores, user_id: str, adapters: Path) -> int:
    """Local copies first: their names are known from the keys alone."""
    own = TenantBlobs(stores.blobs, user_id)
    keys = list(own.list_keys(tenant_prefix(user_id)))
    drop_local_copies(adapters, user_id, adapters_among(keys))
    for key in keys:
        own.delete(key)
    return len(keys)
