"""The evaluation of the first demo person, with an adapter trained as set, beside the second demo person's memory."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench.people import DATA, Person, silent, take_in
from lpm_kernel.artefacts import encode_records
from lpm_kernel.L0.library import fetch_texts, read_documents
from lpm_kernel.L0.preferences import extract_preferences
from lpm_kernel.L1.topics import find_topics
from lpm_kernel.L2.base_model import prepare_base
from lpm_kernel.L2.engine import cache_folder
from lpm_kernel.L2.examination import examine_twin
from lpm_kernel.L2.records import ARMS, TrainingRow
from lpm_kernel.L2.release import rows_hash
from lpm_kernel.L2.score_table import difference_lines, leak_lines, score_rows
from lpm_kernel.L2.stages import ConvertRequest, TrainRequest, run_conversion, run_training
from lpm_kernel.L2.synthesize import synthesize_rows
from lpm_kernel.L2.training_batches import row_counter
from lpm_kernel.layout import asset_key, golden_key
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.users import add_user


def run(stores: Stores) -> None:
    """Questions of the golden file, which no row asks. The settings of retrieval were chosen on these very questions."""
    person, other = take_in(stores, "1"), take_in(stores, "2")
    rows, _ = _leave(stores, person), _leave(stores, other)
    settings = stores.settings
    base = prepare_base(settings.models, cache_folder(), silent)
    began = time.perf_counter()
    adapter = run_training(TrainRequest("1", rows_hash(rows), settings.training), stores.blobs, base, silent)
    gguf = run_conversion(ConvertRequest("1", adapter), stores.blobs, base, silent)
    print(f"  {adapter.steps} steps in {time.perf_counter() - began:.0f} s, last loss {adapter.loss_curve[-1]:.3f}")
    documents, _ = read_documents(stores.tables, stores.blobs, settings.limits, "1", silent)
    chunks = [item.chunk for item in person.items]
    preferences = extract_preferences(documents, chunks, fetch_texts(chunks, stores.blobs))
    with tempfile.TemporaryDirectory(prefix="twin-bench-evaluation-") as folder:
        report = examine_twin(
            stores, "1", documents, chunks, person.table, rows, preferences, gguf, ["1", "2"], Path(folder), None, silent
        )
    print(f"  {'':29} " + " ".join(f"{arm:>25}" for arm in ARMS))
    for words, cells in score_rows(report):
        print(f"  {words:29} " + " ".join(f"{cell:>25}" for cell in cells))
    print("  adapter+retrieval less base+retrieval, with the interval of 95 %")
    for line in (*difference_lines(report), *leak_lines(report), *(f"not measured: {why}" for why in report.unmeasured)):
        print(f"  {line}")
    print(f"  asked in {report.seconds:.0f} s")


def _leave(stores: Stores, person: Person) -> list[TrainingRow]:
    """The rows of a person, left in the stores as their stage leaves them."""
    user_id = person.user.user_id
    with stores.tables.transaction(user_id) as connection:
        add_user(connection, person.user)
    own = TenantBlobs(stores.blobs, user_id)
    own.put(golden_key(user_id), (DATA / "golden" / f"{user_id}.yaml").read_bytes())
    base = prepare_base(stores.settings.models, cache_folder(), silent)
    rows, _ = synthesize_rows(
        person.user,
        person.items,
        find_topics(person.items, person.table, stores.settings.topics),
        stores.settings.training,
        lambda question: recall_evidence(
            user_id, person.generation, question, stores.vectors, stores.embedder, stores.settings.recall
        ),
        row_counter(base.hf_dir),
        stores.embedder,
        person.golden,
        silent,
    )
    own.put(asset_key(user_id, "training_rows", "jsonl"), encode_records(rows))
    return rows
