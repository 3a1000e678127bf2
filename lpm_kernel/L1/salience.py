"""Salience: how much a chunk counts beside the others of the same person. No language model, no clock.

    salience = min(1, weight × trust × (recency + recurrence) / 2)

    recency      ½ ^ (days before the newest / half-life); UNDATED where nobody knows when it was written
    recurrence   mean of two shares of the person's other documents, each log(1 + n) / log(documents): those that name the
                 most recurring thing the chunk names, and those that mean the like of it somewhere
    trust        of the source; 0 for what the twin wrote
    weight       what somebody set by hand, where the caller knows of any; 1 for all others

Belongs here: the number and its parts.
Does not belong here: who uses it (training rows, communities, recall).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

from lpm_kernel.errors import RetrievalError
from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L1.dates import date_of_title, first_day
from lpm_kernel.L1.records import ChunkSalience
from lpm_kernel.L1.sentences import read_sentences
from lpm_kernel.L1.topics import check_table, not_just_once
from lpm_kernel.records import Document, EmbeddingTable, Entity, Source
from lpm_kernel.settings import SalienceSettings
from lpm_kernel.stores.ner import NUMERIC

if TYPE_CHECKING:
    import numpy as np

TRUST: dict[Source, float] = {"upload": 1.0, "telegram": 0.8, "x": 0.7, "chat": 0.6}
UNDATED = 0.5
BATCH = 512


def score_salience(
    documents: Sequence[Document],
    items: Sequence[ChunkText],
    table: EmbeddingTable,
    entities: Sequence[Entity],
    salience: SalienceSettings,
    *,
    weights: Mapping[str, float] | None = None,
    now: date | None = None,
) -> list[ChunkSalience]:
    """One a chunk, in chunk order. `weights` by chunk id.

    Why `now` is by default the newest date that something was written on: equal documents then give equal numbers on any day.
    Why the day of an upload is no date: it tells when a file was sent. The same files sent a day later are the same person.
    Deterministic. Raises: RetrievalError `embeddings_do_not_match`, `documents_do_not_match`.
    """
    check_table(items, table)
    by_sha = documents_of(items, documents)
    own = {sha for sha, document in by_sha.items() if document.created_by == "user"}
    written = _written(items, by_sha)
    mine = [day for item in items if item.chunk.document_sha256 in own and (day := written[item.chunk.chunk_id])]
    newest = now or max((first_day(day) for day in mine), default=None)
    recurrence = _recurrence(items, table, entities, own, salience.same_meaning)
    scored: list[ChunkSalience] = []
    for item, recurring in zip(items, recurrence, strict=True):
        chunk_id, document = item.chunk.chunk_id, by_sha[item.chunk.document_sha256]
        trust = TRUST[document.source] if document.created_by == "user" else 0.0
        day, weight = written[chunk_id], (weights or {}).get(chunk_id, 1.0)
        recency = UNDATED
        if day and newest:
            recency = 0.5 ** (max(0, (newest - first_day(day)).days) / salience.half_life_days)
        value = min(1.0, weight * trust * (recency + recurring) / 2)
        scored.append(
            ChunkSalience(chunk_id, day, round(recency, 6), round(recurring, 6), trust, weight, round(max(0.0, value), 6))
        )
    return scored


def documents_of(items: Sequence[ChunkText], documents: Sequence[Document]) -> dict[str, Document]:
    """Documents by sha256. Raises: RetrievalError `documents_do_not_match` when a chunk is of none of them."""
    by_sha = {document.sha256: document for document in documents}
    if any(item.chunk.document_sha256 not in by_sha for item in items):
        raise RetrievalError("documents_do_not_match", "there are chunks of other documents: materialize `chunks` first")
    return by_sha


def unscored_chunks(scored: Sequence[ChunkSalience], chunk_ids: Sequence[str]) -> list[str]:
    """Chunks without just one number from 0 to 1."""
    return not_just_once((row.chunk_id for row in scored if 0 <= row.salience <= 1), chunk_ids)


def _written(items: Sequence[ChunkText], by_sha: Mapping[str, Document]) -> dict[str, str | None]:
    """The day, month or year each chunk was written on: the newest date its sentences stand under, else that of the chunk
    before. Of a message it is when it was sent. A date after the document came in is not when it was written."""
    under: dict[str, list[str]] = defaultdict(list)
    for sentence in read_sentences(items, list(by_sha.values())):
        if sentence.written:
            under[sentence.citation.chunk_id].append(sentence.written)
    written: dict[str, str | None] = {}
    last: dict[str, str | None] = {}
    for item in items:
        document = by_sha[item.chunk.document_sha256]
        if document.source != "upload":
            last[document.sha256] = document.created_at.date().isoformat()
        elif dates := under[item.chunk.chunk_id]:
            last[document.sha256] = max(dates)
        elif document.sha256 not in last:
            titled = date_of_title(item.chunk.filename)
            last[document.sha256] = titled if titled and first_day(titled) <= document.created_at.date() else None
        written[item.chunk.chunk_id] = last[document.sha256]
    return written


def _recurrence(
    items: Sequence[ChunkText], table: EmbeddingTable, entities: Sequence[Entity], own: set[str], same_meaning: float
) -> list[float]:
    import numpy as np

    if len(own) < 2:
        return [0.0] * len(items)
    named = _others_that_name(items, entities, own)
    meant = _others_that_mean(items, table.vectors, own, same_meaning)
    share = np.log1p(np.array([named, meant])) / np.log(len(own))
    return np.minimum(1.0, share).mean(axis=0).tolist()


def _others_that_name(items: Sequence[ChunkText], entities: Sequence[Entity], own: set[str]) -> list[int]:
    """Of each chunk how many other documents name the most recurring thing it names; numbers and dates name nothing."""
    best: dict[str, int] = defaultdict(int)
    for entity in entities:
        if entity.type not in NUMERIC:
            named_in = {mention.document_sha256 for mention in entity.mentions} & own
            for mention in entity.mentions:
                others = len(named_in - {mention.document_sha256})
                best[mention.chunk_id] = max(best[mention.chunk_id], others)
    return [best[item.chunk.chunk_id] for item in items]


def _others_that_mean(items: Sequence[ChunkText], vectors: np.ndarray, own: set[str], same_meaning: float) -> list[int]:
    """Of each chunk how many other documents hold a chunk that is as near as `same_meaning`."""
    import numpy as np

    numbers = {sha: number for number, sha in enumerate(sorted(own))}
    document = np.array([numbers.get(item.chunk.document_sha256, -1) for item in items])
    counted = np.flatnonzero(document >= 0)
    if not len(counted):
        return [0] * len(items)
    counted = counted[np.argsort(document[counted], kind="stable")]
    starts = np.flatnonzero(np.diff(document[counted], prepend=-1))
    of_column = document[counted][starts]
    found: list[int] = []
    for first in range(0, len(items), BATCH):
        cosines = vectors[first : first + BATCH] @ vectors[counted].T
        near = np.maximum.reduceat(cosines, starts, axis=1) >= same_meaning
        near &= of_column[None, :] != document[first : first + BATCH, None]
        found.extend(near.sum(axis=1).tolist())
    return found
