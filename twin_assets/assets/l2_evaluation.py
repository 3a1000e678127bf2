"""The evaluation: what a twin knows, before it may be released.

Belongs here: the one asset, and its figures for the UI.
Does not belong here: asking and counting (`lpm_kernel/L2`), and promoting (`release.py`).
"""

from dataclasses import replace
from typing import Any

import dagster as dg

from lpm_kernel.artefacts import encode_record
from lpm_kernel.L2.engine import adapter_folder
from lpm_kernel.L2.examination import examine_twin
from lpm_kernel.L2.records import ARMS, Evaluation, GgufAdapter, TrainingRow
from lpm_kernel.L2.score_table import markdown_report
from lpm_kernel.records import Chunk, Document, EmbeddingTable, VoiceProfile, sha256_hex
from twin_assets.resources import StoresResource, writing_cost
from twin_assets.stages import Made, progress_of, stage


@stage(group="l2", io_manager_key="json", code_version="2", kinds={"s3", "gguf"}, pool="training")
def evaluation(
    context: dg.AssetExecutionContext,
    stores: StoresResource,
    raw_documents: list[Document],
    chunks: list[Chunk],
    embeddings: EmbeddingTable,
    voice_profile: VoiceProfile,
    training_rows: list[TrainingRow],
    gguf_adapter: GgufAdapter,
) -> Made:
    """What the twin knows, counted through the engine that serves it: golden questions (or rows of held-out documents) to the
    person and about them, preferences, vague requests, generic advice, and what no document answers, asked as base and as twin,
    each without and with retrieved lines, with intervals; how near the answers are in voice; and whether anything of other
    people is known. Read by `twin_release`."""
    report = examine_twin(
        stores.stores,
        context.partition_key,
        raw_documents,
        chunks,
        embeddings,
        training_rows,
        voice_profile.preferences,
        gguf_adapter,
        context.instance.get_materialized_partitions(dg.AssetKey("training_rows")),  # whoever only talks has nothing to leak
        adapter_folder(),
        stores.stores.writer,
        progress_of(context),
    )
    writer = stores.stores.writer if report.judged else None
    metadata = {**_figures(report), **writing_cost(writer, stores.stores.settings.models)}
    return Made(report, metadata=metadata, version=sha256_hex(encode_record(replace(report, seconds=0.0))))


def _figures(report: Evaluation) -> dict[str, Any]:
    """A number a measure and arm, which plots over materializations, and the whole table."""
    total = report.questions
    return {
        "question_source": report.question_source,
        "questions": total,
        **({f"share_{arm}": report.correct[arm] / total for arm in ARMS} if total else {}),
        **({"share_in_pack": report.in_pack / total} if total else {}),
        **{f"declined_{arm}": report.declined[arm] for arm in ARMS},
        "unanswerable": report.unanswerable,
        **{f"{score.measure} {score.arm}": score.right / score.asked for score in report.scores if score.asked},
        **{f"leak {leak.probe}": leak.found for leak in report.leaks},
        **({"judged better": judged.wins, "judged worse": judged.losses} if (judged := report.judged) else {}),
        "report": dg.MetadataValue.md(markdown_report(report)),
    }
