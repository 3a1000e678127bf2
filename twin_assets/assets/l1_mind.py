"""L1 assets: memory in words.

Belongs here: topics, shades, biography.
Does not belong here: raw text (`l0_memory.py`) and anything trained (`l2_model.py`).
"""

from dataclasses import replace
from functools import partial

import dagster as dg

from lpm_kernel.artefacts import decode_record, decode_records, encode_record, encode_records, read_previous
from lpm_kernel.L0.embed import chunk_texts
from lpm_kernel.L0.library import fetch_texts
from lpm_kernel.L1.biography import write_biography
from lpm_kernel.L1.records import Shade
from lpm_kernel.L1.shades import make_shades
from lpm_kernel.L1.topic_labels import polish_labels
from lpm_kernel.L1.topic_update import TopicHistory, topics_hash, update_topics
from lpm_kernel.L1.topics import MISC
from lpm_kernel.layout import asset_key
from lpm_kernel.llm_items import CallCache
from lpm_kernel.records import Chunk, Document, EmbeddingTable, Topic, sha256_hex
from lpm_kernel.stores.blobs import TenantBlobs
from twin_assets.resources import StoresResource, writing_cost
from twin_assets.stages import Made, progress_of, stage
from twin_assets.tables import place, table

SAMPLE = 6


@stage(group="l1", io_manager_key="jsonl", code_version="3", kinds={"s3", "scikitlearn"})
def topics(context: dg.AssetExecutionContext, stores: StoresResource, chunks: list[Chunk], embeddings: EmbeddingTable) -> Made:
    """What the user writes about, one row a topic: its label, keywords, chunks and centre. Every chunk is in exactly one, or in
    `misc`. They grow from the cores of last time, and ids stay; a writer, where the settings name one, words the labels. Read
    by `shades`, by `training_rows`, which takes topics in turn, and by the profile."""
    port = stores.stores
    user_id = context.partition_key
    items = chunk_texts(chunks, fetch_texts(chunks, port.blobs))
    previous = read_previous(port.blobs, user_id, "topics", "jsonl", partial(decode_records, record_type=Topic))
    history = read_previous(port.blobs, user_id, "topic_history", "json", partial(decode_record, record_type=TopicHistory))
    found, state, count = update_topics(items, embeddings, port.settings.topics, previous or [], history)
    texts = {item.chunk.chunk_id: item.text for item in items}
    cache = CallCache(port.blobs, user_id, "topic-labels")
    found, polished, dropped = polish_labels(found, texts, port.writer, cache, port.settings, progress_of(context))
    state = replace(state, topics_sha256=topics_hash(found))
    TenantBlobs(port.blobs, user_id).put(asset_key(user_id, "topic_history", "json"), encode_record(state))
    misc = sum(len(topic.chunk_ids) for topic in found if topic.label == MISC)
    return Made(
        found,
        metadata={
            "topics": sum(topic.label != MISC for topic in found),
            "misc_share": misc / max(1, len(chunks)),
            "grouped_anew_because": count.rebuilt or "not grouped anew: built on the topics of last time",
            "topics_touched": count.topics_touched,
            "ids_kept": count.ids_kept,
            "labels_written": polished,
            **({"labels_not_answered": {one.item_id: one.code for one in dropped}} if dropped else {}),
            **writing_cost(port.writer, port.settings.models),
            "pairs_compared": count.pairs_compared,
            "sample": table(
                ("topic", "keywords", "chunks"),
                [(topic.label, ", ".join(topic.keywords), len(topic.chunk_ids)) for topic in found[:SAMPLE]],
            ),
        },
        version=sha256_hex(encode_records(found)),
    )


@stage(group="l1", io_manager_key="jsonl", code_version="2", kinds={"s3", "scikitlearn"})
def shades(
    context: dg.AssetExecutionContext,
    stores: StoresResource,
    raw_documents: list[Document],
    chunks: list[Chunk],
    embeddings: EmbeddingTable,
    topics: list[Topic],
) -> Made:
    """Aspects of the person, one row a shade, from one or more topics that are close: its most central sentences and a dated
    timeline, all in the user's own words and each with the bytes it stands on. Read by `biography`."""
    port = stores.stores
    items = chunk_texts(chunks, fetch_texts(chunks, port.blobs))
    found = make_shades(items, embeddings, topics, port.settings.topics.shade_similarity, raw_documents)
    events = [(shade, event) for shade in found for event in shade.timeline]
    return Made(
        found,
        metadata={
            "shades": len(found),
            "topics_merged": sum(len(shade.topic_ids) - 1 for shade in found),
            "events": len(events),
            "shades_without_a_date": sum(not shade.timeline for shade in found),
            "sample": table(
                ("date", "shade", "event", "cited"),
                [(event.date, shade.name, event.text, place(event.citation)) for shade, event in events[:SAMPLE]],
            ),
        },
        version=sha256_hex(encode_records(found)),
    )


@stage(group="l1", io_manager_key="json", code_version="1", kinds={"s3", "python"})
def biography(context: dg.AssetExecutionContext, stores: StoresResource, shades: list[Shade]) -> Made:
    """Who the person is, in sentences of their own: at least one line a shade, and what they wrote last, each line cited.
    Where there is no shade or no date it holds the reason and no line. Read by the profile."""
    written = write_biography(context.partition_key, shades)
    return Made(
        written,
        metadata={
            "lines": len(written.lines),
            "status_lines": len(written.status),
            "as_of": written.as_of or "no date",
            "skipped": written.skipped or "no",
            "status_skipped": written.status_skipped or "no",
            "sample": table(
                ("shade", "line", "cited"),
                [(line.shade, line.text, "; ".join(map(place, line.citations))) for line in written.lines[:SAMPLE]],
            ),
        },
        version=sha256_hex(encode_record(written)),
    )
