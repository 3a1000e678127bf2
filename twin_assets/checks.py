"""Checks: claims about each stage that must hold before the next one runs.

Belongs here: one check a claim, named as the claim; those that block say so.
Does not belong here: repairing anything.
"""

import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import dagster as dg

from lpm_kernel.L0.embed import chunk_texts, generation_of
from lpm_kernel.L0.entities import misplaced_mentions, overlapping_mentions
from lpm_kernel.L0.library import fetch_texts
from lpm_kernel.L0.preferences import find_foreign_preferences
from lpm_kernel.L1.biography import cited_texts, find_misplaced, find_untold_shades
from lpm_kernel.L1.memory_graph import differences
from lpm_kernel.L1.records import Biography, Shade
from lpm_kernel.L2.golden import load_golden
from lpm_kernel.L2.synthesize import find_golden_rows, find_unsupported_rows, split_documents
from lpm_kernel.layout import text_key
from lpm_kernel.records import (
    Adapter,
    Chunk,
    Document,
    EmbeddingTable,
    Entity,
    Evaluation,
    Fact,
    GgufAdapter,
    Topic,
    TrainingRow,
    VoiceProfile,
    sha256_hex,
)
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.blobs import TenantBlobs
from twin_assets.assets import l0_memory, l1_graph, l1_mind, l2_model
from twin_assets.failures import dagster_failures
from twin_assets.partitions import users
from twin_assets.resources import StoresResource

MATCH_PROMPTS = 4
MATCH_TOKENS = 16


def claim(asset: dg.AssetsDefinition, *, blocking: bool = True, reads: Sequence[str] = ()) -> Any:
    """A check of one asset, a partition a user; `reads` names other assets whose values it takes.

    The function gets `(context, **resources and values)`. A store that does not answer is asked again, as in the stages.
    """

    def decorate(function: Callable[..., dg.AssetCheckResult]) -> dg.AssetChecksDefinition:
        @wraps(function)
        def run(context: dg.AssetCheckExecutionContext, **inputs: Any) -> dg.AssetCheckResult:
            with dagster_failures(context.retry_number, load_settings().retries):
                return function(context, **inputs)

        with warnings.catch_warnings():
            # Partitions on checks are marked as a preview; without them a check cannot know whose data it sees.
            warnings.simplefilter("ignore", dg.PreviewWarning)
            return dg.asset_check(
                asset=asset,
                blocking=blocking,
                partitions_def=users,
                additional_ins={name: dg.AssetIn(name) for name in reads},
            )(run)

    return decorate


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


@claim(l1_mind.topics, reads=["chunks"])
def every_chunk_has_a_topic(
    context: dg.AssetCheckExecutionContext, topics: list[Topic], chunks: list[Chunk]
) -> dg.AssetCheckResult:
    """Each chunk is in exactly one topic."""
    placed = [chunk_id for topic in topics for chunk_id in topic.chunk_ids]
    missing = {chunk.chunk_id for chunk in chunks} - set(placed)
    return dg.AssetCheckResult(
        passed=not missing and len(placed) == len(set(placed)) == len(chunks),
        metadata={"chunks": len(chunks), "placed": len(placed), "missing": len(missing)},
    )


@claim(l1_mind.biography, reads=["shades"])
def biography_cites_every_shade(
    context: dg.AssetCheckExecutionContext, biography: Biography, shades: list[Shade]
) -> dg.AssetCheckResult:
    """Each shade is told by a line that cites one of its chunks; without a shade there is a reason and not one line."""
    untold = find_untold_shades(shades, biography)
    empty = not biography.lines and not biography.status
    explained = (biography.skipped is None) if shades else bool(biography.skipped) and empty
    return dg.AssetCheckResult(
        passed=not untold and explained,
        metadata={"shades": len(shades), "untold": untold, "skipped": biography.skipped or "no"},
    )


@claim(l1_mind.biography, reads=["shades", "chunks"])
def every_citation_is_at_its_bytes(
    context: dg.AssetCheckExecutionContext,
    stores: StoresResource,
    biography: Biography,
    shades: list[Shade],
    chunks: list[Chunk],
) -> dg.AssetCheckResult:
    """Each line of the shades and of the biography stands, word for word, at the bytes it cites, within the chunk it names."""
    texts = list(cited_texts(shades, biography))
    misplaced = find_misplaced(texts, chunks, fetch_texts(chunks, stores.stores.blobs))
    return dg.AssetCheckResult(passed=not misplaced, metadata={"lines": len(texts), "misplaced": misplaced[:10]})


