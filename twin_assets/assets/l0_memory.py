"""L0 assets: memory as it was written.

Belongs here: documents, chunks, embeddings, entities, the voice they are written in.
Does not belong here: what they mean (`l1_mind.py`).
"""

from collections import Counter
from functools import partial

import dagster as dg

from lpm_kernel.artefacts import decode_records, decode_table, encode_record, encode_records, read_previous
from lpm_kernel.L0.duplicates import link_near_duplicates
from lpm_kernel.L0.embed import chunk_texts, embed_chunks, generation_of, vector_entries
from lpm_kernel.L0.entities import ChunkMentions, extract_entities, extraction_recipe
from lpm_kernel.L0.library import chunk_documents, fetch_texts, read_documents
from lpm_kernel.L0.preferences import extract_preferences
from lpm_kernel.L0.voice import build_voice_profile
from lpm_kernel.L2.release import documents_hash
from lpm_kernel.layout import asset_key
from lpm_kernel.records import Chunk, Document, content_id, sha256_hex
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.documents import list_documents
from lpm_kernel.stores.ner import NUMERIC
from twin_assets.resources import StoresResource, embedding_cost
from twin_assets.stages import Made, progress_of, stage
from twin_assets.tables import table

MENTIONS = "mentions"
"""What the extractor said of each chunk: a file beside the entities, read by nobody else."""
SAMPLE = 5


@stage(group="l0", io_manager_key="jsonl", code_version="2", kinds={"s3", "postgres"}, automatic=False)
def raw_documents(context: dg.AssetExecutionContext, stores: StoresResource) -> Made:
    """Every document of the user that could be read, one row each; its text lies beside the raw file, and its row tells the
    encoding and which older document it nearly repeats. A document that could not be read keeps its row in PostgreSQL with the
    reason and its bytes in quarantine, until another reader or limit takes it out. Read by `chunks` and `twin_release`."""
    port, user_id = stores.stores, context.partition_key
    settings = port.settings
    read, count = read_documents(port.tables, port.blobs, settings.limits, user_id, progress_of(context))
    documents, near = link_near_duplicates(port.tables, port.blobs, user_id, read, settings.reading.near_duplicate_share)
    with port.tables.transaction(user_id) as connection:
        refused = [row for row in list_documents(connection, user_id) if row.status == "refused"]
    return Made(
        documents,
        metadata={
            "documents_read": count.read,
            "documents_reused": count.reused,
            "documents_refused": count.refused,
            "near_duplicates": near.near_duplicates,
            "newer_versions": near.newer_versions,
            "taken_out_of_quarantine": count.taken_out,
            "in_quarantine": sum(row.quarantined for row in refused),
            "quarantine_size_bytes": sum(row.size_bytes for row in refused if row.quarantined),
            "refused": table(
                ("file", "code", "reason", "kept"),
                [(row.filename, row.refusal.code, row.refusal.reason, row.quarantined) for row in refused[:20] if row.refusal],
            ),
            "encodings": dg.MetadataValue.json(dict(Counter(document.encoding or "pdf" for document in documents))),
            "text_size_bytes": sum(document.text_size_bytes or 0 for document in documents),
            "sample": dg.MetadataValue.md("\n".join(f"- {d.filename}, {d.size_bytes} bytes" for d in documents[:3])),
        },
        version=documents_hash(documents),
    )


@stage(group="l0", io_manager_key="jsonl", code_version="2", kinds={"s3", "python"})
def chunks(context: dg.AssetExecutionContext, stores: StoresResource, raw_documents: list[Document]) -> Made:
    """Pointers to exact bytes of the stored texts, one row a chunk, cut at headings, paragraphs and sentences. Documents that
    did not change keep the chunks they had. Read by `embeddings`, `topics` and `training_rows`."""
    port = stores.stores
    previous = read_previous(port.blobs, context.partition_key, "chunks", "jsonl", partial(decode_records, record_type=Chunk))
    rows, count = chunk_documents(raw_documents, port.blobs, port.settings.chunking, previous or [])
    return Made(
        rows,
        metadata={
            "documents_cut": count.cut,
            "documents_reused": count.reused,
            "mean_tokens": sum(row.tokens for row in rows) / max(1, len(rows)),
            "sample": dg.MetadataValue.md(
                "\n".join(f"- {r.filename} [{r.byte_start}, {r.byte_end}), {r.tokens} tokens" for r in rows[:3])
            ),
        },
        version=content_id(*(f"{row.chunk_id}:{row.text_sha256}" for row in rows)),
    )


