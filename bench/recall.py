"""Recall: how often the lines of a prompt hold the fact, ours beside each of its two halves alone, and what a search takes."""

from __future__ import annotations

import statistics
import time

from bench.people import take_in
from lpm_kernel.L2.golden import holds_fact
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.stores.open import Stores

WAYS = {"meaning only": 1.0, "words only": 0.0, "both (ours)": None}


def run(stores: Stores) -> None:
    """Golden questions of both demo people. The settings were chosen on these very questions: no estimate for a new person."""
    print(f"  fact in the {stores.settings.recall.lines} retrieved lines, and milliseconds a question, embedding included")
    print(f"  {'':14} {'way':14} {'in the lines':>14} {'p50 ms':>8} {'p95 ms':>8}")
    for user_id in ("1", "2"):
        person = take_in(stores, user_id)
        for way, share in WAYS.items():
            recall = stores.settings.recall
            if share is not None:
                recall = recall.model_copy(update={"keyword_weight": 1.0 - share})
            held, times_ms = 0, []
            for question in person.golden.questions:
                began = time.perf_counter()
                lines = recall_evidence(user_id, person.generation, question.question, stores.vectors, stores.embedder, recall)
                times_ms.append(1000 * (time.perf_counter() - began))
                held += any(
                    line.citation.filename == question.document and holds_fact(line.text, question.expected) for line in lines
                )
            total = len(person.golden.questions)
            p50, p95 = statistics.median(times_ms), statistics.quantiles(times_ms, n=20)[-1]
            print(f"  {person.user.name or '':14} {way:14} {held:>7}/{total} {held / total:4.0%} {p50:8.1f} {p95:8.1f}")
