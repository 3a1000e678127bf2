"""L2 claims: about training rows and the adapter in both its forms.

Belongs here: one check a claim about memory in weights, named as the claim; those that block say so.
Does not belong here: repairing anything.
"""

import tempfile
from collections import Counter
from pathlib import Path

import dagster as dg

from lpm_kernel.L0.embed import chunk_texts
from lpm_kernel.L0.library import fetch_texts
from lpm_kernel.L2.adapter_files import file_sha256
from lpm_kernel.L2.golden import load_golden
from lpm_kernel.L2.records import Adapter, GgufAdapter, TrainingRow
from lpm_kernel.L2.row_gate import (
    find_excess_rows,
    find_golden_rows,
    find_held_out_rows,
    find_unsupported_rows,
    stored_texts,
)
from lpm_kernel.L2.sampling import share_out
from lpm_kernel.L2.synthesize import split_documents
from lpm_kernel.records import Chunk
from lpm_kernel.stores.blobs import TenantBlobs
from twin_assets.assets import l2_model
from twin_assets.checks.claim import claim
from twin_assets.resources import StoresResource

WHOLE = 1000
"""Rows by which shares are compared: each share of a thousandth counts."""

MATCH_PROMPTS = 5
MATCH_POSITIONS = 220
"""Of all answers together: the 200 that are needed, and room for ties."""


@claim(l2_model.training_rows, reads=["chunks"])
def rows_are_supported_by_their_sources(
    context: dg.AssetCheckExecutionContext, stores: StoresResource, training_rows: list[TrainingRow], chunks: list[Chunk]
) -> dg.AssetCheckResult:
    """Each answer stands in the bytes it cites, but for the few words that frame it; only a refusal says something else."""
    items = chunk_texts(chunks, fetch_texts(chunks, stores.stores.blobs))
    unsupported = find_unsupported_rows(training_rows, stored_texts(items))
    return dg.AssetCheckResult(passed=not unsupported, metadata={"rows": len(training_rows), "unsupported": unsupported[:10]})


@claim(l2_model.training_rows)
def no_golden_question_in_training(
    context: dg.AssetCheckExecutionContext, stores: StoresResource, training_rows: list[TrainingRow]
) -> dg.AssetCheckResult:
    """No row asks a golden question or a paraphrase of one: near in meaning, or nearish and answered by the same fact."""
    golden = load_golden(stores.stores.blobs, context.partition_key)
    offending = find_golden_rows(training_rows, golden, stores.stores.embedder)
    return dg.AssetCheckResult(
        passed=not offending,
        metadata={
            "rows": len(training_rows),
            "golden_questions": len(golden.questions) + len(golden.unanswerable) if golden else 0,
            "offending": offending[:10],
        },
    )


@claim(l2_model.training_rows, reads=["chunks"])
def no_held_out_text_in_training(
    context: dg.AssetCheckExecutionContext, stores: StoresResource, training_rows: list[TrainingRow], chunks: list[Chunk]
) -> dg.AssetCheckResult:
    """No train row was made from, shows or says a sentence of a document that was kept out."""
    splits = split_documents([chunk.document_sha256 for chunk in chunks], stores.stores.settings.training.held_out_share)
    items = chunk_texts(chunks, fetch_texts(chunks, stores.stores.blobs))
    leaking = find_held_out_rows(training_rows, items, splits)
    held_out = sum(splits[chunk.document_sha256] == "held_out" for chunk in chunks)
    return dg.AssetCheckResult(passed=not leaking, metadata={"held_out_chunks": held_out, "leaking": leaking[:10]})


@claim(l2_model.training_rows, blocking=False)
def every_kind_has_rows(
    context: dg.AssetCheckExecutionContext, stores: StoresResource, training_rows: list[TrainingRow]
) -> dg.AssetCheckResult:
    """Each kind that the settings give a share has a train row. A person with few notes may have no preference to ask for."""
    wanted = share_out(stores.stores.settings.training.mix, WHOLE)
    there = {row.kind for row in training_rows if row.split == "train"}
    missing = sorted(kind for kind, share in wanted.items() if share and kind not in there)
    return dg.AssetCheckResult(
        passed=not missing, severity=dg.AssetCheckSeverity.WARN, metadata={"missing": missing, "kinds": len(there)}
    )


