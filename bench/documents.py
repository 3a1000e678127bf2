"""Documents: a person's notes through L0 and L1 as Dagster runs them, and again with nothing and with one of them changed.

The 69 notes of ../shared/data/documents/simonw_til; skipped where they are not.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import dagster as dg

from lpm_kernel.artefacts import decode_records, decode_table
from lpm_kernel.L0.embed import chunk_texts
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.L0.library import fetch_texts
from lpm_kernel.L1.topics import find_topics
from lpm_kernel.layout import asset_key
from lpm_kernel.records import Chunk, Topic, User
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.open import Stores
from twin_assets.definitions import build_defs
from twin_assets.peak_memory import PeakMemory
from twin_assets.people import register_user

NOTES = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "documents" / "simonw_til"
USER = "til"
STAGES = (
    *("raw_documents", "chunks", "embeddings", "entities"),
    *("topics", "shades", "biography", "salience", "communities"),
)


def run(stores: Stores) -> None:
    """Assets and their checks in this process; engines are processes of their own. The first run loads the models too."""
    files = sorted(NOTES.glob("*.md"))
    if not files:
        print("  skipped: ../shared/data/documents/simonw_til is not here")
        return
    with tempfile.TemporaryDirectory(prefix="twin-bench-dagster-") as folder, dg.DagsterInstance.ephemeral(folder) as instance:
        register_user(stores, instance, User(USER, "Simon"))
        for path in files:
            receive_document(stores.tables, stores.blobs, stores.settings.limits, USER, path.name, path.read_bytes())
        first = _materialize(stores, instance)
        again = _materialize(stores, instance)
        changed = files[0].read_bytes() + b"\n\nI came back to this note and would do it the same way today.\n"
        receive_document(stores.tables, stores.blobs, stores.settings.limits, USER, files[0].name, changed)
        one = _materialize(stores, instance)
    agreement, share = _agreement(stores, one)
    size = sum(path.stat().st_size for path in files)
    print(
        f"  {len(files)} notes, {size / 1000:.0f} kB, {first['chunks', 'dagster/partition_row_count']} chunks; seconds a stage"
    )
    print(f"  {'':16} {'all new':>9} {'nothing changed':>17} {'one note changed':>18}")
    for name in STAGES:
        print(f"  {name:16} {first[name, 'seconds']:9.1f} {again[name, 'seconds']:17.1f} {one[name, 'seconds']:18.1f}")
    whole = [sum(taken[name, "seconds"] for name in STAGES) for taken in (first, again, one)]
    print(f"  {'stages':16} {whole[0]:9.1f} {whole[1]:17.1f} {whole[2]:18.1f}")
    walls = [taken["run", "seconds"] for taken in (first, again, one)]
    print(f"  {'with checks':16} {walls[0]:9.1f} {walls[1]:17.1f} {walls[2]:18.1f}")
    print(f"  {'documents/s':16} {len(files) / whole[0]:9.2f} {len(files) / whole[1]:17.2f} {len(files) / whole[2]:18.2f}")
    print(
        f"  {first['topics', 'topics']} topics, {first['shades', 'shades']} shades, {first['biography', 'lines']} lines of the "
        f"biography, {first['communities', 'communities']} communities; of the chunks {first['topics', 'misc_share']:.1%} are "
        f"in no topic, {first['communities', 'misc_share']:.1%} in no community"
    )
    print(
        f"  with one note changed {one['topics', 'ids_kept']} of {first['topics', 'topics']} topics and "
        f"{one['communities', 'ids_kept']} of {first['communities', 'communities']} communities kept their ids"
    )
    print(f"  its topics beside all chunks grouped anew: adjusted Rand index {agreement:.3f}, at {share:.1%} of the pairs")
    peak_gb = max(taken["run", "peak_gb"] for taken in (first, again, one))
    print(f"  peak memory of this process: {peak_gb:.2f} GB")


def _materialize(stores: Stores, instance: dg.DagsterInstance) -> dict[tuple[str, str], float]:
    """The figures of every stage, by its name and theirs; of the whole run under `run`."""
    job = build_defs(stores.settings).resolve_job_def("twin_job")
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    began = time.perf_counter()
    with PeakMemory(()) as memory:
        result = job.execute_in_process(
            instance=instance,
            partition_key=USER,
            asset_selection=[dg.AssetKey(name) for name in STAGES],
            run_config=quiet,
        )
    figures = {("run", "seconds"): time.perf_counter() - began, ("run", "peak_gb"): memory.peak_bytes / 1e9}
    for name in STAGES:
        (event,) = result.asset_materializations_for_node(name)
        figures |= {(name, key): value.value for key, value in event.metadata.items()}
    failed = [check.check_name for check in result.get_asset_check_evaluations() if not check.passed]
    assert not failed, failed
    return figures


def _agreement(stores: Stores, figures: dict[tuple[str, str], float]) -> tuple[float, float]:
    """Of the stored topics with those of a full grouping; and the pairs compared, of all pairs."""
    from sklearn.metrics import adjusted_rand_score

    blobs = TenantBlobs(stores.blobs, USER)
    chunks = decode_records(blobs.get(asset_key(USER, "chunks", "jsonl")), Chunk)
    table = decode_table(blobs.get(asset_key(USER, "embeddings", "parquet")))
    stored = decode_records(blobs.get(asset_key(USER, "topics", "jsonl")), Topic)
    full = find_topics(chunk_texts(chunks, fetch_texts(chunks, stores.blobs)), table, stores.settings.topics)
    topic_of = [{chunk_id: topic.topic_id for topic in topics for chunk_id in topic.chunk_ids} for topics in (stored, full)]
    one, other = ([of[chunk_id] for chunk_id in table.chunk_ids] for of in topic_of)
    pairs = len(chunks) * (len(chunks) - 1) / 2
    return float(adjusted_rand_score(one, other)), figures["topics", "pairs_compared"] / pairs
