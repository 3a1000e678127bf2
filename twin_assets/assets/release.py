"""The release: what serving loads.

Belongs here: the manifest of one whole chain.
Does not belong here: serving it.
"""

import dagster as dg

from lpm_kernel.forget import remove_what_is_stale
from lpm_kernel.L1.records import Community
from lpm_kernel.L2.announce import announce_release
from lpm_kernel.L2.engine import adapter_folder
from lpm_kernel.L2.promotion import describe_gates, judge_release
from lpm_kernel.L2.records import Adapter, Evaluation, GgufAdapter, TrainingRow
from lpm_kernel.L2.release import keep_communities, make_release, offer_release
from lpm_kernel.records import Chunk, Document, EmbeddingTable, Topic
from lpm_kernel.stores.webhook import open_webhook
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
    """The manifest a twin is served from: every input by hash, and what it scored. It becomes the user's live release where it
    passes its gates, and the one before is kept as retired; else it stays a candidate, with the reasons. What was made from
    deleted documents is removed once another one serves. Read by the API and by `twin ask`."""
    port, user_id = stores.stores, context.partition_key
    made = make_release(
        user_id,
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
    keep_communities(port.blobs, made, communities)
    verdict = judge_release(evaluation, port.settings.release)
    release = offer_release(port.tables, port.vectors, made, verdict, first_serves=port.settings.release.first_release_serves)
    removed = remove_what_is_stale(port, user_id, adapter_folder(), built=release.release_id)
    webhook, retries = open_webhook(port.settings, breakers=port.breakers), port.settings.retries
    announce_release(port.tables, webhook, release, retries, context.run.run_id, context.log.warning)
    return Made(
        release,
        metadata={
            "release_id": release.release_id,
            "status": release.status,
            "reasons": dg.MetadataValue.md("\n".join(f"- {reason}" for reason in release.reasons)),
            "gates": dg.MetadataValue.md(describe_gates(verdict.gates)),
            "documents": len(raw_documents),
            "gguf_key": release.gguf_key,
            "deleted_documents_forgotten": removed.documents,
            "stale_files_removed": removed.files,
        },
        version=release.release_id,
    )
