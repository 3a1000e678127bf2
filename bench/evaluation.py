"""The evaluation of the first demo person, with an adapter trained as set, beside the second demo person's memory."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench.people import silent, take_in
from bench.training_rows import make_rows
from lpm_kernel.L0.library import fetch_texts, read_documents
from lpm_kernel.L0.preferences import extract_preferences
from lpm_kernel.L2.base_model import prepare_base
from lpm_kernel.L2.engine import cache_folder
from lpm_kernel.L2.examination import examine_twin
from lpm_kernel.L2.records import ARMS
from lpm_kernel.L2.score_table import difference_lines, leak_lines, score_rows
from lpm_kernel.L2.stages import ConvertRequest, run_conversion, run_training
from lpm_kernel.stores.open import Stores
from twin_assets.training_runs import train_request


def run(stores: Stores) -> None:
    """Questions of the golden file, which no row asks. The settings of retrieval were chosen on these very questions."""
    settings = stores.settings
    count = settings.training.max_rows
    rows, _ = (make_rows(stores, user_id, (count,))[count] for user_id in ("1", "2"))
    person = take_in(stores, "1")
    base = prepare_base(settings.models, cache_folder(), silent)
    began = time.perf_counter()
    adapter = run_training(train_request("1", rows, settings, stores.blobs), stores.blobs, base, silent)
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
