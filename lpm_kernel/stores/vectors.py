"""Vectors: chunks of one tenant at a time, searched by words and by meaning.

Belongs here: the Protocol and its classes; a search that fuses BM25 and cosine.
Does not belong here: which chunks fit a prompt (`recall/`) and making vectors (`embedder.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lpm_kernel.records import Chunk, Citation
from lpm_kernel.stores.schema import chunk_vector

if TYPE_CHECKING:
    import numpy as np

    from lpm_kernel.stores.tables import Tables


@dataclass(frozen=True, slots=True, eq=False)
class VectorEntry:
    """A chunk as it is searched. `near` is the text around it (title, neighbours): its words count, but less."""

    chunk: Chunk
    text: str
    near: str
    input_sha256: str
    vector: np.ndarray


@dataclass(frozen=True, slots=True)
class Hit:
    """`score` is the fused one, 0 to 1 within this search; `cosine` and `bm25` are what it was made of."""

    citation: Citation
    text: str
    score: float
    cosine: float
    bm25: float


@dataclass(frozen=True, slots=True)
class SyncCount:
    written: int
    kept: int
    deleted: int


class Vectors(Protocol):
    """What a vector store guarantees: a search sees one tenant, one fingerprint, and returns min(k, entries) hits."""

    def sync(self, user_id: str, entries: Sequence[VectorEntry], fingerprint: str) -> SyncCount:
        """Make the tenant hold exactly these entries: write new and changed, delete gone. All or nothing."""
        ...

    def search(
        self,
        user_id: str,
        question: str,
        vector: np.ndarray,
        *,
        fingerprint: str,
        k: int,
        keyword_weight: float,
        neighbour_weight: float,
    ) -> list[Hit]:
        """Best first; ties in chunk id order, so that equal searches are equal."""
        ...

    def count(self, user_id: str) -> int: ...


class PgVectors:
    """Vectors in the application's own PostgreSQL: exact cosine by pgvector and BM25F over text-search lexemes.

    Why exact: within one tenant a scan costs under a millisecond, while an HNSW index behind a tenant filter loses rows.
    Source: BM25F after Robertson and Zaragoza, k1 1.2, b 0.75, stemmed English lexemes of PostgreSQL; min-max fusion.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def sync(self, user_id: str, entries: Sequence[VectorEntry], fingerprint: str) -> SyncCount:
        from sqlalchemy import text

        with self._tables.transaction(user_id) as connection:
            # One sync of a tenant at a time: two that both insert would leave the tenant with the entries of both.
            connection.execute(text("select pg_advisory_xact_lock(hashtext('vectors:' || :user_id))"), {"user_id": user_id})
            rows = connection.execute(text(_HELD))
            held = {row.chunk_id: tuple(row[1:]) for row in rows}
            wanted = {entry.chunk.chunk_id for entry in entries}
            gone = sorted(held.keys() - wanted)
            fresh = [entry for entry in entries if held.get(entry.chunk.chunk_id) != _held(entry, fingerprint)]
            if gone:
                connection.execute(chunk_vector.delete().where(chunk_vector.c.chunk_id.in_(gone)))
            if fresh:
                connection.execute(text(_UPSERT), [_parameters(user_id, entry, fingerprint) for entry in fresh])
        return SyncCount(written=len(fresh), kept=len(entries) - len(fresh), deleted=len(gone))

    def search(
        self,
        user_id: str,
        question: str,
        vector: np.ndarray,
        *,
        fingerprint: str,
        k: int,
        keyword_weight: float,
        neighbour_weight: float,
    ) -> list[Hit]:
        from sqlalchemy import text

        with self._tables.transaction(user_id) as connection:
            rows = connection.execute(
                text(_SEARCH),
                {
                    "question": question,
                    "vector": _literal(vector),
                    "fingerprint": fingerprint,
                    "k": k,
                    "keyword_weight": keyword_weight,
                    "neighbour_weight": neighbour_weight,
                },
            ).all()
        return [
            Hit(
                citation=Citation(row.chunk_id, row.document_sha256, row.filename, row.byte_start, row.byte_end),
                text=row.text,
                score=float(row.score),
                cosine=float(row.cosine),
                bm25=float(row.bm25),
            )
            for row in rows
        ]

    def count(self, user_id: str) -> int:
        from sqlalchemy import text

        with self._tables.transaction(user_id) as connection:
            return int(connection.execute(text("select count(*) from chunk_vector")).scalar_one())


