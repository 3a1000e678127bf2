"""L1 assets: memory in words.

Belongs here: topics.
Does not belong here: raw text (`l0_memory.py`) and anything trained (`l2_model.py`).
"""

import dagster as dg

from lpm_kernel.artefacts import encode_records
from lpm_kernel.L0.embed import chunk_texts
from lpm_kernel.L0.library import fetch_texts
from lpm_kernel.L1.topics import MISC, find_topics
from lpm_kernel.records import Chunk, EmbeddingTable, sha256_hex
from twin_assets.resources import StoresResource
from twin_assets.stages import Made, stage


@stage(group="l1", io_manager_key="jsonl", code_version="1", kinds={"s3", "scikitlearn"})
def topics(context: dg.AssetExecutionContext, stores: StoresResource, chunks: list[Chunk], embeddings: EmbeddingTable) -> Made:
    """What the user writes about, one row a topic: its label, keywords, chunks and centre. Every chunk is in exactly one, or in
    `misc`. Read by `training_rows`, which takes topics in turn, and by the profile."""
    port = stores.stores
    found = find_topics(chunk_texts(chunks, fetch_texts(chunks, port.blobs)), embeddings, port.settings.topics)
    misc = sum(len(topic.chunk_ids) for topic in found if topic.label == MISC)
    return Made(
        found,
        metadata={
            "topics": sum(topic.label != MISC for topic in found),
            "misc_share": misc / max(1, len(chunks)),
            "largest": dg.MetadataValue.md("\n".join(f"- {topic.label}: {len(topic.chunk_ids)} chunks" for topic in found[:3])),
        },
        version=sha256_hex(encode_records(found)),
    )
