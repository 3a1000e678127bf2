"""The demo people, taken in and searchable, for benchmarks that need somebody's memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from lpm_kernel.L0.embed import ChunkText, chunk_texts, embed_chunks, generation_of, vector_entries
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.L0.library import chunk_documents, fetch_texts, read_documents
from lpm_kernel.L2.golden import parse_golden
from lpm_kernel.L2.records import GoldenSet
from lpm_kernel.records import EmbeddingTable, User
from lpm_kernel.stores.open import Stores

DATA = Path(__file__).resolve().parent.parent / "data"


@dataclass(frozen=True)
class Person:
    user: User
    items: list[ChunkText]
    table: EmbeddingTable
    golden: GoldenSet

    @property
    def generation(self) -> str:
        return generation_of(self.table)


def take_in(stores: Stores, user_id: str, person: str | None = None) -> Person:
    """Read, cut, embed and index the documents of one demo person. Idempotent. `person`: who, under another user's id."""
    about = yaml.safe_load((DATA / "users" / "people.yaml").read_text(encoding="utf-8"))[person or user_id]
    for path in sorted((DATA / about["documents"]).iterdir()):
        receive_document(stores.tables, stores.blobs, stores.settings.limits, user_id, path.name, path.read_bytes())
    documents, _ = read_documents(stores.tables, stores.blobs, stores.settings.limits, user_id, silent)
    chunks, _ = chunk_documents(documents, stores.blobs, stores.settings.chunking, [])
    items = chunk_texts(chunks, fetch_texts(chunks, stores.blobs))
    table, _ = embed_chunks(items, stores.embedder, None, silent)
    stores.vectors.sync(user_id, generation_of(table), vector_entries(items, table), table.fingerprint)
    return Person(User(user_id, about["name"]), items, table, parse_golden((DATA / about["golden"]).read_bytes()))


def silent(share: float, words: str) -> None:
    """Progress that nobody watches."""