@stage(group="l0", io_manager_key="parquet", code_version="2", kinds={"s3", "postgres"})
def embeddings(context: dg.AssetExecutionContext, stores: StoresResource, chunks: list[Chunk]) -> Made:
    """One unit vector a chunk, in chunk order, and the same vectors in the search store, as a generation of their own: chats go
    on searching the one of the live release. A text that was embedded before is not embedded again; another model embeds all of
    it and the user's memories. Read by `topics`, `training_rows`, `evaluation` and, through the search store, by every chat."""
    port = stores.stores
    user_id = context.partition_key
    items = chunk_texts(chunks, fetch_texts(chunks, port.blobs))
    previous = read_previous(port.blobs, user_id, "embeddings", "parquet", decode_table)
    with stores.embedder_in(context) as embedder:
        table, count = embed_chunks(items, embedder, previous, progress_of(context))
    synced = port.vectors.sync(user_id, generation_of(table), vector_entries(items, table), table.fingerprint)
    return Made(
        table,
        metadata={
            "dagster/partition_row_count": len(table.chunk_ids),
            "chunks_embedded": count.embedded,
            "chunks_reused": count.reused,
            "chunks_of_the_same_words": count.same_words,
            "vectors_written": synced.written,
            "memories_reembedded": port.memories.reembed(user_id),
            **embedding_cost(embedder, port.settings.models),
            "generation": generation_of(table),
            "fingerprint": table.fingerprint,
            "dimension": int(table.vectors.shape[1]),
        },
        version=generation_of(table),
    )


@stage(group="l0", io_manager_key="jsonl", code_version="2", kinds={"s3", "spacy"})
def entities(context: dg.AssetExecutionContext, stores: StoresResource, chunks: list[Chunk]) -> Made:
    """Who and what the documents name, one row an entity: its type, spellings, and every mention with its exact bytes. Chunks
    that did not change are not read again; a chunk that could not be read, or only by the second extractor, is told in the
    figures and read the next time."""
    port = stores.stores
    user_id = context.partition_key
    blobs = TenantBlobs(port.blobs, user_id)
    decode = partial(decode_records, record_type=ChunkMentions)
    previous = read_previous(port.blobs, user_id, MENTIONS, "jsonl", decode)
    items = chunk_texts(chunks, fetch_texts(chunks, port.blobs))
    found, rows, count = extract_entities(items, port.ner, previous or [], progress_of(context))
    blobs.put(asset_key(user_id, MENTIONS, "jsonl"), encode_records(rows))
    by_type = Counter(entity.type for entity in found)
    named = [entity for entity in found if entity.type not in NUMERIC]
    most_named = sorted(named, key=lambda entity: (-len(entity.mentions), entity.entity_id))
    return Made(
        found,
        metadata={
            "mentions": sum(len(entity.mentions) for entity in found),
            "chunks_extracted": count.chunks_extracted,
            "documents_extracted": count.documents_extracted,
            "documents_reused": count.documents_reused,
            "ner_errors": len(count.failures),
            "ner_fallbacks": len(count.fallbacks),
            "ner_fallback_codes": dg.MetadataValue.json(dict(Counter(f.code for f in count.fallbacks))),
            "mentions_unplaced": count.unplaced,
            "ner_error_list": dg.MetadataValue.json(
                [{"file": f.filename, "byte": f.byte_start, "code": f.code, "reason": f.reason} for f in count.failures[:20]]
            ),
            **{f"entities_{kind.lower()}": number for kind, number in sorted(by_type.items())},
            "recipe": extraction_recipe(port.ner),
            "sample": table(
                ("name", "type", "mentions", "also"),
                [(e.name, e.type, len(e.mentions), ", ".join(e.aliases)) for e in most_named[:SAMPLE]],
            ),
        },
        version=sha256_hex(encode_records(found)),
    )


@stage(group="l0", io_manager_key="json", code_version="2", kinds={"s3", "spacy"})
def voice_profile(
    context: dg.AssetExecutionContext, stores: StoresResource, raw_documents: list[Document], chunks: list[Chunk]
) -> Made:
    """How the user writes and what they prefer, want and decide by: one record. Features are measured on the documents the user
    made; each preference is a sentence of theirs with its exact bytes. Read by the profile."""
    texts = fetch_texts(chunks, stores.stores.blobs)
    readable = [document for document in raw_documents if document.sha256 in texts]
    preferences = extract_preferences(readable, chunks, texts)
    profile = build_voice_profile(context.partition_key, readable, texts, preferences)
    sample = [f"- {item.polarity} {item.domain}: {item.text}" for item in sorted(preferences, key=lambda p: -p.strength)[:3]]
    shown = [f"| {name} | {value:.2f} |" for name, value in (profile.features or {}).items() if value]
    return Made(
        profile,
        metadata={
            **profile.measured,
            "preferences": len(preferences),
            "absent": profile.absent or "",
            "features": dg.MetadataValue.md("\n".join(["| feature | value |", "|---|---|", *shown])),
            "sample": dg.MetadataValue.md("\n".join(sample)),
        },
        version=sha256_hex(encode_record(profile)),
    )
