"""The release: what serving loads.

Belongs here: the manifest of one whole chain.
Does not belong here: serving it.
"""

import dagster as dg

from lpm_kernel.L1.records import Community
from lpm_kernel.L2.records import Adapter, Evaluation, GgufAdapter, TrainingRow
from lpm_kernel.L2.release import keep_communities, make_release, publish_release
from lpm_kernel.records import Chunk, Document, EmbeddingTable, Topic
from twin_assets.resources import StoresResource
from twin_assets.stages import Made, stage


@stage(group="release", io_manager_key="json", code_version="1", kinds={"s3", "postgres"})
def twin_release(
    context: dg.AssetExecutionContext,
    stores: StoresResource,
    raw_documents: list[Document],
    chunks: list[Chunk],
    embeddings: EmbeddingTable,
    topics: list[Topic],
    communities: list[Community],
    training_rows: list[TrainingRow],
    lora_adapter: Adapter,
    gguf_adapter: GgufAdapter,
    evaluation: Evaluation,
) -> Made:
    """The manifest a twin is served from: every input by hash, and what it scored. It becomes the user's live release; the one
    before is kept as retired. Read by the API and by `twin ask`."""
    release = make_release(
        context.partition_key,
        raw_documents,
        chunks,
        embeddings,
        topics,
        communities,
        training_rows,
        lora_adapter,
        gguf_adapter,
        evaluation,
    )
    keep_communities(stores.stores.blobs, release, communities)
    publish_release(stores.stores.tables, stores.stores.vectors, release)
    return Made(
        release,
        metadata={"release_id": release.release_id, "documents": len(raw_documents), "gguf_key": release.gguf_key},
        version=release.release_id,
    )
