"""Vectors in Weaviate: one tenant a user, one collection a model, hybrid search by its own BM25F and cosine.

Belongs here: entries as Weaviate's objects, and what Weaviate does not do itself: one writer at a time, and the order of
generations. Both are kept in the application's PostgreSQL.
Does not belong here: the connection, the collection's form and its errors (`weaviate_client.py`).

Three things differ from PostgreSQL. Weaviate has no transaction: a sync that breaks off has written some of its entries; sent
again, it is completed, and no release names a generation before its sync has ended. Words are compared whole, not by stem.
And its fusion takes each range from what it found (the 100 best or as many as were asked for, by words only those with a word).

Consistency: what is written must be written on ALL replicas, what is read is read from ONE. r + w > n, so a sync that has ended
is seen by every chat; a replica that is away delays a build, which is tried again, and not an answer.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import StoreError
from lpm_kernel.records import Citation, content_id, sha256_hex
from lpm_kernel.stores.changes import transaction_id
from lpm_kernel.stores.vectors import HeldEntry, Hit, SyncCount, VectorEntry
from lpm_kernel.stores.weaviate_client import (
    VECTOR,
    WRITER,
    WeaviateConnection,
    collection_of,
    ensure_tenant,
    has_tenant,
    may_pass,
    own_collections,
    refusal,
    weaviate_errors,
)

if TYPE_CHECKING:
    import numpy as np
    from sqlalchemy import Connection
    from weaviate import WeaviateClient

    from lpm_kernel.stores.tables import Tables

NAMESPACE = uuid.UUID("5f0e3a52-6d0b-5c0e-9a53-7c1f4e2b8d11")
BATCH = 200
PAGE = 1000
CANDIDATES = 100
"""Weaviate's own least number of hits of each half of a hybrid search: as many are fetched, and ties are decided here."""
SHARE = 1e-6
"""The least share of either half: at none, Weaviate leaves that half out, and with it every entry without a word asked for."""
HIT_FIELDS = ["chunk_id", "document_sha256", "filename", "byte_start", "byte_end", "text"]
ENTRY_FIELDS = [*HIT_FIELDS, "fingerprint", "input_sha256", "generations"]


