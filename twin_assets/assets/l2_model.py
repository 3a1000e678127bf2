"""L2 assets: memory in weights.

Belongs here: training rows, and the adapter in both its forms.
Does not belong here: training itself (`lpm_kernel/L2`), and what the twin then knows (`l2_evaluation.py`).
"""

from functools import partial

import dagster as dg

from lpm_kernel.artefacts import decode_records, encode_record, encode_records, read_previous
from lpm_kernel.L0.embed import chunk_texts, generation_of
from lpm_kernel.L0.library import fetch_texts
from lpm_kernel.L1.records import Biography, ChunkSalience, Community
from lpm_kernel.L2.base_model import prepare_base
from lpm_kernel.L2.engine import cache_folder
from lpm_kernel.L2.enrich import enrich_drafts
from lpm_kernel.L2.golden import load_golden
from lpm_kernel.L2.records import Adapter, RowRefusal, TrainingRow
from lpm_kernel.L2.stages import ConvertRequest
from lpm_kernel.L2.synthesize import Memory, synthesize_rows
from lpm_kernel.L2.training_batches import row_counter
from lpm_kernel.L2.training_report import as_markdown, count_all, report_rows
from lpm_kernel.layout import asset_key
from lpm_kernel.llm_items import CallCache
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.records import Chunk, EmbeddingTable, Entity, Topic, VoiceProfile, sha256_hex
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.users import get_user
from twin_assets.resources import StoresResource, writing_cost
from twin_assets.stages import Made, progress_of, stage
from twin_assets.training_runs import adapter_figures, asked_tags, observed, train_request

ROW_REFUSALS = "row_refusals"
"""Why drafts became no rows: a file beside the rows, read by `training_report`."""


@stage(group="l2", io_manager_key="jsonl", code_version="4", kinds={"s3", "spacy"})
def training_rows(
    context: dg.AssetExecutionContext,
    stores: StoresResource,
    chunks: list[Chunk],
    embeddings: EmbeddingTable,
    topics: list[Topic],
    salience: list[ChunkSalience],
    communities: list[Community],
    entities: list[Entity],
    voice_profile: VoiceProfile,
    biography: Biography,
) -> Made:
    """Conversations to learn from, one row each, made by fixed rules from the user's own sentences: six kinds, asked alone,
    among retrieved lines in the live prompt's form or after an earlier turn, by the user or by somebody about them. What counts
    more comes first, topics in turn; nothing that the twin wrote is in them. Read by `lora_adapter` and `training_report`."""
    port, user_id, progress = stores.stores, context.partition_key, progress_of(context)
    with port.tables.transaction(user_id) as connection:
        user = get_user(connection, user_id)
    embedder = port.embedder_of(embeddings.fingerprint)
    rows, count = synthesize_rows(
        user,
        chunk_texts(chunks, fetch_texts(chunks, port.blobs)),
        topics,
        port.settings.training,
        lambda question: recall_evidence(
            user_id, generation_of(embeddings), question, port.vectors, embedder, port.settings.recall
        ),
        row_counter(prepare_base(port.settings.models, cache_folder(), progress).hf_dir),
        embedder,
        load_golden(port.blobs, user_id),
        progress,
        Memory(salience, communities, entities, voice_profile.preferences, biography),
        lambda drafts, shown: enrich_drafts(
            drafts, user, voice_profile, port.writer, CallCache(port.blobs, user_id, "rows"), port.settings, shown
        ),
    )
    TenantBlobs(port.blobs, user_id).put(asset_key(user_id, ROW_REFUSALS, "jsonl"), encode_records(count.refusals))
    return Made(
        rows,
        metadata={
            "rows_train": sum(row.split == "train" for row in rows),
            "rows_held_out": sum(row.split == "held_out" for row in rows),
            **{f"rows_{kind}": number for kind, number in count.rows_by_kind.items()},
            "questions_asked": count.asked,
            "questions_too_close_to_golden": count.too_close_to_golden,
            "rows_too_long": count.too_long,
            "drafts_refused": len(count.refusals),
            **writing_cost(port.writer, port.settings.models),
        },
        version=sha256_hex(encode_records(rows)),
    )


@stage(group="l2", io_manager_key="json", code_version="1", kinds={"s3", "python"})
def training_report(
    context: dg.AssetExecutionContext, stores: StoresResource, training_rows: list[TrainingRow], topics: list[Topic]
) -> Made:
    """What the rows are: counts by kind, form, person, split and topic, how long answers are, three rows of each kind, and why
    drafts became no rows. For the person who decides whether to learn from them; read by no other stage."""
    refusals = read_previous(
        stores.stores.blobs, context.partition_key, ROW_REFUSALS, "jsonl", partial(decode_records, record_type=RowRefusal)
    )
    report = report_rows(training_rows, refusals or [], topics)
    return Made(
        report,
        metadata={**count_all(report), "report": dg.MetadataValue.md(as_markdown(report))},
        version=sha256_hex(encode_record(report)),
    )


@stage(group="l2", io_manager_key="json", code_version="2", kinds={"s3", "pytorch", "huggingface"}, pool="training")
def lora_adapter(context: dg.AssetExecutionContext, stores: StoresResource, training_rows: list[TrainingRow]) -> Made:
    """The user's LoRA adapter (safetensors in the blob store, this record beside it), trained on the `train` rows and measured
    on the held-out ones. The same rows and settings give the adapter that was trained before; a training that was cut off goes
    on from its last checkpoint. Each reported step is an observation. Read by `gguf_adapter`."""
    port = stores.stores
    request = train_request(context.partition_key, training_rows, port.settings, port.blobs, asked_tags(context))
    compute = stores.compute(port.settings.compute.lora_adapter)
    adapter = compute.run("lora_adapter", request, observed(context, progress_of(context)))
    return Made(adapter, metadata=adapter_figures(adapter), version=adapter.sha256)


@stage(group="l2", io_manager_key="json", code_version="1", kinds={"s3", "gguf"})
def gguf_adapter(context: dg.AssetExecutionContext, stores: StoresResource, lora_adapter: Adapter) -> Made:
    """The same adapter in the form that llama.cpp puts on the shared base. Read by `evaluation` and served by releases."""
    request = ConvertRequest(context.partition_key, lora_adapter)
    compute = stores.compute(stores.stores.settings.compute.gguf_adapter)
    gguf = compute.run("gguf_adapter", request, progress_of(context))
    return Made(
        gguf,
        metadata={"tensors": gguf.tensors, "gguf_size_bytes": gguf.size_bytes, "gguf_sha256": gguf.sha256},
        version=gguf.sha256,
    )
