"""Each store stopped for a minute, and the blob store's disk full, while people talk with the twin and send notes.

Belongs here: the long form, with the real model and an API of its own. Tests do the same for seconds.
Does not belong here: the obstacles (`obstacles.py`), and engines that are killed (`bench/outage.py`).
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from bench.api_process import running_api
from bench.outage import Talk, lost, seconds_to_recover, stands_in, wrongs
from bench.people import silent
from bench.served import serve_person
from chaos.obstacles import full_disk, paused
from lpm_kernel.embedded import engines
from lpm_kernel.L2.base_model import prepare_base
from lpm_kernel.L2.engine import cache_folder
from lpm_kernel.layout import text_key
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.documents import list_documents
from lpm_kernel.stores.open import Stores, open_stores
from lpm_kernel.stores.tables import upgrade_tables

SECONDS = 60.0
PATIENCE_S = 45.0
"""A statement is given up after 25 s, and its connection made anew."""
USER = "1"


def run(seconds: float = SECONDS) -> list[str]:
    """What is wrong; empty where everybody was answered, with less or by a clear refusal, and nothing was lost."""
    settings = load_settings()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="twin-stops-") as name:
        home = Path(name) / "home"
        environment = engines.start(home, settings)
        try:
            upgrade_tables(environment[settings.stores.migration_database_url])
            stores = open_stores(settings, environment)
            questions = serve_person(stores, USER, USER, prepare_base(settings.models, cache_folder(), silent), 0)
            notes = _notes(stores)
            with running_api(Path(name), environment, requests_per_minute=0) as api:
                for engine in engines.ENGINES:
                    stopped = partial(paused, home, engine)
                    wrong += _talk_through(f"{engine} stopped", stopped, stores, api.url, questions, notes, seconds)
                full = partial(full_disk, home, "seaweedfs")
                wrong += _talk_through("disk of seaweedfs full", full, stores, api.url, questions, notes, seconds)
            stores.close()
        finally:
            engines.stop(home)
    return wrong


def _notes(stores: Stores) -> str:
    with stores.tables.transaction(USER) as connection:
        read = [document for document in list_documents(connection, USER) if document.status == "read"]
    return "".join(stores.blobs.get(text_key(USER, document.sha256)).decode() for document in read)


def _talk_through(
    what: str,
    obstacle: Callable[[], AbstractContextManager[None]],
    stores: Stores,
    url: str,
    questions: list[str],
    notes: str,
    seconds: float,
) -> list[str]:
    talk = Talk(url, USER, questions)
    with talk.going_on():
        talk.wait_for_more(4)
        with obstacle():
            time.sleep(seconds)
        back_s = seconds_to_recover(url, USER, questions[0])
        talk.wait_for_more(4)
    wrong = wrongs(talk.told, notes, partial(stands_in, notes), PATIENCE_S) + lost(stores, talk)
    whole = sum(told.status == 200 and not told.body["degraded"] for told in talk.told)
    poorer = sum(told.status == 200 and bool(told.body["degraded"]) for told in talk.told)
    refused = Counter(told.code for told in talk.told if told.status != 200)
    longest = max(told.seconds for told in talk.told)
    print(f"{what} for {seconds:.0f} s: {len(talk.told)} questions, {whole} whole, {poorer} with less, refused {dict(refused)}")
    print(
        f"  longest {longest:.1f} s, back after {back_s:.1f} s; notes kept {len(talk.sent)}, refused {dict(talk.refused_notes)}"
    )
    return [f"{what}: {each}" for each in wrong]
