"""`make bench`: every benchmark in turn, on engines of its own. `python -m bench recall` runs one."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from pathlib import Path

from bench import (
    choose_recall,
    documents,
    engine,
    evaluation,
    graph,
    locomo,
    memories,
    preferences,
    prefeval,
    recall,
    recall_latency,
    training,
)
from lpm_kernel.embedded import engines
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.open import open_stores
from lpm_kernel.stores.tables import upgrade_tables
from twin_assets.home import PROCESS_ENVIRONMENT

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
    "training": training.run,
}


ON_DEMAND = {"choose_recall": choose_recall.run, "evaluation": evaluation.run}
"""Not part of `make bench`: one fits what is set already, the other trains for minutes what `make demo` trains too."""


def main() -> None:
    wanted = sys.argv[1:] or list(SECTIONS)
    sections = SECTIONS | ON_DEMAND
    unknown = set(wanted) - set(sections)
    if unknown:
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(sections)}")
    for name, value in PROCESS_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    settings = load_settings()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="twin-bench-") as folder:
        home = Path(folder) / "home"
        environment = engines.start(home, settings)
        try:
            os.environ.update(environment)  # Dagster's resources read them there
            upgrade_tables(environment[settings.stores.migration_database_url])
            stores = open_stores(settings, environment)
            try:
                for name in wanted:
                    print(f"\n{name}")
                    sections[name](stores)
            finally:
                stores.close()
        finally:
            engines.stop(home)


if __name__ == "__main__":
    main()