def _parameters(user_id: str, entry: VectorEntry, fingerprint: str) -> dict[str, object]:
    return {
        "user_id": user_id,
        "chunk_id": entry.chunk.chunk_id,
        "fingerprint": fingerprint,
        "document_sha256": entry.chunk.document_sha256,
        "filename": entry.chunk.filename,
        "byte_start": entry.chunk.byte_start,
        "byte_end": entry.chunk.byte_end,
        "text": entry.text,
        "near": entry.near,
        "input_sha256": entry.input_sha256,
        "vector": _literal(entry.vector),
    }


def _held(entry: VectorEntry, fingerprint: str) -> tuple[object, ...]:
    """What a row must say for its entry to be the same; in the order of `_HELD`."""
    chunk = entry.chunk
    return (entry.input_sha256, fingerprint, chunk.filename, chunk.byte_start, chunk.byte_end)


def _literal(vector: np.ndarray) -> str:
    return "[" + ",".join(f"{value:.8g}" for value in vector.tolist()) + "]"


_HELD = "select chunk_id, input_sha256, fingerprint, filename, byte_start, byte_end from chunk_vector"

# Own words carry weight A, words of the title and the neighbours weight B; a lexeme's frequency is A + neighbour_weight * B.
_UPSERT = """
insert into chunk_vector (user_id, chunk_id, fingerprint, document_sha256, filename, byte_start, byte_end, text, lexemes,
                          own_lexemes, near_lexemes, input_sha256, embedding)
select :user_id, :chunk_id, :fingerprint, :document_sha256, :filename, :byte_start, :byte_end, :text, entry.lexemes,
       (select coalesce(sum(cardinality(positions)), 0) from unnest(to_tsvector('english', :text))),
       (select coalesce(sum(cardinality(positions)), 0) from unnest(to_tsvector('english', :near))),
       :input_sha256, cast(:vector as vector)
from (select setweight(to_tsvector('english', :text), 'A') || setweight(to_tsvector('english', :near), 'B') as lexemes) entry
on conflict (user_id, chunk_id) do update set
    fingerprint = excluded.fingerprint, document_sha256 = excluded.document_sha256, filename = excluded.filename,
    byte_start = excluded.byte_start, byte_end = excluded.byte_end, text = excluded.text, lexemes = excluded.lexemes,
    own_lexemes = excluded.own_lexemes, near_lexemes = excluded.near_lexemes, input_sha256 = excluded.input_sha256,
    embedding = excluded.embedding
"""

_SEARCH = """
with asked as (
    select lexeme from unnest(to_tsvector('english', :question))
), tenant as (
    select chunk_id, lexemes, own_lexemes + :neighbour_weight * near_lexemes as length,
           1 - (embedding <=> cast(:vector as vector)) as cosine
    from chunk_vector
    where fingerprint = :fingerprint
), size as (
    select count(*) as chunks, greatest(avg(length), 1) as mean_length from tenant
), frequency as (
    select tenant.chunk_id, tenant.length, entry.lexeme,
           cardinality(array_positions(entry.weights, 'A'))
           + :neighbour_weight * cardinality(array_positions(entry.weights, 'B')) as times
    from tenant, unnest(tenant.lexemes) entry
    where entry.lexeme in (select lexeme from asked)
), rarity as (
    select lexeme, ln(1 + (chunks - count(*) + 0.5) / (count(*) + 0.5)) as weight
    from frequency, size where times > 0 group by lexeme, chunks
), keywords as (
    select frequency.chunk_id,
           sum(rarity.weight * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * length / mean_length))) as bm25
    from frequency join rarity using (lexeme), size
    group by frequency.chunk_id
), both_ranks as (
    select chunk_id, cosine, coalesce(bm25, 0) as bm25 from tenant left join keywords using (chunk_id)
), bounds as (
    select min(cosine) as low, max(cosine) as high, min(bm25) as least, max(bm25) as most from both_ranks
), best as (
    select chunk_id, cosine, bm25,
           (1 - :keyword_weight) * coalesce((cosine - low) / nullif(high - low, 0), 1)
           + :keyword_weight * coalesce((bm25 - least) / nullif(most - least, 0), 0) as score
    from both_ranks, bounds
    order by score desc, chunk_id
    limit :k
)
select best.*, document_sha256, filename, byte_start, byte_end, text
from best join chunk_vector using (chunk_id)
order by score desc, chunk_id
"""
