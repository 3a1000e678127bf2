"""Forgetting a document: out of every store at once, and out of the weights as soon as a twin without it serves.

Belongs here: the order in which a document goes, and what is made from it.
Does not belong here: training without it; the deletion waits to be taken up like an upload, and the pipeline does that.

What the person is promised: from the moment a deletion is on record no answer shows or cites the document, whatever a store
still holds, and no release made from it is promoted again. The adapter that learned from it goes on serving until the next
one is there, unless `release.stop_serving_deleted`; then its weights, its checkpoints and its copies are removed. What the
person and the twin said to each other in chats is theirs and stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lpm_kernel.artefacts import decode_record, read_previous
from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.L0.intake import check_filename
from lpm_kernel.L1.document_memories import FOR_EVER
from lpm_kernel.L2.adapter_files import drop_local_copies
from lpm_kernel.L2.records import Adapter, GgufAdapter
from lpm_kernel.layout import (
    asked_for_keys,
    assets_prefix,
    document_keys,
    weight_prefixes,
    written_prefix,
)
from lpm_kernel.records import Document
from lpm_kernel.stores.ballot_drafts import withdraw_reasons
from lpm_kernel.stores.blobs import Blobs, TenantBlobs
from lpm_kernel.stores.calibration import drop_pairs_of
from lpm_kernel.stores.changes import Change, Target, put_change
from lpm_kernel.stores.dao_plans import forget_plan_lines
from lpm_kernel.stores.dao_words import withdraw_words
from lpm_kernel.stores.documents import deleted_documents, drop_deleted, list_documents, lock_documents, mark_deleted
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import (
    lock_releases,
    mark_stale,
    named_by_releases,
    release_states,
    retire_live,
)
from lpm_kernel.stores.social_messages import forget_words_of
from lpm_kernel.stores.users import get_user
from lpm_kernel.sync.appliers import Applier, Finish, nothing_more
from lpm_kernel.sync.retry import LEASE_S
from lpm_kernel.sync.worker import try_change

if TYPE_CHECKING:
    from sqlalchemy import Connection

SHORTEST_HASH = 8
"""Letters of a sha256 that a person must give at least."""
GRAPH_RELATIONS = ("AUTHORED", "MENTIONS")


@dataclass(frozen=True, slots=True)
class Deletion:
    """What went, and what became of the twin that knew it: `stale_releases` cannot serve again; `silent`: none serves now."""

    documents: tuple[Document, ...]
    stale_releases: tuple[str, ...]
    silent: bool
    waiting: bool
    """Whether a twin without them is still to be built."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed for good once a twin without the deleted documents served."""

    documents: int
    files: int


def delete_document(stores: Stores, user_id: str, named: str, adapters: Path, *, begun_only: bool = False) -> Deletion:
    """Delete every content that has or had this file name, or the one whose sha256 begins so. `begun_only`: of what was deleted
    before, whose deletion broke off; what was sent again since is live, and nobody has asked for its deletion.

    First it is put on record, in one transaction, with what each store has yet to do; then it goes out of each, one that fails
    keeping none of the others. What failed is done by the worker of changes, the next try, or the next release. `adapters`: the
    folder of local copies.
    Raises: UserInputError `twin_not_found`, `document_unknown`; StoreError of the first store that failed.
    """
    silence = stores.settings.release.stop_serving_deleted
    with stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)
        lock_documents(connection, user_id)
        lock_releases(connection, user_id)
        rows = list_documents(connection, user_id)
        found = [] if begun_only else _find(rows, named)
        begun = [] if found else _deleted_as(connection, user_id, named)
        if not found and not begun:
            raise UserInputError(
                "document_unknown", f"user {user_id} has no document of that name, and none whose sha256 alone begins so"
            )
        sha256s = [row.sha256 for row in found] or begun
        left = any(row.status == "read" and row.sha256 not in sha256s for row in rows)
        waiting = left and any(row.status == "read" for row in found)
        if left and found:
            mark_deleted(connection, user_id, sha256s, pending=waiting)
        elif not left:
            sha256s = sorted({*sha256s, *deleted_documents(connection, user_id)})  # those too whose deletion broke off
            mark_deleted(connection, user_id, sha256s, pending=False)
        stale = _mark_releases(connection, user_id, found, end=silence or not left)
        silent = not any(state.status == "live" for state in release_states(connection, user_id))
        drop_pairs_of(connection, user_id, sha256s)
        forget_plan_lines(connection, user_id, sha256s)
        withdraw_words(connection, user_id, sha256s)
        withdraw_reasons(connection, user_id, sha256s)
        forget_words_of(connection, user_id, sha256s, datetime.now(UTC))
        changes = _put_changes(connection, user_id, sha256s, left=left, waiting=waiting)
    steps = deletion_steps(adapters)
    failures = [error for change in changes if (error := try_change(stores, change, apply=steps[change.step]))]
    if failures:
        raise failures[0]
    return Deletion(tuple(found), tuple(stale), silent, waiting)


