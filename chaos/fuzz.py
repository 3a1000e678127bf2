"""Corrupt documents through the reading, and corrupt requests at the real API: what became of them, counted.

Belongs here: the long form, on engines and an API of its own.
Does not belong here: mutations (`mutate.py`), and what may come of one (`documents.py`, `hostile_requests.py`).
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from bench.api_process import running_api
from chaos.documents import read_mutants, seed_files
from chaos.hostile_requests import codes_in_the_source, hostile_requests, send_all, sound_requests
from chaos.mutate import mutants
from lpm_kernel.embedded import engines
from lpm_kernel.records import User
from lpm_kernel.settings import Settings, load_settings
from lpm_kernel.stores.open import open_stores
from lpm_kernel.stores.tables import upgrade_tables
from lpm_kernel.stores.users import add_user

PDF_SHARE = 0.25
USER = "fuzz"


def run(seed: int, count: int) -> list[str]:
    """What is wrong; empty when nothing crashed, no answer was a failure of the server and every refusal had a name."""
    settings = load_settings()
    return [*_documents(settings, seed, count), *_requests(settings, seed, count)]


def _documents(settings: Settings, seed: int, count: int) -> list[str]:
    began = time.monotonic()
    tally = read_mutants(mutants(seed_files(), seed, count, PDF_SHARE), settings.chunking)
    print(f"{tally.files} documents in {time.monotonic() - began:.0f} s, the slowest {tally.slowest_s:.1f} s")
    print(f"  read {tally.read}, refused {dict(tally.refused.most_common())}")
    print(f"  made by {dict(tally.hows.most_common())}")
    return tally.wrong


def _requests(settings: Settings, seed: int, count: int) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="twin-fuzz-") as name:
        home = Path(name) / "home"
        environment = engines.start(home, settings)
        try:
            upgrade_tables(environment[settings.stores.migration_database_url])
            stores = open_stores(settings, environment)
            with stores.tables.transaction(USER) as connection:
                add_user(connection, User(USER))
            stores.close()
            with running_api(Path(name), environment, requests_per_minute=0, body_timeout_s=0.5) as api:
                began = time.monotonic()
                sounds = sound_requests(USER, list(mutants(seed_files(), seed, 60, PDF_SHARE)))
                port = urlsplit(api.url).port or 0
                answers = send_all(port, hostile_requests(sounds, seed, count), codes_in_the_source())
            print(f"{answers.sent} requests in {time.monotonic() - began:.0f} s")
            print(f"  statuses {dict(answers.statuses.most_common())}")
            print(f"  codes {dict(answers.codes.most_common())}")
            return answers.wrong
        finally:
            engines.stop(home)
