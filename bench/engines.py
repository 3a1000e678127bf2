"""Engines of a benchmark's own, in a folder that is gone afterwards."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from lpm_kernel.embedded import engines
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.open import Stores, open_stores
from lpm_kernel.stores.tables import upgrade_tables
from twin_assets.home import PROCESS_ENVIRONMENT


def on_engines(work: Callable[[Stores], None]) -> None:
    """Start them, do the work upon them, stop them whatever happens."""
    for name, value in PROCESS_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    settings = load_settings()
    with tempfile.TemporaryDirectory(prefix="twin-bench-") as folder:
        home = Path(folder) / "home"
        environment = engines.start(home, settings)
        try:
            os.environ.update(environment)  # Dagster's resources read them there
            upgrade_tables(environment[settings.stores.migration_database_url])
            stores = open_stores(settings, environment)
            try:
                work(stores)
            finally:
                stores.close()
        finally:
            engines.stop(home)
