"""`make bench`: every benchmark in turn, on engines of its own. `python -m bench recall` runs one."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from functools import partial

from bench import (
    backfill,
    choose_recall,
    cold_start,
    dao,
    documents,
    engine,
    evaluation,
    fit_stance,
    graph,
    locomo,
    many_users,
    memories,
    outage,
    planner,
    preferences,
    prefeval,
    recall,
    recall_latency,
    scale_out,
    serve,
    social,
    stance,
    training,
    training_bundle,
    voice_rules,
)
from bench.engines import on_engines
from bench.load import run as load
from lpm_kernel.stores.open import Stores

SECTIONS = {
    "recall": recall.run,
    "locomo": locomo.run,
    "recall_latency": recall_latency.run,
    "preferences": preferences.run,
    "memories": memories.run,
    "prefeval": prefeval.run,
    "documents": documents.run,
    "graph": graph.run,
    "engine": engine.run,
    "cold_start": cold_start.run,
    "training": training.run,
    "evaluation": evaluation.run,
}


ON_DEMAND = {
    "choose_recall": choose_recall.run,
    "training_curve": training_bundle.run,
    "backfill": backfill.run,
    "many_users": many_users.run,
    "celery": scale_out.run,
    "dao": dao.run,
    "voice_rules": voice_rules.run,
    "fit_stance": fit_stance.run,
    "stance": stance.run,
    "planner": planner.run,
    "load": load.run,
    "outage": outage.run,
    "serve": serve.run,
    "social": social.run,
}
"""Not part of `make bench`: what they print fits a setting, takes hours, kills engines, or wants a home with nobody else."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION")
    parser.add_argument("--users", type=int, default=100, help="of many_users")
    arguments = parser.parse_args()
    wanted = arguments.sections or list(SECTIONS)
    sections = SECTIONS | ON_DEMAND | {"many_users": partial(many_users.run, users=arguments.users)}
    unknown = set(wanted) - set(sections)
    if unknown:
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(sections)}")

    def run_all(stores: Stores) -> None:
        for name in wanted:
            print(f"\n{name}")
            sections[name](stores)

    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    on_engines(run_all)


if __name__ == "__main__":
    main()