@claim(l2_model.training_rows, reads=["chunks"])
def rows_are_supported_by_their_sources(
    context: dg.AssetCheckExecutionContext, stores: StoresResource, training_rows: list[TrainingRow], chunks: list[Chunk]
) -> dg.AssetCheckResult:
    """Each answer stands word for word in the chunk it names first; only a refusal says something else."""
    items = chunk_texts(chunks, fetch_texts(chunks, stores.stores.blobs))
    unsupported = find_unsupported_rows(training_rows, {item.chunk.chunk_id: item.text for item in items})
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
    """No train row was made from, or shows, a line of a document that was kept out."""
    splits = split_documents([chunk.document_sha256 for chunk in chunks], stores.stores.settings.training.held_out_share)
    held_out = {chunk.chunk_id for chunk in chunks if splits[chunk.document_sha256] == "held_out"}
    leaking = [row.row_id for row in training_rows if row.split == "train" and held_out & set(row.source_chunk_ids)]
    return dg.AssetCheckResult(passed=not leaking, metadata={"held_out_chunks": len(held_out), "leaking": leaking[:10]})


@claim(l2_model.lora_adapter)
def adapter_is_finite(
    context: dg.AssetCheckExecutionContext, stores: StoresResource, lora_adapter: Adapter
) -> dg.AssetCheckResult:
    """Every weight of the adapter is a finite number, and not all of them are zero."""
    import numpy as np
    from safetensors.numpy import load

    weights = load(TenantBlobs(stores.stores.blobs, context.partition_key).get(lora_adapter.key))
    finite = all(bool(np.isfinite(tensor).all()) for tensor in weights.values())
    moved = any(bool(np.any(tensor)) for name, tensor in weights.items() if ".lora_B." in name)
    return dg.AssetCheckResult(passed=finite and moved, metadata={"tensors": len(weights), "finite": finite, "trained": moved})


@claim(l2_model.gguf_adapter, reads=["lora_adapter", "training_rows"])
def gguf_matches_adapter(
    context: dg.AssetCheckExecutionContext,
    stores: StoresResource,
    gguf_adapter: GgufAdapter,
    lora_adapter: Adapter,
    training_rows: list[TrainingRow],
) -> dg.AssetCheckResult:
    """llama.cpp with the GGUF adapter says the same greedy tokens as PEFT with the adapter, on the same f16 base.

    They may part where PEFT itself had two tokens within rounding of each other: a tie.
    """
    from lpm_kernel.L2.base_model import prepare_base
    from lpm_kernel.L2.engine import cache_folder
    from lpm_kernel.L2.match import greedy_tokens_match
    from lpm_kernel.L2.prompt import render_chatml

    blobs = TenantBlobs(stores.stores.blobs, context.partition_key)
    base = prepare_base(stores.stores.settings.models, cache_folder(), lambda share, words: None)
    prompts = [render_chatml(row.messages[:-1], open_answer=True) for row in training_rows[:MATCH_PROMPTS]]
    with tempfile.TemporaryDirectory(prefix="twin-match-") as name:
        folder = Path(name)
        blobs.get_file(lora_adapter.key, folder / "adapter_model.safetensors")
        blobs.get_file(lora_adapter.config_key, folder / "adapter_config.json")
        blobs.get_file(gguf_adapter.key, folder / "adapter.gguf")
        report = greedy_tokens_match(
            folder / "adapter_model.safetensors",
            folder / "adapter_config.json",
            folder / "adapter.gguf",
            base,
            prompts,
            MATCH_TOKENS,
        )
    return dg.AssetCheckResult(
        passed=report.equal + report.ties == report.prompts,
        metadata={"prompts": report.prompts, "equal": report.equal, "ties": report.ties},
    )


@claim(l2_model.evaluation, blocking=False)
def release_beats_base_with_retrieval(context: dg.AssetCheckExecutionContext, evaluation: Evaluation) -> dg.AssetCheckResult:
    """The adapter with retrieval answers at least as many questions as the bare base with the same retrieval.

    Why it only warns: a person with few documents has few questions, and chance would then decide who gets a twin. Without a
    question nothing is shown, and it warns too.
    """
    adapter, base = evaluation.correct["adapter+retrieval"], evaluation.correct["base+retrieval"]
    return dg.AssetCheckResult(
        passed=evaluation.questions > 0 and adapter >= base,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"adapter+retrieval": adapter, "base+retrieval": base, "questions": evaluation.questions},
    )


@claim(l2_model.evaluation, blocking=False)
def pack_holds_nine_facts_of_ten(context: dg.AssetCheckExecutionContext, evaluation: Evaluation) -> dg.AssetCheckResult:
    """At least 90 % of golden facts are in the retrieved lines. Held-out questions are made from their lines: no proof."""
    share = evaluation.in_pack / max(1, evaluation.questions)
    return dg.AssetCheckResult(
        passed=share >= 0.9 or evaluation.question_source != "golden",
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"share_in_pack": share, "questions": evaluation.questions},
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


@claim(l1_graph.memory_graph)
def graph_holds_the_known_facts(
    context: dg.AssetCheckExecutionContext, stores: StoresResource, memory_graph: list[Fact]
) -> dg.AssetCheckResult:
    """Of what the tables say, the graph holds every fact and no other."""
    lacking, surplus = differences(stores.stores.graph, context.partition_key, memory_graph)
    return dg.AssetCheckResult(
        passed=not lacking and not surplus,
        metadata={"facts": len(memory_graph), "lacking": lacking[:10], "surplus": surplus[:10]},
    )
