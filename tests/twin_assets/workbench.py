"""One user's artefacts as the stages would leave them, in stores of memory: what the tests of checks look at.

Belongs here: the bench and what lies on it.
Does not belong here: tests (a file a layer beside this one).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import dagster as dg

from lpm_kernel.L0.embed import ChunkText, embed_chunks, generation_of, vector_entries
from lpm_kernel.layout import text_key
from lpm_kernel.records import (
    Chunk,
    Document,
    EmbeddingTable,
)
from lpm_kernel.settings import Settings
from tests.fakes import FakeEmbedder, MemoryBlobs, MemoryVectors, no_progress
from tests.samples import make_document, make_items

USER = "1"
NOTES = {
    "diary.md": "Our one-eyed cat is called Pilchard.\n\nThe sea at Clevedon was 5.8 °C and I stayed in for four minutes.\n",
    "letter.txt": "Dear Col, the band plays in Victoria Park on Sunday, and I have the cornet part.\n",
}


def body(check: Any) -> Callable[..., dg.AssetCheckResult]:
    """The function under Dagster's decorator."""
    return check.node_def.compute_fn.decorated_fn


@dataclass
class Workbench:
    """One user's artefacts as the stages would leave them, in stores of memory."""

    settings: Settings
    documents: list[Document]
    items: list[ChunkText]
    table: EmbeddingTable
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    vectors: MemoryVectors = field(default_factory=MemoryVectors)
    embedder: FakeEmbedder = field(default_factory=FakeEmbedder)

    @property
    def chunks(self) -> list[Chunk]:
        return [item.chunk for item in self.items]

    def passes(self, check: Any, *, stores: bool = True, **inputs: Any) -> bool:
        context = SimpleNamespace(partition_key=USER, retry_number=0)
        resources = {"stores": SimpleNamespace(stores=self)} if stores else {}
        return bool(body(check)(context, **resources, **inputs).passed)


def lay_out(settings: Settings) -> Workbench:
    items = make_items(USER, NOTES, 24)
    documents = [make_document(USER, name, text.encode(), "read") for name, text in NOTES.items()]
    table, _ = embed_chunks(items, FakeEmbedder(), None, no_progress)
    bench = Workbench(settings, documents, items, table)
    for document in documents:
        bench.blobs.put(text_key(USER, document.sha256), NOTES[document.filename].encode())
    bench.vectors.sync(USER, generation_of(table), vector_entries(items, table), table.fingerprint)
    return bench
