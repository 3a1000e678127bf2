"""The manifest: one record that says what a twin is made of; offering it to serve, and going back to an older one.

Belongs here: building the manifest from the records of every stage, promoting it, and what it names of memory in words.
Does not belong here: the row it is kept in (`stores/releases.py`), judging what it scored (`promotion.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lpm_kernel.artefacts import decode_records, encode_records
from lpm_kernel.errors import StoreError, TrainingError, UserInputError
from lpm_kernel.L0.embed import generation_of
from lpm_kernel.L1.records import Community
from lpm_kernel.L1.topics import not_just_once
from lpm_kernel.L2.promotion import Verdict
from lpm_kernel.L2.records import Adapter, Evaluation, GgufAdapter, TrainingRow
from lpm_kernel.layout import communities_key
from lpm_kernel.records import Chunk, Document, EmbeddingTable, Release, Topic, content_id, sha256_hex
from lpm_kernel.stores.blobs import Blobs, TenantBlobs
from lpm_kernel.stores.documents import list_documents, lock_documents, pending_change
from lpm_kernel.stores.locks import refuse_while_held
from lpm_kernel.stores.releases import (
    get_release,
    keep_candidate,
    list_releases,
    lock_releases,
    named_by_releases,
    promote_release,
    release_states,
    retire_live,
)
from lpm_kernel.stores.tables import Tables
from lpm_kernel.stores.vectors import Vectors

if TYPE_CHECKING:
    from sqlalchemy import Connection


def make_release(
    user_id: str,
    documents: Sequence[Document],
    chunks: Sequence[Chunk],
    table: EmbeddingTable,
    topics: Sequence[Topic],
    communities: Sequence[Community],
    rows: Sequence[TrainingRow],
    adapter: Adapter,
    gguf: GgufAdapter,
    evaluation: Evaluation,
) -> Release:
    """The manifest of one chain of artefacts.

    Idempotent: the id comes from the hashes of all inputs; the evaluation belongs to the manifest but not to its id.
    Raises: TrainingError `artefacts_do_not_match` when some artefact was made from another one than the manifest would name.
    """
    rows_sha256, generation = rows_hash(rows), generation_of(table)
    chunk_ids = [chunk.chunk_id for chunk in chunks]
    chain = {
        "chunks": {(chunk.document_sha256, chunk.filename) for chunk in chunks}
        == {(document.sha256, document.filename) for document in documents},
        "embeddings": list(table.chunk_ids) == chunk_ids,
        "topics": sorted(chunk_id for topic in topics for chunk_id in topic.chunk_ids) == sorted(chunk_ids),
        "communities": not not_just_once((chunk_id for c in communities for chunk_id in c.chunk_ids), chunk_ids),
        "training_rows": {chunk_id for row in rows for chunk_id in row.source_chunk_ids} <= set(chunk_ids),
        "lora_adapter": adapter.rows_sha256 == rows_sha256,
        "gguf_adapter": gguf.adapter_sha256 == adapter.sha256,
        "evaluation": evaluation.gguf_sha256 == gguf.sha256 and evaluation.memory_generation == generation,
    }
    foreign = [asset for asset, fits in chain.items() if not fits]
    if foreign:
        raise TrainingError(
            "artefacts_do_not_match",
            f"{', '.join(foreign)} and what they are made from are of different runs (documents may have changed meanwhile): "
            f"materialize from `{foreign[0]}` down",
        )
    communities_sha256 = sha256_hex(encode_records(communities))
    hashes: dict[str, Any] = {
        "documents_sha256": documents_hash(documents),
        "chunker": chunks[0].chunker,
        "embedding_fingerprint": table.fingerprint,
        "memory_generation": generation,
        "topics_sha256": sha256_hex(encode_records(topics)),
        "communities_sha256": communities_sha256,
        "rows_sha256": rows_sha256,
        "adapter_sha256": adapter.sha256,
        "gguf_sha256": gguf.sha256,
        "base_sha256": gguf.base_sha256,
    }
    return Release(
        release_id=content_id(user_id, *(f"{name}={value}" for name, value in sorted(hashes.items())))[:32],
        user_id=user_id,
        gguf_key=gguf.key,
        communities_key=communities_key(user_id, communities_sha256),
        evaluation={
            "question_source": evaluation.question_source,
            "questions": evaluation.questions,
            "correct": evaluation.correct,
            "in_pack": evaluation.in_pack,
            "unanswerable": evaluation.unanswerable,
            "declined": evaluation.declined,
            "scores": [asdict(score) for score in evaluation.scores],
        },
        created_at=datetime.now(UTC),
        documents=tuple(sorted(document.sha256 for document in documents)),
        **hashes,
    )


def keep_communities(blobs: Blobs, release: Release, communities: Sequence[Community]) -> None:
    """Put the communities where the manifest says they are, before it is published. Idempotent."""
    if release.communities_key:
        TenantBlobs(blobs, release.user_id).put(release.communities_key, encode_records(communities))


def read_communities(blobs: Blobs, release: Release) -> list[Community] | None:
    """The communities that this manifest names; None where it is from before there were any.

    Raises: StoreError, `artefact_unreadable` too when other bytes lie there than the manifest names.
    """
    if release.communities_key is None:
        return None
    data = TenantBlobs(blobs, release.user_id).get(release.communities_key)
    if sha256_hex(data) != release.communities_sha256:
        raise StoreError(
            "artefact_unreadable",
            f"other communities than release {release.release_id} names: materialize `twin_release` again",
            retryable=False,
        )
    return decode_records(data, Community)


def offer_release(
    tables: Tables, vectors: Vectors, release: Release, verdict: Verdict, *, first_serves: bool = True
) -> Release:
    """Put it on record, and make it the live one where it may be; as it now stands, with the reasons.

    It serves when it passed its gates, or serves already; and, where `first_serves`, when nobody else may: the user has no
    live release, or one that knows a document which is deleted, and such a one ends here in any case.
    The one before is retired in the same transaction and can be gone back to. Memory that no release names any more is
    dropped afterwards. Idempotent.
    Raises: TrainingError `document_deleted` when a document it was made from was deleted meanwhile; StoreError `lease_held`
    while somebody changes every store of this user.
    """
    user_id = release.user_id
    with tables.transaction(user_id) as connection:
        lock_documents(connection, user_id)
        lock_releases(connection, user_id)
        refuse_while_held(connection, user_id)
        gone = set(release.documents or ()) - {document.sha256 for document in list_documents(connection, user_id)}
        if gone:
            raise TrainingError(
                "document_deleted", f"{len(gone)} of its documents were deleted while it was made: the next run is without them"
            )
        live = next((state for state in release_states(connection, user_id) if state.status == "live"), None)
        alone = live is None or (live.stale_reason is not None and live.release_id != release.release_id)
        again = live is not None and live.release_id == release.release_id
        offered = replace(release, reasons=verdict.reasons, evaluation={**release.evaluation, "gates": verdict.as_figures()})
        if verdict.passed or again or (alone and first_serves):
            offered = replace(offered, status="live")
            promote_release(connection, offered)
        else:
            keep_candidate(connection, offered)
            if alone:
                retire_live(connection, user_id)
    with tables.transaction(user_id) as connection:
        lock_releases(connection, user_id)  # nobody publishes another one between the look and the drop
        named = named_by_releases(connection, user_id, "memory_generation", stale=False)
        vectors.drop_generations(user_id, named)
    return offered


def promote_again(tables: Tables, blobs: Blobs, vectors: Vectors, user_id: str, release_id: str) -> Release:
    """Make this release the live one, whatever its gates said: it is a person's decision. `release_id` may be its beginning.

    Raises: UserInputError `release_unknown`, `release_stale`, `release_incomplete`; StoreError `lease_held`.
    """
    with tables.transaction(user_id) as connection:
        lock_releases(connection, user_id)
        refuse_while_held(connection, user_id)
        found = [state.release_id for state in release_states(connection, user_id) if state.release_id.startswith(release_id)]
        wanted = get_release(connection, user_id, found[0]) if release_id and len(found) == 1 else None
        if wanted is None:
            raise UserInputError("release_unknown", f"{len(found)} releases of user {user_id} begin with {release_id!r}")
        _refuse_unfit(wanted, blobs, vectors)
        promote_release(connection, wanted)
        return replace(wanted, status="live")


def roll_back(tables: Tables, blobs: Blobs, vectors: Vectors, user_id: str) -> Release:
    """Go back to the newest release that served before the one that serves now.

    Raises: UserInputError `release_unknown` when there is none; `release_incomplete` when it is not whole any more;
    StoreError `lease_held`.
    """
    with tables.transaction(user_id) as connection:
        lock_releases(connection, user_id)
        refuse_while_held(connection, user_id)
        releases = list_releases(connection, user_id)
        live = next((item for item in releases if item.status == "live"), None)
        before = [
            item
            for item in releases
            if item.status == "retired" and not item.stale_reason and (live is None or item.created_at < live.created_at)
        ]
        if not before:
            raise UserInputError("release_unknown", f"user {user_id} has no earlier release that may serve")
        _refuse_unfit(before[0], blobs, vectors)
        promote_release(connection, before[0])
        return replace(before[0], status="live")


def _refuse_unfit(release: Release, blobs: Blobs, vectors: Vectors) -> None:
    if release.stale_reason:
        raise UserInputError("release_stale", f"release {release.release_id} cannot serve: {release.stale_reason}")
    own = TenantBlobs(blobs, release.user_id)
    keys = [key for key in (release.gguf_key, release.communities_key) if key and not own.exists(key)]
    lacking = [*keys, *([] if vectors.count(release.user_id, release.memory_generation) else ["its memory"])]
    if lacking:
        raise UserInputError(
            "release_incomplete",
            f"release {release.release_id} is not whole, {', '.join(lacking)} are gone: `twin backfill` builds the twin anew",
        )


def documents_hash(documents: Sequence[Document]) -> str:
    return content_id(*sorted(f"{document.filename}:{document.sha256}" for document in documents))


def rows_hash(rows: Sequence[TrainingRow]) -> str:
    """Of all train rows in their order: what an adapter is made from."""
    return content_id(*(row.checksum for row in rows if row.split == "train"))


@dataclass(frozen=True, slots=True)
class UnbuiltContent:
    """Documents of a user that no release holds. `waiting`: the pipeline has not yet looked at them."""

    content: str
    waiting: bool


def find_unbuilt(connection: Connection, user_id: str) -> UnbuiltContent | None:
    """What of a user's documents is still to be built; None when some release, live or not, holds just these.

    Why any release: going back to an older one is a person's decision, and not unfinished work.
    """
    change = pending_change(connection, user_id)
    if change is not None:
        return UnbuiltContent(change, waiting=True)
    documents = [document for document in list_documents(connection, user_id) if document.status == "read"]
    wanted = documents_hash(documents)
    if not documents or wanted in named_by_releases(connection, user_id, "documents_sha256", stale=False):
        return None
    return UnbuiltContent(wanted[:32], waiting=False)