def _put_changes(connection: Connection, user_id: str, sha256s: Collection[str], *, left: bool, waiting: bool) -> list[Change]:
    """What the deletion of these has to reach. The first try is its asker's."""

    def put(target: Target, kind: str, reference: dict[str, list[str]]) -> Change:
        return put_change(connection, user_id, target, kind, reference, at=datetime.now(UTC), held_s=LEASE_S)

    named = {"sha256s": sorted(sha256s)}
    changes = [put(target, "delete_documents", named) for target in ("blobs", "vectors", "memories", "graph")]
    if not left:
        changes.append(put("blobs", "delete_derived", {}))
    elif not waiting:
        # nothing of now was made from it, so no new release will come
        changes.append(put("blobs", "remove_stale", named))
    return changes


def deletion_steps(adapters: Path) -> dict[str, Applier]:
    """What the stores do for a deletion, by target and kind. `adapters`: the folder of local copies."""

    def of_documents(erase: Callable[[Stores, str, Collection[str]], None]) -> Applier:
        def apply(stores: Stores, change: Change) -> Finish:
            with stores.tables.transaction(change.user_id) as connection:
                gone = deleted_documents(connection, change.user_id).intersection(change.reference["sha256s"])
            erase(stores, change.user_id, gone)
            return nothing_more

        return apply

    def blobs(stores: Stores, user_id: str, sha256s: Collection[str]) -> None:
        own = TenantBlobs(stores.blobs, user_id)
        # which of them a language model had before it nobody can tell: what it wrote is asked for again
        _remove_all(own, written_prefix(user_id))
        for key in asked_for_keys(user_id):
            own.delete(key)
        _erase_blobs(stores, user_id, sha256s)

    def derived(stores: Stores, change: Change) -> Finish:
        with stores.tables.transaction(change.user_id) as connection:
            there = any(row.status == "read" for row in list_documents(connection, change.user_id))
        if not there:  # one that was sent meanwhile is built from anew
            _erase_all_derived(stores, change.user_id, adapters)
        return nothing_more

    def stale(stores: Stores, change: Change) -> Finish:
        remove_what_is_stale(stores, change.user_id, adapters, only=change.reference["sha256s"])
        return nothing_more

    return {
        "blobs/delete_documents": of_documents(blobs),
        "vectors/delete_documents": of_documents(_erase_vectors),
        "memories/delete_documents": of_documents(_erase_memories),
        "graph/delete_documents": of_documents(_erase_facts),
        "blobs/delete_derived": derived,
        "blobs/remove_stale": stale,
    }


def _mark_releases(connection: Connection, user_id: str, found: Collection[Document], *, end: bool) -> list[str]:
    """`end`: a live one that is stale by it ends now. With no document left it must: nothing could take its place."""
    # one that waits to be read was perhaps read before, and replaced, and is sent again
    sha256s, read = [row.sha256 for row in found], any(row.status in ("read", "replaced") for row in found)
    stale = mark_stale(connection, user_id, sha256s, "a document it was made from was deleted", unsaid=read)
    live = next((state for state in release_states(connection, user_id) if state.status == "live"), None)
    if live and live.stale_reason and end:
        retire_live(connection, user_id)
    return stale


def _find(rows: Collection[Document], named: str) -> list[Document]:
    try:
        name = check_filename(named)
    except UserInputError:
        return []
    by_name = [row for row in rows if name in row.names]
    by_hash = [row for row in rows if len(named) >= SHORTEST_HASH and row.sha256.startswith(named.lower())]
    return by_name or (by_hash if len(by_hash) == 1 else [])


def _deleted_as(connection: Connection, user_id: str, named: str) -> list[str]:
    """Of a deletion that broke off there is a hash left, and no name."""
    begun = [sha256 for sha256 in deleted_documents(connection, user_id) if sha256.startswith(named.lower())]
    return begun if len(named) >= SHORTEST_HASH and len(begun) == 1 else []


def _erase(stores: Stores, user_id: str, sha256s: Collection[str]) -> None:
    """Out of blobs, search, memories and graph. Idempotent."""
    gone = _erase_blobs(stores, user_id, sha256s)
    _erase_vectors(stores, user_id, gone)
    _erase_memories(stores, user_id, gone)
    _erase_facts(stores, user_id, gone)


def _erase_blobs(stores: Stores, user_id: str, sha256s: Collection[str]) -> Collection[str]:
    """Those of them that are deleted still: one that was sent again meanwhile stays, for whoever sends it puts its bytes back
    when they are gone under the same lock."""
    own = TenantBlobs(stores.blobs, user_id)
    with stores.tables.transaction(user_id) as connection:
        lock_documents(connection, user_id)
        gone = deleted_documents(connection, user_id).intersection(sha256s)
        for sha256 in gone:
            for key in document_keys(user_id, sha256):
                own.delete(key)
    return gone


def _erase_vectors(stores: Stores, user_id: str, sha256s: Collection[str]) -> None:
    stores.vectors.forget_documents(user_id, sha256s)


def _erase_memories(stores: Stores, user_id: str, sha256s: Collection[str]) -> None:
    # those too that were corrected since: their old words are the document's
    gone = [
        memory.memory_id for memory in stores.memories.every(user_id) if (memory.citation or "").partition(":")[0] in sha256s
    ]
    if gone:
        stores.memories.delete(user_id, gone)