class WeaviateVectors:
    """Vectors in a Weaviate of 1.28 or newer. The user must be known in the tables."""

    def __init__(self, connection: WeaviateConnection, tables: Tables) -> None:
        self._connection = connection
        self._tables = tables

    def sync(self, user_id: str, generation: str, entries: Sequence[VectorEntry], fingerprint: str) -> SyncCount:
        _check_vectors(entries)
        wanted = {_object_id(entry, fingerprint): entry for entry in entries}
        with self._tables.transaction(user_id) as connection:
            # on record before anything is written: what lies there and is not on record would never be dropped
            _lock(connection, user_id)
            _touch(connection, user_id, generation)
        with self._tables.transaction(user_id) as connection, weaviate_errors():
            _lock(connection, user_id)
            return self._sync(user_id, generation, wanted, fingerprint, transaction_id(connection))

    def _sync(
        self, user_id: str, generation: str, wanted: Mapping[uuid.UUID, VectorEntry], fingerprint: str, writer: str
    ) -> SyncCount:
        client, home = self._connection.client(), collection_of(fingerprint)
        stored = {name: _generations(client, name, user_id) for name in own_collections(client)}
        known = stored.get(home, {})
        new = {object_id: known.get(object_id, ()) for object_id in wanted if generation not in known.get(object_id, ())}
        if new:
            ensure_tenant(client, home, user_id)
            # what is new comes before what is old goes: a sync that breaks off between them shows more, and never less
            said = {i: _properties(wanted[i], fingerprint, [*held, generation], writer) for i, held in new.items()}
            _insert(client, home, user_id, [(i, properties, wanted[i].vector) for i, properties in said.items()])
        gone = 0
        for name, objects in stored.items():
            leaving = {i for i, held in objects.items() if generation in held and not (name == home and i in wanted)}
            gone += len(leaving)
            _leave(client, name, user_id, {i: [g for g in objects[i] if g != generation] for i in leaving})
        written = sum(1 for object_id in wanted if object_id not in known)
        return SyncCount(written=written, kept=len(wanted) - written, deleted=gone)

    def drop_generations(self, user_id: str, keep: Collection[str]) -> int:
        with self._tables.transaction(user_id) as connection:
            _lock(connection, user_id)
            dropped = _drop(connection, keep)
            if not dropped:
                return 0
            count = 0
            with weaviate_errors():
                client = self._connection.client()
                for name in own_collections(client):
                    objects = _generations(client, name, user_id)
                    leaving = {
                        i: [g for g in held if g not in dropped] for i, held in objects.items() if not dropped.isdisjoint(held)
                    }
                    count += sum(1 for remaining in leaving.values() if not remaining)
                    _leave(client, name, user_id, leaving)
            return count

    def forget_documents(self, user_id: str, sha256s: Collection[str]) -> int:
        with self._tables.transaction(user_id) as connection, weaviate_errors():
            _lock(connection, user_id)
            client, count = self._connection.client(), 0
            for name in own_collections(client):
                leaving = _of_documents(client, name, user_id, sha256s)
                count += len(leaving)
                _leave(client, name, user_id, {object_id: [] for object_id in leaving})
            return count

    def delete_user(self, user_id: str) -> None:
        from sqlalchemy import text

        with self._tables.transaction(user_id) as connection, weaviate_errors():
            _lock(connection, user_id)
            client = self._connection.client()
            for name in own_collections(client):
                if has_tenant(client, name, user_id):
                    client.collections.use(name).tenants.remove(user_id)
            connection.execute(text("delete from memory_generation"))

    def search(
        self,
        user_id: str,
        generation: str,
        question: str,
        vector: np.ndarray,
        *,
        fingerprint: str,
        k: int,
        keyword_weight: float,
        neighbour_weight: float,
        withheld: Collection[str] = (),
    ) -> list[Hit]:
        """Raises: StoreError, also `vectors_unreadable` when Weaviate explains a score in another form than it is read in."""
        from weaviate.classes.query import Filter, HybridFusion, MetadataQuery
        from weaviate.exceptions import WeaviateQueryError

        name = collection_of(fingerprint)
        among = Filter.by_property("generations").contains_any([generation])
        for sha256 in sorted(withheld):
            among &= Filter.by_property("document_sha256").not_equal(sha256)
        with weaviate_errors():
            client = self._connection.client()
            tenant = _reader(client, name, user_id)
            try:
                found = tenant.query.hybrid(
                    question,
                    alpha=min(max(1 - keyword_weight, SHARE), 1 - SHARE),
                    vector=vector.tolist(),
                    target_vector=VECTOR,
                    query_properties=_boosts(neighbour_weight),
                    fusion_type=HybridFusion.RELATIVE_SCORE,
                    filters=among,
                    limit=max(k, CANDIDATES),
                    return_metadata=MetadataQuery(score=True, explain_score=True),
                    return_properties=HIT_FIELDS,
                ).objects
            except WeaviateQueryError:
                if has_tenant(client, name, user_id):
                    raise
                return []  # a user of whom nothing was ever stored
            best = sorted(found, key=lambda item: (-item.metadata.score, item.properties["chunk_id"]))[:k]
            parts = [_explained(item.metadata.explain_score) for item in best]
            far = [item.uuid for item, part in zip(best, parts, strict=True) if "vector" not in part]
            cosines = _cosines(tenant, far, vector)
        return [
            _hit(item, part.get("vector", cosines.get(item.uuid, 0.0)), part.get("keyword", 0.0))
            for item, part in zip(best, parts, strict=True)
        ]

    def count(self, user_id: str, generation: str | None = None) -> int:
        with weaviate_errors():
            client = self._connection.client()
            held = [held for name in own_collections(client) for held in _generations(client, name, user_id).values()]
        return sum(1 for generations in held if generation is None or generation in generations)

    def list_entries(self, user_id: str) -> list[HeldEntry]:
        with weaviate_errors():
            client = self._connection.client()
            found = [
                _held(item.properties)
                for name in own_collections(client)
                if has_tenant(client, name, user_id)
                for item in _reader(client, name, user_id).iterator(return_properties=ENTRY_FIELDS, cache_size=PAGE)
            ]
        return sorted(found, key=lambda entry: (entry.chunk_id, entry.filename, entry.byte_start))