@claim(l2_model.training_rows, blocking=False)
def row_classes_are_balanced(
    context: dg.AssetCheckExecutionContext, stores: StoresResource, training_rows: list[TrainingRow]
) -> dg.AssetCheckResult:
    """No kind but `self_qa` has much more than its share of the train rows: too many refusals teach a twin to decline."""
    excess = find_excess_rows(training_rows, stores.stores.settings.training.mix)
    counts = Counter(row.kind for row in training_rows if row.split == "train")
    return dg.AssetCheckResult(
        passed=not excess, severity=dg.AssetCheckSeverity.WARN, metadata={**counts, "rows_in_excess": len(excess)}
    )


@claim(l2_model.lora_adapter)
def adapter_is_finite(
    context: dg.AssetCheckExecutionContext, stores: StoresResource, lora_adapter: Adapter
) -> dg.AssetCheckResult:
    """Every weight of the adapter is a finite number, and some of them are not what training began with."""
    import numpy as np
    from safetensors.numpy import load

    own, start = TenantBlobs(stores.stores.blobs, context.partition_key), lora_adapter.start_key
    weights = load(own.get(lora_adapter.key))
    # of nobody, or the user's own; new matrices begin without effect: those of the second kind are zero
    shelf = stores.stores.blobs if start and start.startswith("shared/") else own
    begun = load(shelf.get(start)) if start and shelf.exists(start) else {}
    finite = all(bool(np.isfinite(tensor).all()) for tensor in weights.values())
    moved = any(bool(np.any(tensor != begun.get(name, 0))) for name, tensor in weights.items() if ".lora_B." in name)
    return dg.AssetCheckResult(passed=finite and moved, metadata={"tensors": len(weights), "finite": finite, "trained": moved})


@claim(l2_model.gguf_adapter, reads=["lora_adapter", "training_rows"])
def gguf_matches_adapter(
    context: dg.AssetCheckExecutionContext,
    stores: StoresResource,
    gguf_adapter: GgufAdapter,
    lora_adapter: Adapter,
    training_rows: list[TrainingRow],
) -> dg.AssetCheckResult:
    """llama.cpp with the GGUF adapter prefers the same tokens as PEFT with the adapter, on the same f16 base: at 99 % of at
    least 200 positions, those left out where PEFT itself had two tokens within rounding of each other. And the file is the one
    that its record names: two people's adapters that began alike may prefer the same tokens."""
    from lpm_kernel.L2.base_model import prepare_base
    from lpm_kernel.L2.engine import cache_folder
    from lpm_kernel.L2.match import greedy_tokens_match
    from lpm_kernel.L2.prompt import render_chatml

    blobs = TenantBlobs(stores.stores.blobs, context.partition_key)
    base = prepare_base(stores.stores.settings.models, cache_folder(), lambda share, words: None)
    # The shortest prompts: the answers are compared, and a prompt costs as much a token as they do.
    prompts = sorted({render_chatml(row.messages[:-1], open_answer=True) for row in training_rows}, key=len)[:MATCH_PROMPTS]
    with tempfile.TemporaryDirectory(prefix="twin-match-") as name:
        folder = Path(name)
        blobs.get_file(lora_adapter.key, folder / "adapter_model.safetensors")
        blobs.get_file(lora_adapter.config_key, folder / "adapter_config.json")
        blobs.get_file(gguf_adapter.key, folder / "adapter.gguf")
        named = file_sha256(folder / "adapter.gguf") == gguf_adapter.sha256
        report = greedy_tokens_match(
            folder / "adapter_model.safetensors",
            folder / "adapter_config.json",
            folder / "adapter.gguf",
            base,
            prompts,
            -(-MATCH_POSITIONS // len(prompts)),
            past_the_end=True,
        )
    return dg.AssetCheckResult(
        passed=report.holds and named,
        metadata={
            "tokens": report.tokens,
            "agreement": report.agreement,
            "ties": report.ties,
            "prompts": report.prompts,
            "is_the_file_of_its_record": named,
        },
    )
