"""Training: tokens a second of ours, beside the plain transformers Trainer with the same LoRA, rows, seed and steps."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.people import silent, take_in
from lpm_kernel.artefacts import encode_records
from lpm_kernel.L1.topics import find_topics
from lpm_kernel.L2.base_model import prepare_base
from lpm_kernel.L2.engine import cache_folder
from lpm_kernel.L2.synthesize import synthesize_rows
from lpm_kernel.L2.training_batches import row_counter
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.stores.open import Stores

ROWS = 32


def run(stores: Stores) -> None:
    """Each in a process of its own, so that memory is its own too. Peak memory holds libraries and the base."""
    person = take_in(stores, "1")
    base = prepare_base(stores.settings.models, cache_folder(), silent)
    training = stores.settings.training.model_copy(update={"max_rows": ROWS})
    rows, _ = synthesize_rows(
        person.user,
        person.items,
        find_topics(person.items, person.table, stores.settings.topics),
        training,
        lambda question: recall_evidence(
            "1", person.generation, question, stores.vectors, stores.embedder, stores.settings.recall
        ),
        row_counter(base.hf_dir),
        stores.embedder,
        person.golden,
        silent,
    )
    train = [row for row in rows if row.split == "train"]
    print(f"  {len(train)} rows, rank {training.rank}, batches of {training.batch_rows}, one epoch, {training.threads} threads")
    print(f"  {'':24} {'seconds':>8} {'tokens/s':>9} {'last loss':>10} {'peak MB':>8}")
    with tempfile.TemporaryDirectory(prefix="twin-bench-training-") as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(encode_records(train))
        for name in ("ours", "transformers Trainer"):
            command = [sys.executable, "-m", "bench.training_run", name.split()[-1].lower(), str(path), folder]
            run = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
            if run.returncode:
                sys.exit(f"{name} failed: {run.stderr[-2000:]}")
            print(f"  {name:24} {run.stdout.splitlines()[-1]}")


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
