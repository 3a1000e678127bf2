"""Vectors: chunks of one tenant at a time, searched by words and by meaning.

Belongs here: the Protocol and its classes; a search that fuses BM25 and cosine. A tenant's entries belong to generations: a
release names the one it was built from, so that it can be served while the next is made, and again after a way back.
Does not belong here: which chunks fit a prompt (`recall/`) and making vectors (`embedder.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lpm_kernel.records import Chunk, Citation, content_id

if TYPE_CHECKING:
    import numpy as np
    from sqlalchemy import Connection

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
class HeldEntry:
    """An entry as it lies in the store, without its words and its vector; `text_sha256` is that of the words."""

    chunk_id: str
    document_sha256: str
    filename: str
    byte_start: int
    byte_end: int
    fingerprint: str
    input_sha256: str
    text_sha256: str
    generations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SyncCount:
    written: int
    kept: int
    deleted: int


class Vectors(Protocol):
    """What a vector store guarantees: a search sees one tenant's one generation of one model, and returns min(k, entries)
    hits."""

    def sync(self, user_id: str, generation: str, entries: Sequence[VectorEntry], fingerprint: str) -> SyncCount:
        """Make the generation hold exactly these entries; what other generations hold is shared, not written again. All or
        nothing, where the store has transactions; else what broke off is completed when it is sent again. In the count,
        `deleted` are those that left this generation."""
        ...

    def drop_generations(self, user_id: str, keep: Collection[str]) -> int:
        """Drop what is older than the newest of `keep` and not among them; the entries that are gone by it are counted.

        Why only older: what was synced after it may belong to a run that is still under way.
        """
        ...

    def forget_documents(self, user_id: str, sha256s: Collection[str]) -> int:
        """Drop the entries of these documents from every generation; how many there were."""
        ...

    def delete_user(self, user_id: str) -> None:
        """Everything of the user, of every generation and model. Idempotent; also of a user whom the tables do not know."""
        ...

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
        """Best first; ties in chunk id order, so that equal searches are equal. Documents that are `withheld` (sha256) are no
        candidates: not even a score tells of them."""
        ...

    def count(self, user_id: str, generation: str | None = None) -> int:
        """Entries of one generation, or of all together."""
        ...

    def list_entries(self, user_id: str) -> list[HeldEntry]:
        """Every entry of every generation and model, for who compares them with what they were made from."""
        ...


class PgVectors:
    """Vectors in the application's own PostgreSQL: exact cosine by pgvector and BM25F over text-search lexemes.

    Why exact: within one tenant a scan costs under a millisecond, while an HNSW index behind a tenant filter loses rows.
    Source: BM25F after Robertson and Zaragoza, k1 1.2, b 0.75, stemmed English lexemes of PostgreSQL; min-max fusion.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def sync(self, user_id: str, generation: str, entries: Sequence[VectorEntry], fingerprint: str) -> SyncCount:
        from sqlalchemy import text

        wanted = {_entry_id(entry, fingerprint): entry for entry in entries}
        with self._tables.transaction(user_id) as connection:
            # One sync of a tenant at a time: two of one generation would leave it with the entries of both.
            self._lock(connection, user_id)
            connection.execute(text(_TOUCH), {"user_id": user_id, "generation": generation})
            stored = {row.entry_id: row.held for row in connection.execute(text(_HELD), {"generation": generation})}
            gone = sorted(entry_id for entry_id, held in stored.items() if held and entry_id not in wanted)
            known = sorted(entry_id for entry_id in wanted if stored.get(entry_id) is False)
            fresh = {entry_id: entry for entry_id, entry in wanted.items() if entry_id not in stored}
            if gone:
                connection.execute(text(_LEAVE), {"generation": generation, "entry_ids": gone})
            if known:
                connection.execute(text(_JOIN), {"generation": generation, "entry_ids": known})
            if fresh:
                rows = [_parameters(user_id, generation, *item, fingerprint) for item in fresh.items()]
                connection.execute(text(_INSERT), rows)
            connection.execute(text(_DELETE_UNHELD))
        return SyncCount(written=len(fresh), kept=len(entries) - len(fresh), deleted=len(gone))

    def drop_generations(self, user_id: str, keep: Collection[str]) -> int:
        from sqlalchemy import text

        with self._tables.transaction(user_id) as connection:
            self._lock(connection, user_id)
            dropped = [row.generation for row in connection.execute(text(_DROP), {"keep": sorted(keep)})]
            if not dropped:
                return 0
            connection.execute(text(_LEAVE_ALL), {"dropped": dropped})
            return connection.execute(text(_DELETE_UNHELD)).rowcount

    def forget_documents(self, user_id: str, sha256s: Collection[str]) -> int:
        from sqlalchemy import text

        with self._tables.transaction(user_id) as connection:
            self._lock(connection, user_id)
            return connection.execute(text(_FORGET), {"sha256s": sorted(sha256s)}).rowcount

    def delete_user(self, user_id: str) -> None:
        from sqlalchemy import text

        with self._tables.transaction(user_id) as connection:
            self._lock(connection, user_id)
            connection.execute(text("delete from chunk_vector"))
            connection.execute(text("delete from memory_generation"))

    @staticmethod
    def _lock(connection: Connection, user_id: str) -> None:
        from sqlalchemy import text

        connection.execute(text("select pg_advisory_xact_lock(hashtext('vectors:' || :user_id))"), {"user_id": user_id})

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
        from sqlalchemy import text

        with self._tables.transaction(user_id) as connection:
            rows = connection.execute(
                text(_SEARCH),
                {
                    "generation": generation,
                    "question": question,
                    "vector": _literal(vector),
                    "fingerprint": fingerprint,
                    "k": k,
                    "keyword_weight": keyword_weight,
                    "neighbour_weight": neighbour_weight,
                    "withheld": sorted(withheld),
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

    def count(self, user_id: str, generation: str | None = None) -> int:
        from sqlalchemy import text

        with self._tables.transaction(user_id) as connection:
            return int(connection.execute(text(_COUNT), {"generation": generation}).scalar_one())

    def list_entries(self, user_id: str) -> list[HeldEntry]:
        from sqlalchemy import text

        with self._tables.transaction(user_id) as connection:
            rows = connection.execute(text(_ENTRIES)).all()
        return [HeldEntry(**{**row._mapping, "generations": tuple(row.generations)}) for row in rows]


def _entry_id(entry: VectorEntry, fingerprint: str) -> str:
    """Equal for entries that are searched and cited alike, whichever generation they belong to."""
    chunk = entry.chunk
    return content_id(chunk.chunk_id, entry.input_sha256, fingerprint, chunk.filename, chunk.byte_start, chunk.byte_end)


def _parameters(user_id: str, generation: str, entry_id: str, entry: VectorEntry, fingerprint: str) -> dict[str, object]:
    return {
        "user_id": user_id,
        "entry_id": entry_id,
        "generation": generation,
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


def _literal(vector: np.ndarray) -> str:
    return "[" + ",".join(f"{value:.8g}" for value in vector.tolist()) + "]"


_TOUCH = """
insert into memory_generation (user_id, generation, synced_at) values (:user_id, :generation, clock_timestamp())
on conflict (user_id, generation) do update set synced_at = excluded.synced_at, transaction_id = default
"""

_HELD = "select entry_id, :generation = any(generations) as held from chunk_vector"
_JOIN = "update chunk_vector set generations = generations || cast(:generation as text) where entry_id = any(:entry_ids)"
_LEAVE = """
update chunk_vector set generations = array_remove(generations, cast(:generation as text)) where entry_id = any(:entry_ids)
"""
_LEAVE_ALL = """
update chunk_vector set generations = array(select unnest(generations) except select unnest(cast(:dropped as text[])))
where generations && cast(:dropped as text[])
"""
_DELETE_UNHELD = "delete from chunk_vector where generations = '{}'"
_FORGET = "delete from chunk_vector where document_sha256 = any(:sha256s)"
_DROP = """
delete from memory_generation
where generation <> all(cast(:keep as text[]))
  and synced_at < (select max(synced_at) from memory_generation where generation = any(cast(:keep as text[])))
returning generation
"""
_ENTRIES = """
select chunk_id, document_sha256, filename, byte_start, byte_end, fingerprint, input_sha256,
       encode(sha256(convert_to(text, 'UTF8')), 'hex') as text_sha256, generations
from chunk_vector order by chunk_id, entry_id
"""
_COUNT = "select count(*) from chunk_vector where cast(:generation as text) is null or :generation = any(generations)"

# Own words carry weight A, words of the title and the neighbours weight B; a lexeme's frequency is A + neighbour_weight * B.
_INSERT = """
insert into chunk_vector (user_id, entry_id, generations, chunk_id, fingerprint, document_sha256, filename, byte_start,
                          byte_end, text, lexemes, own_lexemes, near_lexemes, input_sha256, embedding)
select :user_id, :entry_id, array[cast(:generation as text)], :chunk_id, :fingerprint, :document_sha256, :filename,
       :byte_start, :byte_end, :text, entry.lexemes,
       (select coalesce(sum(cardinality(positions)), 0) from unnest(to_tsvector('english', :text))),
       (select coalesce(sum(cardinality(positions)), 0) from unnest(to_tsvector('english', :near))),
       :input_sha256, cast(:vector as vector)
from (select setweight(to_tsvector('english', :text), 'A') || setweight(to_tsvector('english', :near), 'B') as lexemes) entry
"""

# Materialized: what the planner writes into the query in their place is computed anew for each row.
_SEARCH = """
with asked as (
    select lexeme from unnest(to_tsvector('english', :question))
), tenant as materialized (
    select entry_id, chunk_id, lexemes, own_lexemes + :neighbour_weight * near_lexemes as length,
           1 - (embedding <=> cast(:vector as vector)) as cosine
    from chunk_vector
    where :generation = any(generations) and fingerprint = :fingerprint
      and document_sha256 <> all(cast(:withheld as text[]))
), size as (
    select count(*) as chunks, greatest(avg(length), 1) as mean_length from tenant
), frequency as (
    select tenant.entry_id, tenant.length, entry.lexeme,
           cardinality(array_positions(entry.weights, 'A'))
           + :neighbour_weight * cardinality(array_positions(entry.weights, 'B')) as times
    from tenant, unnest(tenant.lexemes) entry
    where entry.lexeme in (select lexeme from asked)
), rarity as materialized (
    select lexeme, ln(1 + (chunks - count(*) + 0.5) / (count(*) + 0.5)) as weight
    from frequency, size where times > 0 group by lexeme, chunks
), keywords as materialized (
    select frequency.entry_id,
           sum(rarity.weight * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * length / mean_length))) as bm25
    from frequency join rarity using (lexeme), size
    group by frequency.entry_id
), both_ranks as (
    select entry_id, chunk_id, cosine, coalesce(bm25, 0) as bm25 from tenant left join keywords using (entry_id)
), bounds as materialized (
    select min(cosine) as low, max(cosine) as high, min(bm25) as least, max(bm25) as most from both_ranks
), best as (
    select entry_id, cosine, bm25,
           (1 - :keyword_weight) * coalesce((cosine - low) / nullif(high - low, 0), 1)
           + :keyword_weight * coalesce((bm25 - least) / nullif(most - least, 0), 0) as score
    from both_ranks, bounds
    order by score desc, chunk_id
    limit :k
)
select best.*, chunk_id, document_sha256, filename, byte_start, byte_end, text
from best join chunk_vector using (entry_id)
order by score desc, chunk_id
"""
