"""Repairs of one user: each makes a store what the truth says, from the truth.

Belongs here: what each kind of repair does. All are idempotent, and none deletes what it cannot name.
Does not belong here: whether to repair (`decide_*.py`), and the ledger of votes (`shared.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TypeVar

import lpm_kernel.forget as forgetting
from lpm_kernel.errors import StoreError, SyncError, UserInputError
from lpm_kernel.L0.embed import chunk_texts, generation_of, vector_entries
from lpm_kernel.L0.quarantine import drop_useless_copies
from lpm_kernel.L0.read import pdf_bounds, read_document
from lpm_kernel.L2.adapter_files import known_sha256, local_copy
from lpm_kernel.layout import asset_key, raw_key, text_key
from lpm_kernel.reconcile.decide_graph import fact_holds_still
from lpm_kernel.reconcile.decide_memories import LONG_AGO, memory_holds_still
from lpm_kernel.reconcile.findings import Finding, Repair
from lpm_kernel.reconcile.inventory import NamedRelease, Truth
from lpm_kernel.reconcile.read_blobs import holds_chunks
from lpm_kernel.reconcile.read_memory import (
    expected_facts,
    expected_memories,
    newest_chunks,
    newest_table,
    to_held_fact,
    to_held_memory,
)
from lpm_kernel.reconcile.read_truth import read_truth, truth_within
from lpm_kernel.records import Document, EmbeddingTable, sha256_hex
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.documents import lock_documents
from lpm_kernel.stores.graphiti_clients import fact_id
from lpm_kernel.stores.locks import Lease
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.reconciliation import count_memories_anew

T = TypeVar("T")
AT_ONCE = 20
"""Memories or facts that are written under one lock: a chat of the same user waits for no more."""
VECTORS = 200
"""That are written under one lock: they are made already, so that more of them take no longer."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """`lease`: on all there is of the user. `adapters`: the folder of local copies. `purged_on`: the day of the last nightly
    purge."""

    stores: Stores
    lease: Lease
    truth: Truth
    adapters: Path
    purged_on: date | None

    @property
    def own(self) -> TenantBlobs:
        return TenantBlobs(self.stores.blobs, self.truth.user_id)


def repair(place: Workplace, finding: Finding) -> None:
    """Raises: whatever the store raises; SyncError `not_repairable` where what it would be made from is not as it was."""
    assert finding.repair is not None
    _REPAIRS[finding.repair](place, finding)


@contextmanager
def _standing(place: Workplace) -> Iterator[Workplace]:
    """With the truth as it is now, which no deletion and no upload changes until this ends.

    Why: what is written from the truth of a moment ago may be of a document that was deleted since, and nothing would take it
    out again. A deletion begins under the same lock, and empties the stores after it. Uploads and chats wait for that lock, and
    not for long: what takes time is done before it.
    """
    user_id = place.truth.user_id
    place.lease.keep()
    with place.stores.tables.transaction(user_id) as connection:
        place.lease.check(connection)
        lock_documents(connection, user_id)
        yield replace(place, truth=truth_within(connection, user_id))


def _sha256s(finding: Finding) -> list[str]:
    """Of the documents that keys are of, or that are named themselves."""
    return sorted({item.rpartition("/")[2].removesuffix(".txt") for item in finding.items})


@contextmanager
def _unless_gone(place: Workplace, sha256: str) -> Iterator[None]:
    """For what is read without the lock: bytes of a document that was deleted meanwhile are not missed."""
    try:
        yield
    except StoreError as error:
        if error.code != "blob_not_found" or sha256 in read_truth(place.stores.tables, place.truth.user_id).documents:
            raise


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[first : first + AT_ONCE] for first in range(0, len(items), AT_ONCE))


def _reread_text(place: Workplace, finding: Finding) -> None:
    """One document after another, each read before the lock: a PDF may take a minute."""
    user_id, limits = place.truth.user_id, place.stores.settings.limits
    chunks = newest_chunks(place.stores.blobs, user_id).values()
    for sha256 in _sha256s(finding):
        document = place.truth.documents.get(sha256)
        if document is None or not _has_text(document):
            continue  # it went since
        place.lease.keep()
        with _unless_gone(place, sha256):
            text, _ = read_document(place.own.get(raw_key(user_id, sha256)), document.mime, pdf_bounds(limits))
            data = text.encode()
            own = [chunk for chunk in chunks if chunk.document_sha256 == sha256]
            if len(data) != document.text_size_bytes or not holds_chunks(data, own):
                raise SyncError(
                    "not_repairable",
                    f"document {sha256[:12]} is read otherwise today than when it was cut into chunks: send it again",
                )
            with _standing(place) as now:
                still = now.truth.documents.get(sha256)
                if still is not None and _has_text(still) and still.text_size_bytes == len(data):
                    place.own.put(text_key(user_id, sha256), data)


def _has_text(document: Document) -> bool:
    return document.status in ("read", "replaced")


def _restore_copy(place: Workplace, finding: Finding) -> None:
    """One adapter under each lock, and its copy hashed before it."""
    for release in place.truth.releases:
        if release.gguf_key not in finding.items or not _may_serve(release):
            continue
        place.lease.keep()
        path = local_copy(place.adapters, place.truth.user_id, release.gguf_sha256)
        if known_sha256(path) != release.gguf_sha256:
            continue
        with _standing(place) as now:
            if any(each.gguf_key == release.gguf_key and _may_serve(each) for each in now.truth.releases):
                place.own.put_file(release.gguf_key, path)


def _may_serve(release: NamedRelease) -> bool:
    return not release.stale or release.status == "live"


def _restore_communities(place: Workplace, finding: Finding) -> None:
    """They are few words, of one release or two."""
    data = place.own.get(asset_key(place.truth.user_id, "communities", "jsonl"))
    with _standing(place) as now:
        for release in now.truth.releases:
            key, is_this = release.communities_key, release.communities_sha256 == sha256_hex(data)
            if not release.stale and is_this and key is not None and key in finding.items:
                place.own.put(key, data)


def _drop_copies(place: Workplace, finding: Finding) -> None:
    for sha256 in _sha256s(finding):
        drop_useless_copies(place.stores.tables, place.stores.blobs, place.truth.user_id, sha256)


def _go_on_deleting(place: Workplace, finding: Finding) -> None:
    """What was sent again since the look stays: whether it is deleted still is asked under the lock that deletes it."""
    for sha256 in _sha256s(finding):
        if sha256 not in place.truth.deleted:
            continue
        place.lease.keep()
        try:
            forgetting.delete_document(place.stores, place.truth.user_id, sha256, place.adapters, begun_only=True)
        except UserInputError as error:
            if error.code != "document_unknown":
                raise


def _rewrite_generation(place: Workplace, finding: Finding) -> None:
    """From the embeddings artefact and the stored texts, without what is of documents that went since.

    The store is told all that the generation is to hold: first what it holds already and a few of the others, and with each
    batch more of them.
    """
    user_id, blobs = place.truth.user_id, place.stores.blobs
    table, chunks = newest_table(blobs, user_id), newest_chunks(blobs, user_id)
    if table is None or generation_of(table) != finding.subject or any(i not in chunks for i in table.chunk_ids):
        raise SyncError("not_repairable", f"a newer build stands where generation {finding.subject[:12]} was made from")
    texts: dict[str, bytes] = {}
    for sha256, key in {chunks[i].document_sha256: chunks[i].text_key for i in table.chunk_ids}.items():
        if sha256 in place.truth.documents:
            with _unless_gone(place, sha256):
                texts[sha256] = place.own.get(key)
    kept = [i for i, chunk_id in enumerate(table.chunk_ids) if chunks[chunk_id].document_sha256 in texts]
    part = EmbeddingTable(
        tuple(table.chunk_ids[i] for i in kept),
        tuple(table.input_sha256s[i] for i in kept),
        table.vectors[kept],
        table.fingerprint,
    )
    entries = vector_entries(chunk_texts([chunks[i] for i in part.chunk_ids], texts), part)
    held = {
        (entry.chunk_id, entry.input_sha256)
        for entry in place.stores.vectors.list_entries(user_id)
        if finding.subject in entry.generations and entry.fingerprint == table.fingerprint
    }
    there = [entry for entry in entries if (entry.chunk.chunk_id, entry.input_sha256) in held]
    lost = [entry for entry in entries if (entry.chunk.chunk_id, entry.input_sha256) not in held]
    for first in range(0, max(1, len(lost)), VECTORS):  # once where none is lost: what is there twice goes
        with _standing(place) as now:
            told = [*there, *lost[: first + VECTORS]]
            still = [entry for entry in told if entry.chunk.document_sha256 in now.truth.documents]
            place.stores.vectors.sync(user_id, finding.subject, still, table.fingerprint)


def _rewrite_memories(place: Workplace, finding: Finding) -> None:
    """As they were decided on then: no gate is asked again."""
    user_id = place.truth.user_id
    lost = [m for m in expected_memories(place.stores.blobs, user_id) if m.memory_id in finding.items]
    for batch in _batches(lost):
        with _standing(place) as now:
            still = [m for m in batch if memory_holds_still(now.truth, to_held_memory(m))]
            if still:
                place.stores.memories.add_batch(user_id, still)


def _purge_memories(place: Workplace, finding: Finding) -> None:
    assert place.purged_on is not None
    place.stores.memories.purge_expired(place.truth.user_id, place.purged_on - LONG_AGO)


def _count_memories(place: Workplace, finding: Finding) -> None:
    with place.stores.tables.transaction(place.truth.user_id) as connection:
        count_memories_anew(connection, place.truth.user_id)


def _rewrite_facts(place: Workplace, finding: Finding) -> None:
    user_id = place.truth.user_id
    lost = [fact for fact in expected_facts(place.stores.blobs, user_id) if fact_id(fact) in finding.items]
    for batch in _batches(lost):
        with _standing(place) as now:
            # the end of each is worked out again from those that follow it
            still = [replace(fact, expired_at=None) for fact in batch if fact_holds_still(now.truth, to_held_fact(fact))]
            if still:
                place.stores.graph.write_facts(user_id, still)


_REPAIRS: dict[Repair, Callable[[Workplace, Finding], None]] = {
    "reread_text": _reread_text,
    "restore_copy": _restore_copy,
    "restore_communities": _restore_communities,
    "drop_copies": _drop_copies,
    "go_on_deleting": _go_on_deleting,
    "rewrite_generation": _rewrite_generation,
    "rewrite_memories": _rewrite_memories,
    "purge_memories": _purge_memories,
    "count_memories": _count_memories,
    "rewrite_facts": _rewrite_facts,
}
