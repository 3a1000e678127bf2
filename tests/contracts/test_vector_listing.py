"""What every vector store tells of all that it holds for one tenant."""

from __future__ import annotations

from collections.abc import Callable

from lpm_kernel.records import sha256_hex
from lpm_kernel.stores.vectors import Vectors
from tests.contracts.vector_stores import EMBEDDER, G
from tests.samples import make_entries

TEXTS = ["red cat sleeps", "green dog barks", "blue bird sings loudly"]


def test_every_entry_can_be_listed_with_what_it_belongs_to(vectors: Vectors, new_tenant: Callable[[], str]) -> None:
    tenant, other = new_tenant(), new_tenant()
    entries = make_entries(tenant, TEXTS, EMBEDDER)
    vectors.sync(other, G, make_entries(other, ["nobody else's"], EMBEDDER), EMBEDDER.fingerprint)
    vectors.sync(tenant, G, entries[:2], EMBEDDER.fingerprint)
    vectors.sync(tenant, "h", entries[1:], EMBEDDER.fingerprint)
    held = {entry.chunk_id: entry for entry in vectors.list_entries(tenant)}
    assert {chunk_id: set(entry.generations) for chunk_id, entry in held.items()} == {
        entries[0].chunk.chunk_id: {G},
        entries[1].chunk.chunk_id: {G, "h"},
        entries[2].chunk.chunk_id: {"h"},
    }
    for entry in entries:
        chunk, found = entry.chunk, held[entry.chunk.chunk_id]
        assert (found.document_sha256, found.filename) == (chunk.document_sha256, chunk.filename)
        assert (found.byte_start, found.byte_end) == (chunk.byte_start, chunk.byte_end)
        assert (found.fingerprint, found.input_sha256) == (EMBEDDER.fingerprint, entry.input_sha256)
        assert found.text_sha256 == sha256_hex(entry.text.encode())
    vectors.sync(tenant, "h", [], EMBEDDER.fingerprint)
    assert vectors.list_entries(new_tenant()) == []