def _check_vectors(entries: Sequence[VectorEntry]) -> None:
    """Raises: StoreError `vector_invalid`. Why here: Weaviate would take the other entries of the batch."""
    import numpy as np

    dims = {entry.vector.shape for entry in entries}
    if len(dims) > 1 or not all(np.isfinite(entry.vector).all() and np.any(entry.vector) for entry in entries):
        raise StoreError(
            "vector_invalid", "the vectors are of several dimensions, or one holds no direction or no number", retryable=False
        )


def _object_id(entry: VectorEntry, fingerprint: str) -> uuid.UUID:
    """Equal for entries that are searched and cited alike, whichever generation they belong to."""
    chunk = entry.chunk
    sign = content_id(chunk.chunk_id, entry.input_sha256, fingerprint, chunk.filename, chunk.byte_start, chunk.byte_end)
    return uuid.uuid5(NAMESPACE, sign)


def _properties(entry: VectorEntry, fingerprint: str, generations: Sequence[str], writer: str) -> dict[str, Any]:
    chunk = entry.chunk
    return {
        "text": entry.text,
        "near": entry.near,
        "generations": list(generations),
        "chunk_id": chunk.chunk_id,
        "document_sha256": chunk.document_sha256,
        "filename": chunk.filename,
        "input_sha256": entry.input_sha256,
        "fingerprint": fingerprint,
        "chunk_index": chunk.chunk_index,
        "byte_start": chunk.byte_start,
        "byte_end": chunk.byte_end,
        WRITER: writer,
    }


def _known(has: Mapping[str, Any]) -> dict[str, Any]:
    """Without what an object of before has no value of."""
    return {name: value for name, value in has.items() if value is not None}


def _held(has: Mapping[str, Any]) -> HeldEntry:
    return HeldEntry(
        *(has["chunk_id"], has["document_sha256"], has["filename"], int(has["byte_start"]), int(has["byte_end"])),
        *(has["fingerprint"], has["input_sha256"]),
        text_sha256=sha256_hex(str(has["text"]).encode()),
        generations=tuple(has.get("generations") or ()),
    )


def _reader(client: WeaviateClient, name: str, user_id: str) -> Any:
    from weaviate.classes.config import ConsistencyLevel

    return client.collections.use(name).with_tenant(user_id).with_consistency_level(ConsistencyLevel.ONE)


def _writer(client: WeaviateClient, name: str, user_id: str) -> Any:
    from weaviate.classes.config import ConsistencyLevel

    return client.collections.use(name).with_tenant(user_id).with_consistency_level(ConsistencyLevel.ALL)


def _generations(client: WeaviateClient, name: str, user_id: str) -> dict[uuid.UUID, tuple[str, ...]]:
    """What every entry of a tenant belongs to, page by page."""
    if not has_tenant(client, name, user_id):
        return {}
    objects = _reader(client, name, user_id).iterator(return_properties=["generations"], cache_size=PAGE)
    return {item.uuid: tuple(item.properties.get("generations") or ()) for item in objects}


def _of_documents(client: WeaviateClient, name: str, user_id: str, sha256s: Collection[str]) -> list[uuid.UUID]:
    if not has_tenant(client, name, user_id):
        return []
    objects = _reader(client, name, user_id).iterator(return_properties=["document_sha256"], cache_size=PAGE)
    return [item.uuid for item in objects if item.properties.get("document_sha256") in sha256s]


def _insert(client: WeaviateClient, name: str, user_id: str, objects: Sequence[tuple[uuid.UUID, dict[str, Any], Any]]) -> None:
    """Write objects whole; one that is there under the same id is replaced, and where its vector is the same, Weaviate rewrites
    its properties alone. Raises: StoreError when any was refused."""
    from weaviate.classes.data import DataObject

    writer = _writer(client, name, user_id)
    for batch in _batches(objects):
        result = writer.data.insert_many(
            [
                DataObject(uuid=object_id, properties=properties, vector={VECTOR: vector.tolist()})
                for object_id, properties, vector in batch
            ]
        )
        if result.errors:
            later = all(may_pass(error.message) for error in result.errors.values())
            raise refusal(f"refused {len(result.errors)} of {len(batch)} entries of a batch", retryable=later)


