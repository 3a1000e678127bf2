"""Chunks to vectors: what is embedded for a chunk, and doing it only once.

Belongs here: the text that stands for a chunk in a search, and reuse of vectors of the table before.
Does not belong here: the model (`stores/embedder.py`) and where vectors are searched (`stores/vectors.py`).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from lpm_kernel.L0.duplicates import same_words_key
from lpm_kernel.records import Chunk, EmbeddingTable, content_id, sha256_hex
from lpm_kernel.stores.compute import Progress
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.stores.vectors import VectorEntry

if TYPE_CHECKING:
    import numpy as np

PROGRESS_EVERY = 64


@dataclass(frozen=True, slots=True)
class ChunkText:
    """A chunk with its words and with the words around it."""

    chunk: Chunk
    text: str
    near: str
    """The document's title and the chunks before and after."""

    @property
    def input(self) -> str:
        """What the embedding model reads. Why the title: "diary 2025 02" tells apart what two months say nearly alike."""
        return f"{title_of(self.chunk.filename)}: {self.text.strip()}"


@dataclass(frozen=True, slots=True)
class EmbedCount:
    embedded: int
    reused: int
    """All others: embedded before, or the same words as another chunk."""
    same_words: int = 0
    """Chunks that have the vector of another chunk, which says the same."""


def title_of(filename: str) -> str:
    return PurePosixPath(filename).stem.replace("-", " ").replace("_", " ")


def chunk_texts(chunks: Sequence[Chunk], texts: Mapping[str, bytes]) -> list[ChunkText]:
    """Join chunks with the words they point to; `texts` holds the stored text of each document by its sha256."""
    result: list[ChunkText] = []
    for sha256, group in groupby(chunks, key=lambda chunk: chunk.document_sha256):
        members = list(group)
        words = [texts[sha256][chunk.byte_start : chunk.byte_end].decode() for chunk in members]
        for i, chunk in enumerate(members):
            near = " ".join([title_of(chunk.filename), *words[max(0, i - 1) : i], *words[i + 1 : i + 2]])
            result.append(ChunkText(chunk, words[i], near))
    return result


def embed_chunks(
    items: Sequence[ChunkText], embedder: Embedder, previous: EmbeddingTable | None, progress: Progress
) -> tuple[EmbeddingTable, EmbedCount]:
    """Turn chunks into unit vectors, in chunk order, taking from `previous` what was embedded before by the same model.

    Chunks of the same words have one vector, under the title of the one that was embedded first: nothing is embedded twice,
    and a search that finds them knows by their equal `input_sha256` that it found one line.
    Shapes: vectors float32 (len(items), embedder.dim), L2 norm 1 ± 1e-3.
    Raises: LlmError when the model fails; UserInputError on a chunk without words.
    """
    import numpy as np

    known: dict[str, np.ndarray] = {}
    if previous is not None and previous.fingerprint == embedder.fingerprint:
        known = dict(zip(previous.input_sha256s, previous.vectors, strict=True))
    chosen = _one_input_for_the_same_words(items, known)
    inputs = [sha256_hex(text.encode()) for text in chosen]
    missing = {sha: text for sha, text in zip(inputs, chosen, strict=True) if sha not in known}
    todo = sorted(missing.items(), key=lambda item: len(item[1]))  # texts of one length make the cheapest batches
    for first in range(0, len(todo), PROGRESS_EVERY):
        batch = todo[first : first + PROGRESS_EVERY]
        known.update(zip((sha for sha, _ in batch), embedder.embed([text for _, text in batch]), strict=True))
        progress(min(1.0, (first + len(batch)) / len(todo)), f"{first + len(batch)} of {len(todo)} chunks embedded")
    table = EmbeddingTable(
        chunk_ids=tuple(item.chunk.chunk_id for item in items),
        input_sha256s=tuple(inputs),
        vectors=np.array([known[sha] for sha in inputs], dtype=np.float32).reshape(len(items), embedder.dim),
        fingerprint=embedder.fingerprint,
    )
    same_words = len(items) - len(set(inputs))
    return table, EmbedCount(embedded=len(todo), reused=len(items) - len(todo), same_words=same_words)


def _one_input_for_the_same_words(items: Sequence[ChunkText], known: Container[str]) -> list[str]:
    """What is embedded for each chunk: of those with the same words, what was embedded before, else the first."""
    inputs = [item.input for item in items]
    keys = [same_words_key(item.text) for item in items]
    first: dict[str, str] = {}
    embedded: dict[str, str] = {}
    for key, text in zip(keys, inputs, strict=True):
        first.setdefault(key, text)
        if key not in embedded and sha256_hex(text.encode()) in known:
            embedded[key] = text
    return [embedded.get(key, first[key]) for key in keys]


def generation_of(table: EmbeddingTable) -> str:
    """The name under which this very table is searched; a release keeps it."""
    return content_id(table.fingerprint, *table.chunk_ids, *table.input_sha256s)[:32]


def vector_entries(items: Sequence[ChunkText], table: EmbeddingTable) -> list[VectorEntry]:
    return [
        VectorEntry(item.chunk, item.text, item.near, sha, vector)
        for item, sha, vector in zip(items, table.input_sha256s, table.vectors, strict=True)
    ]
