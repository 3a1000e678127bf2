"""L0 claims: about documents, chunks, vectors, entities and voice.

Belongs here: one check a claim about memory as it was written, named as the claim; those that block say so.
Does not belong here: repairing anything.
"""

import dagster as dg

from lpm_kernel.L0.embed import chunk_texts, generation_of
from lpm_kernel.L0.entities import misplaced_mentions, overlapping_mentions
from lpm_kernel.L0.library import fetch_texts
from lpm_kernel.L0.preferences import find_foreign_preferences
from lpm_kernel.layout import text_key
from lpm_kernel.records import Chunk, Document, EmbeddingTable, Entity, VoiceProfile, sha256_hex
from lpm_kernel.stores.blobs import TenantBlobs
from twin_assets.assets import l0_memory
from twin_assets.checks.claim import claim
from twin_assets.resources import StoresResource


@claim(l0_memory.chunks, reads=["raw_documents"])
def chunks_cover_every_byte(
    context: dg.AssetCheckExecutionContext, stores: StoresResource, chunks: list[Chunk], raw_documents: list[Document]
) -> dg.AssetCheckResult:
    """The chunks of each document follow each other from its first byte to its last, each with the hash it should have."""
    blobs = TenantBlobs(stores.stores.blobs, context.partition_key)
    broken: list[str] = []
    for document in raw_documents:
        text = blobs.get(text_key(document.user_id, document.sha256))
        own = [chunk for chunk in chunks if chunk.document_sha256 == document.sha256]
        edges = [0, *(chunk.byte_end for chunk in own)]
        whole = edges[-1] == len(text) and all(chunk.byte_start == edge for chunk, edge in zip(own, edges, strict=False))
        exact = all(sha256_hex(text[chunk.byte_start : chunk.byte_end]) == chunk.text_sha256 for chunk in own)
        if not (whole and exact):
            broken.append(document.filename)
    return dg.AssetCheckResult(passed=not broken, metadata={"documents": len(raw_documents), "broken": broken})


@claim(l0_memory.embeddings)
def vectors_are_unit_and_searchable(
    context: dg.AssetCheckExecutionContext, stores: StoresResource, embeddings: EmbeddingTable
) -> dg.AssetCheckResult:
    """Every vector has norm 1 ± 1e-3, and the search store holds exactly as many in this generation."""
    import numpy as np

    norms = np.linalg.norm(embeddings.vectors, axis=1)
    stored = stores.stores.vectors.count(context.partition_key, generation_of(embeddings))
    worst = float(np.abs(norms - 1).max()) if len(norms) else 0.0
    return dg.AssetCheckResult(
        passed=worst <= 1e-3 and stored == len(embeddings.chunk_ids),
        metadata={"worst_norm_error": worst, "stored": stored, "embedded": len(embeddings.chunk_ids)},
    )


@claim(l0_memory.voice_profile, reads=["raw_documents", "chunks"])
def preferences_stand_in_the_users_own_text(
    context: dg.AssetCheckExecutionContext,
    stores: StoresResource,
    voice_profile: VoiceProfile,
    raw_documents: list[Document],
    chunks: list[Chunk],
) -> dg.AssetCheckResult:
    """Each preference is, white space apart, the bytes it cites, of a document that the user made."""
    texts = fetch_texts(chunks, stores.stores.blobs)
    foreign = find_foreign_preferences(voice_profile.preferences, raw_documents, texts)
    return dg.AssetCheckResult(
        passed=not foreign, metadata={"preferences": len(voice_profile.preferences), "foreign": foreign[:10]}
    )


@claim(l0_memory.entities, reads=["chunks"])
def every_mention_is_at_its_bytes(
    context: dg.AssetCheckExecutionContext, stores: StoresResource, entities: list[Entity], chunks: list[Chunk]
) -> dg.AssetCheckResult:
    """The bytes a mention points to are the words it says, inside the chunk and the document it names."""
    wrong = misplaced_mentions(entities, chunk_texts(chunks, fetch_texts(chunks, stores.stores.blobs)))
    return dg.AssetCheckResult(
        passed=not wrong,
        metadata={"mentions": sum(len(entity.mentions) for entity in entities), "misplaced": wrong[:10]},
    )


@claim(l0_memory.entities)
def no_word_is_of_two_entities(context: dg.AssetCheckExecutionContext, entities: list[Entity]) -> dg.AssetCheckResult:
    """Mentions share no byte, every entity has one, and ids are unique."""
    shared = overlapping_mentions(entities)
    sound = len({entity.entity_id for entity in entities}) == len(entities) and all(entity.mentions for entity in entities)
    return dg.AssetCheckResult(passed=sound and not shared, metadata={"entities": len(entities), "shared": shared[:10]})