def _leave(client: WeaviateClient, name: str, user_id: str, leaving: Mapping[uuid.UUID, list[str]]) -> None:
    """Let entries belong to these generations only, and delete those that are left with none."""
    import numpy as np
    from weaviate.classes.query import Filter

    reader, writer = _reader(client, name, user_id), _writer(client, name, user_id)
    for batch in _batches(sorted(object_id for object_id, remaining in leaving.items() if remaining)):
        found = reader.query.fetch_objects(
            filters=Filter.by_id().contains_any(batch), limit=len(batch), include_vector=[VECTOR]
        ).objects
        kept = [
            (item.uuid, {**_known(item.properties), "generations": leaving[item.uuid]}, np.asarray(item.vector[VECTOR]))
            for item in found
        ]
        _insert(client, name, user_id, kept)
    for batch in _batches(sorted(object_id for object_id, remaining in leaving.items() if not remaining)):
        result = writer.data.delete_many(where=Filter.by_id().contains_any(batch))
        if result.failed:
            raise refusal(f"did not delete {result.failed} of {len(batch)} entries", retryable=True)


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Small enough for one message, and far below the 10,000 that one deletion may match."""
    for first in range(0, len(items), BATCH):
        yield items[first : first + BATCH]


def _boosts(neighbour_weight: float) -> list[str]:
    """The weights as whole numbers. Why: older servers read `near^0.5` as `near^0`, and say nothing."""
    share = Fraction(neighbour_weight).limit_denominator(10)
    if not share:
        return ["text"]
    return [f"text^{share.denominator}", f"near^{share.numerator}"]


_PART = re.compile(r"\(Result Set (vector|keyword)[^)]*\) Document [^:]+: original score ([^,\s]+)")


def _explained(words: str | None) -> dict[str, float]:
    """What each half of the search gave a hit; a half that did not find it is not there."""
    found = {half: float(score) for half, score in _PART.findall(words or "")}
    if not found:
        raise StoreError("vectors_unreadable", "Weaviate explains its scores in a form that is not known", retryable=False)
    return found


def _cosines(tenant: Any, ids: Sequence[uuid.UUID], vector: np.ndarray) -> dict[uuid.UUID, float]:
    """Of hits that words alone found, from their own vectors."""
    import numpy as np
    from weaviate.classes.query import Filter

    if not ids:
        return {}
    found = tenant.query.fetch_objects(filters=Filter.by_id().contains_any(list(ids)), limit=len(ids), include_vector=[VECTOR])
    own = {item.uuid: np.asarray(item.vector[VECTOR], dtype=np.float32) for item in found.objects}
    return {i: float(v @ vector / np.linalg.norm(v) / np.linalg.norm(vector)) for i, v in own.items()}


def _hit(item: Any, cosine: float, bm25: float) -> Hit:
    has = item.properties
    return Hit(
        citation=Citation(
            has["chunk_id"], has["document_sha256"], has["filename"], int(has["byte_start"]), int(has["byte_end"])
        ),
        text=has["text"],
        score=min(1.0, float(item.metadata.score)),
        cosine=cosine,
        bm25=bm25,
    )


def _lock(connection: Connection, user_id: str) -> None:
    from sqlalchemy import text

    connection.execute(text("select pg_advisory_xact_lock(hashtext('vectors:' || :user_id))"), {"user_id": user_id})


def _touch(connection: Connection, user_id: str, generation: str) -> None:
    from sqlalchemy import func
    from sqlalchemy.dialects.postgresql import insert

    from lpm_kernel.stores.schema import WRITTEN_NOW, memory_generation

    row = insert(memory_generation).values(user_id=user_id, generation=generation, synced_at=func.clock_timestamp())
    connection.execute(
        row.on_conflict_do_update(
            index_elements=[memory_generation.c.user_id, memory_generation.c.generation],
            set_={"synced_at": row.excluded.synced_at, **WRITTEN_NOW},
        )
    )


def _drop(connection: Connection, keep: Collection[str]) -> frozenset[str]:
    """Forget what is older than the newest of `keep` and not among them."""
    from sqlalchemy import delete, func, select

    from lpm_kernel.stores.schema import memory_generation

    known = memory_generation.c
    newest = select(func.max(known.synced_at)).where(known.generation.in_(sorted(keep))).scalar_subquery()
    older = delete(memory_generation).where(known.generation.not_in(sorted(keep)), known.synced_at < newest)
    return frozenset(connection.execute(older.returning(known.generation)).scalars())