def _erase_facts(stores: Stores, user_id: str, sha256s: Collection[str]) -> None:
    facts = stores.graph.list_facts(user_id, set(GRAPH_RELATIONS))
    about = [
        fact
        for fact in facts
        if any(entity.kind == "Document" and entity.name in sha256s for entity in (fact.subject, fact.object))
    ]
    if about:
        stores.graph.forget_facts(user_id, about)


def _erase_all_derived(stores: Stores, user_id: str, adapters: Path) -> None:
    """Everything that was made of documents: none is left that a run could make it anew from.

    That they are deleted stays on record: a run under way may leave something of them, and the next release removes it.
    """
    own, local = TenantBlobs(stores.blobs, user_id), set[str]()
    for prefix in (assets_prefix(user_id), *weight_prefixes(user_id)):
        local.update(adapters_among(_remove_all(own, prefix)))
    held = stores.memories.current(user_id, as_of=FOR_EVER, kinds=("voice",))
    versions = {version.memory_id for voice in held for version in stores.memories.history(user_id, voice.memory_id)}
    if versions:
        stores.memories.delete(user_id, sorted(versions))
    with stores.tables.transaction(user_id) as connection:
        local |= named_by_releases(connection, user_id, "gguf_sha256")
    drop_local_copies(adapters, user_id, local)


def remove_what_is_stale(
    stores: Stores, user_id: str, adapters: Path, *, built: str | None = None, only: Collection[str] | None = None
) -> Removal:
    """Once a release without the deleted documents is there: the weights that learned from them, and each trace of deletion.

    Weights that no release which may serve names, and no present asset, are removed: also those of runs that broke off, which
    nobody ever named. `adapters`: the folder of local copies. Idempotent; nothing is removed while a stale one serves.
    `built`: the release that was just put on record, which is one without them though it may not serve. `only`: of the deleted
    documents these, where what was made of others is still there.
    """
    with stores.tables.transaction(user_id) as connection:
        lock_releases(connection, user_id)
        deleted = deleted_documents(connection, user_id, taken_up=True)
        deleted = deleted if only is None else deleted.intersection(only)
        states = release_states(connection, user_id)
        there = any(state.release_id == built or state.status == "live" for state in states if not state.stale_reason)
        names = {
            field: named_by_releases(connection, user_id, field, stale=False)
            for field in ("adapter_sha256", "gguf_sha256", "communities_sha256")
        }
        local = named_by_releases(connection, user_id, "gguf_sha256") - named_by_releases(
            connection, user_id, "gguf_sha256", stale=False
        )
    if not deleted or not there:
        return Removal(0, 0)
    _erase(stores, user_id, deleted)
    kept = {*set().union(*names.values()), *_present_hashes(stores.blobs, user_id)}
    removed = _remove_unnamed(stores.blobs, user_id, kept)
    drop_local_copies(adapters, user_id, {*local, *adapters_among(removed)} - kept)
    with stores.tables.transaction(user_id) as connection:
        lock_documents(connection, user_id)
        drop_deleted(connection, user_id, deleted & deleted_documents(connection, user_id, taken_up=True))
    return Removal(len(deleted), len(removed))


def _present_hashes(blobs: Blobs, user_id: str) -> set[str]:
    """What the assets of now name: a run that is under way may be about to publish it."""
    adapter = read_previous(blobs, user_id, "lora_adapter", "json", lambda data: decode_record(data, Adapter))
    gguf = read_previous(blobs, user_id, "gguf_adapter", "json", lambda data: decode_record(data, GgufAdapter))
    return ({adapter.sha256} if adapter else set()) | ({gguf.sha256, gguf.adapter_sha256} if gguf else set())


def adapters_among(keys: Collection[str]) -> set[str]:
    """Of adapters among these keys that may have a local copy: evaluated they were, and perhaps never released."""
    return {key.rpartition("/")[2].removesuffix(".gguf") for key in keys if key.endswith(".gguf")}


def _remove_all(own: TenantBlobs, prefix: str) -> list[str]:
    keys = list(own.list_keys(prefix))
    for key in keys:
        own.delete(key)
    return keys


def _remove_unnamed(blobs: Blobs, user_id: str, kept: Collection[str]) -> list[str]:
    """Every file of weights whose key has none of these hashes in it, and no record that leads to one that has."""
    own, removed = TenantBlobs(blobs, user_id), list[str]()
    for prefix in weight_prefixes(user_id):
        for key in list(own.list_keys(prefix)):
            if not any(sha256 in key for sha256 in kept) and not _is_recipe_of(own, key, kept):
                own.delete(key)
                removed.append(key)
    return removed


def _is_recipe_of(own: TenantBlobs, key: str, kept: Collection[str]) -> bool:
    """Whether this record leads to an adapter that is kept."""
    if "/recipe-" not in key:
        return False
    try:
        return decode_record(own.get(key), Adapter).sha256 in kept
    except StoreError as error:
        if error.code in ("blob_not_found", "artefact_unreadable"):
            return False
        raise
