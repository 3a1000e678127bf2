"""L2 assets: memory in weights.

Belongs here: training rows, and the adapter in both its forms.
Does not belong here: training itself (`lpm_kernel/L2`), and what the twin then knows (`l2_evaluation.py`).
"""

import dagster as dg

from lpm_kernel.artefacts import encode_records
from lpm_kernel.L0.embed import chunk_texts, generation_of
from lpm_kernel.L0.library import fetch_texts
from lpm_kernel.L1.records import ChunkSalience, Community
from lpm_kernel.L2.base_model import prepare_base
from lpm_kernel.L2.engine import cache_folder
from lpm_kernel.L2.golden import load_golden
from lpm_kernel.L2.records import Adapter, TrainingRow
from lpm_kernel.L2.stages import ConvertRequest
from lpm_kernel.L2.synthesize import synthesize_rows
from lpm_kernel.L2.training_batches import row_counter
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.records import Chunk, EmbeddingTable, Topic, sha256_hex
from lpm_kernel.stores.users import get_user
from twin_assets.resources import StoresResource
from twin_assets.stages import Made, progress_of, stage
from twin_assets.training_runs import adapter_figures, asked_tags, observed, train_request


@stage(group="l2", io_manager_key="jsonl", code_version="3", kinds={"s3", "spacy"})
def training_rows(
    context: dg.AssetExecutionContext,
    stores: StoresResource,
    chunks: list[Chunk],
    embeddings: EmbeddingTable,
    topics: list[Topic],
    salience: list[ChunkSalience],
    communities: list[Community],
) -> Made:
    """Conversations to learn from, one row each, made by fixed rules from the user's own sentences: some asked for alone, some
    among retrieved lines in the live prompt's form, some that the lines do not answer. What counts more comes first, topics in
    turn; nothing that the twin wrote is in them. Read by `lora_adapter`."""
    port = stores.stores
    user_id = context.partition_key
    progress = progress_of(context)
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
        salience=salience,
        communities=communities,
    )
    return Made(
        rows,
        metadata={
            "rows_train": sum(row.split == "train" for row in rows),
            "rows_held_out": sum(row.split == "held_out" for row in rows),
            **{f"rows_{kind}": number for kind, number in count.rows_by_kind.items()},
            "questions_asked": count.asked,
            "questions_too_close_to_golden": count.too_close_to_golden,
            "rows_too_long": count.too_long,
        },
        version=sha256_hex(encode_records(rows)),
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
