"""What the stores of memory hold of one user: the search store, Mem0 and the temporal graph, each beside what its stage left.

Belongs here: those inventories.
Does not belong here: what of it is wrong (`decide_vectors.py`, `decide_memories.py`, `decide_graph.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from lpm_kernel.artefacts import decode_records, decode_table, read_previous
from lpm_kernel.L0.embed import generation_of
from lpm_kernel.reconcile.decide_vectors import name_of_held
from lpm_kernel.reconcile.inventory import (
    GraphInventory,
    HeldFact,
    HeldMemory,
    MemoryInventory,
    Truth,
    VectorInventory,
    WantedChunk,
    WantedGeneration,
)
from lpm_kernel.records import Chunk, EmbeddingTable, Fact, Memory
from lpm_kernel.stores.blobs import Blobs
from lpm_kernel.stores.graphiti_clients import fact_id
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.reconciliation import places_of_names, version_of_memories

ABOUT_DOCUMENTS = ("AUTHORED", "MENTIONS")
ABOUT_RELEASES = ("HAS_TWIN", "CHATTED")


def read_vectors(stores: Stores, truth: Truth) -> VectorInventory:
    """Every entry, and the generations that the live release and the newest build name. Raises: StoreError."""
    user_id = truth.user_id
    table, chunks = newest_table(stores.blobs, user_id), newest_chunks(stores.blobs, user_id)
    entries = tuple(stores.vectors.list_entries(user_id))
    wanted: dict[str, str] = {}
    if truth.live is not None:
        wanted[truth.live.memory_generation] = truth.live.fingerprint
    if table is not None:
        wanted[generation_of(table)] = table.fingerprint
    with stores.tables.transaction(user_id) as connection:
        place_of_name = places_of_names(connection, {entry.filename for entry in entries})
    return VectorInventory(
        entries,
        tuple(
            WantedGeneration(
                generation,
                fingerprint,
                name_of_held([entry for entry in entries if generation in entry.generations], place_of_name),
                *_chunks_of(generation, table, chunks),
                documents=truth.live.documents if truth.live and truth.live.memory_generation == generation else None,
            )
            for generation, fingerprint in wanted.items()
        ),
    )


def _chunks_of(
    generation: str, table: EmbeddingTable | None, chunks: Mapping[str, Chunk]
) -> tuple[dict[str, WantedChunk] | None, bool]:
    """What a generation holds, and whether it can be written anew; nobody knows of one that is not the newest build."""
    if table is None or generation_of(table) != generation:
        return None, False
    known = {chunk_id: chunks.get(chunk_id) for chunk_id in table.chunk_ids}
    wanted = {
        chunk_id: WantedChunk(chunk.document_sha256, chunk.text_sha256) if chunk else WantedChunk(None, None)
        for chunk_id, chunk in known.items()
    }
    return wanted, all(chunk is not None for chunk in known.values())


def newest_table(blobs: Blobs, user_id: str) -> EmbeddingTable | None:
    return read_previous(blobs, user_id, "embeddings", "parquet", decode_table)


def newest_chunks(blobs: Blobs, user_id: str) -> dict[str, Chunk]:
    rows = read_previous(blobs, user_id, "chunks", "jsonl", lambda data: decode_records(data, Chunk)) or []
    return {chunk.chunk_id: chunk for chunk in rows}


def read_memories(stores: Stores, truth: Truth, today: date) -> MemoryInventory:
    """Raises: StoreError."""
    user_id, versioned = truth.user_id, stores.settings.stores_in.memories == "embedded"
    with stores.tables.transaction(user_id) as connection:
        version = version_of_memories(connection, user_id) if versioned else None
    held = tuple(to_held_memory(memory) for memory in stores.memories.every(user_id))
    said = expected_memories(stores.blobs, user_id)
    lasting = [memory for memory in said if memory.expiration_date is None or memory.expiration_date >= today]
    return MemoryInventory(held, tuple(to_held_memory(memory) for memory in lasting), version, versioned)


def expected_memories(blobs: Blobs, user_id: str) -> list[Memory]:
    """What documents said when memory was last made from them."""
    return read_previous(blobs, user_id, "memories", "jsonl", lambda data: decode_records(data, Memory)) or []


def to_held_memory(memory: Memory) -> HeldMemory:
    cites = (memory.citation or "").partition(":")[0] or None
    said_in = memory.session_id if memory.source == "chat" else None
    return HeldMemory(memory.memory_id, cites, said_in, memory.expiration_date)


def read_graph(stores: Stores, truth: Truth) -> GraphInventory:
    """Raises: StoreError."""
    held = stores.graph.list_facts(truth.user_id, {*ABOUT_DOCUMENTS, *ABOUT_RELEASES})
    expected = expected_facts(stores.blobs, truth.user_id)
    return GraphInventory(tuple(map(to_held_fact, held)), tuple(map(to_held_fact, expected)))


def expected_facts(blobs: Blobs, user_id: str) -> list[Fact]:
    """What was known when the graph was last made to hold it."""
    return read_previous(blobs, user_id, "memory_graph", "jsonl", lambda data: decode_records(data, Fact)) or []


def to_held_fact(fact: Fact) -> HeldFact:
    ends = (fact.subject, fact.object)
    documents = {end.name for end in ends if end.kind == "Document" and fact.relation in ABOUT_DOCUMENTS}
    releases = {end.name for end in ends if end.kind == "DigitalTwin" and fact.relation in ABOUT_RELEASES}
    return HeldFact(fact_id(fact), frozenset(documents), frozenset(releases))
