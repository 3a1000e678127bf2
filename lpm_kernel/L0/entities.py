"""Chunks to entities: every mention at its exact bytes, extracted once, and the spellings of one thing brought together.

Belongs here: the pass over a user's chunks, what is reused, and which mentions are of one entity.
Does not belong here: finding mentions in a text (`stores/ner.py`) and what a corpus says about a name (`names.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lpm_kernel.errors import NerError
from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L0.linking import link_mentions
from lpm_kernel.L0.names import NAMES_VERSION, apply_names, learn_names
from lpm_kernel.records import Chunk, Entity, Mention
from lpm_kernel.stores.compute import Progress
from lpm_kernel.stores.ner import Ner, Span

PROGRESS_EVERY = 64


@dataclass(frozen=True, slots=True)
class ChunkMentions:
    """What an extractor said of one chunk: kept beside the entities, so that an unchanged chunk is not read again."""

    chunk_id: str
    recipe: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class ExtractionFailure:
    """A chunk that an extractor could not read, and why. It is read again the next time."""

    chunk_id: str
    filename: str
    byte_start: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class EntityCount:
    chunks_extracted: int
    chunks_reused: int
    documents_extracted: int
    documents_reused: int
    failures: tuple[ExtractionFailure, ...]
    fallbacks: tuple[ExtractionFailure, ...]
    """Chunks that another extractor had to read, and why. The first one is asked again the next time."""
    unplaced: int
    """What an extractor named that does not stand in the chunk."""


def extract_entities(
    items: Sequence[ChunkText], ner: Ner, previous: Sequence[ChunkMentions], progress: Progress
) -> tuple[list[Entity], list[ChunkMentions], EntityCount]:
    """Find what the chunks name and link it over all documents; a chunk read before by the same extractor is not read again.

    Idempotent: ids come from content; the order of documents does not matter.
    Raises: NerError `nothing_extracted` when not one chunk could be read, or what the extractor raises for all of them.
    """
    recipe = ner.fingerprint  # what a second extractor had to read has another one, and is read again
    known = {row.chunk_id: row for row in previous if row.recipe == recipe}
    missing = [item for item in items if item.chunk.chunk_id not in known]
    failures: list[ExtractionFailure] = []
    fallbacks: list[ExtractionFailure] = []
    unplaced = 0
    for first in range(0, len(missing), PROGRESS_EVERY):
        batch = missing[first : first + PROGRESS_EVERY]
        results = ner.extract([item.text for item in batch])
        for item, result in zip(batch, results, strict=True):
            # Joined by the chunk itself, at once: a failure can drop or move nobody else's mentions.
            if isinstance(result, NerError):
                failures.append(_failure(item.chunk, result))
                continue
            known[item.chunk.chunk_id] = ChunkMentions(item.chunk.chunk_id, result.recipe, result.spans)
            unplaced += result.unplaced
            if result.instead_of:
                fallbacks.append(_failure(item.chunk, result.instead_of))
        progress(min(1.0, (first + len(batch)) / len(missing)), f"{first + len(batch)} of {len(missing)} chunks read for names")
    if items and len(failures) == len(items):
        raise NerError("nothing_extracted", f"names could be found in none of {len(items)} chunks: {failures[0].reason}")
    read = [item for item in items if item.chunk.chunk_id in known]
    rows = [known[item.chunk.chunk_id] for item in read]
    names = learn_names([item.text for item in read], [row.spans for row in rows])
    mentions = [
        _mention(item.chunk, span)
        for item, row in zip(read, rows, strict=True)
        for span in apply_names(item.text, row.spans, names)
    ]
    touched = {item.chunk.document_sha256 for item in missing}
    count = EntityCount(
        chunks_extracted=len(missing) - len(failures),
        chunks_reused=len(items) - len(missing),
        documents_extracted=len(touched),
        documents_reused=len({item.chunk.document_sha256 for item in items} - touched),
        failures=tuple(failures),
        fallbacks=tuple(fallbacks),
        unplaced=unplaced,
    )
    user_id = items[0].chunk.user_id if items else ""
    return link_mentions(user_id, mentions), rows, count


def misplaced_mentions(entities: Sequence[Entity], items: Sequence[ChunkText]) -> list[str]:
    """Mentions whose bytes are not their words or not in their chunk, as `entity: text`."""
    by_id = {item.chunk.chunk_id: item for item in items}
    wrong: list[str] = []
    for entity in entities:
        for mention in entity.mentions:
            item = by_id.get(mention.chunk_id)
            if item is None or item.chunk.document_sha256 != mention.document_sha256:
                wrong.append(f"{entity.name}: {mention.text}")
                continue
            start, end = mention.byte_start - item.chunk.byte_start, mention.byte_end - item.chunk.byte_start
            data = item.text.encode()
            if not (0 <= start < end <= len(data)) or data[start:end] != mention.text.encode():
                wrong.append(f"{entity.name}: {mention.text}")
    return wrong


def overlapping_mentions(entities: Sequence[Entity]) -> list[str]:
    """Mentions that share bytes with another one: a word is the name of one thing."""
    placed = sorted((m.document_sha256, m.byte_start, m.byte_end, m.text) for entity in entities for m in entity.mentions)
    return [later[3] for i, later in enumerate(placed[1:]) if placed[i][0] == later[0] and later[1] < placed[i][2]]


def extraction_recipe(ner: Ner) -> str:
    """Two sets of entities over the same chunks are equal when their recipes are."""
    return f"{ner.fingerprint}/names-{NAMES_VERSION}"


def _mention(chunk: Chunk, span: Span) -> tuple[str, Mention]:
    return span.type, Mention(
        document_sha256=chunk.document_sha256,
        chunk_id=chunk.chunk_id,
        byte_start=chunk.byte_start + span.byte_start,
        byte_end=chunk.byte_start + span.byte_end,
        text=span.text,
        extractor=span.extractor,
        confidence=span.confidence,
    )


def _failure(chunk: Chunk, error: NerError) -> ExtractionFailure:
    return ExtractionFailure(chunk.chunk_id, chunk.filename, chunk.byte_start, error.code, error.message)
