"""A few random kills while people upload, ask, propose and vote: nothing acknowledged is lost, nothing is there twice.

The long form, with Dagster's daemon and real training: `make chaos`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from chaos.acknowledged import Book, Talk
from chaos.agree import differences
from chaos.killer import carry_out, plan
from chaos.kills import settings_in, wait_for_api
from chaos.person import Rhythm, crowd
from chaos.targets import engine_targets
from lpm_kernel.L0.library import read_documents
from lpm_kernel.records import User
from lpm_kernel.stores.documents import list_documents
from lpm_kernel.stores.open import Stores, open_stores
from lpm_kernel.stores.tables import upgrade_tables
from lpm_kernel.stores.users import add_user
from tests.chaos.watched import Watched
from tests.embedded.fixtures import EngineHome, running_engines
from tests.fakes import FakeLlm, no_progress
from tests.twin_serving.conftest import make_twin

pytestmark = pytest.mark.slow

PEOPLE = ("ada", "bo", "cy", "dee", "eve")
KILLS = 8
SEED = 7


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHome]:
    with running_engines(tmp_path_factory.mktemp("chaos") / "home") as home:
        upgrade_tables(home.environment[home.settings.stores.migration_database_url])
        yield home


@pytest.fixture
def stores(home: EngineHome) -> Iterator[Stores]:
    with closing(open_stores(home.settings, home.environment)) as stores:
        yield stores


def wait_for_some(book: Book) -> None:
    deadline = time.monotonic() + 120
    while min(len(book.documents), len(book.talks), len(book.proposals), len(book.ballots)) < 3:
        assert time.monotonic() < deadline, (book.counts(), book.told)
        time.sleep(0.05)


def test_after_random_kills_every_store_agrees_and_nothing_acknowledged_is_lost(
    home: EngineHome, stores: Stores, tmp_path: Path, free_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for user_id in PEOPLE:
        with stores.tables.transaction(user_id) as connection:
            add_user(connection, User(user_id, user_id.title()))
        make_twin(stores, user_id, FakeLlm().base_sha256)
    url = f"http://127.0.0.1:{free_port}"
    environment = {**os.environ, **home.environment, "TWIN_HOME": str(home.path)}
    api = Watched(
        [sys.executable, "-m", "tests.chaos.api", str(free_port), str(tmp_path / "adapters")], environment, tmp_path / "api.log"
    )
    reader = Watched([sys.executable, "-m", "tests.chaos.reader", *PEOPLE], environment, tmp_path / "reader.log")
    book, ended = Book(), threading.Event()
    with api, reader:
        wait_for_api(url)
        people = crowd(PEOPLE, url, SEED, Rhythm(documents=6, proposals=4, pause_s=0.15), book, ended)
        targets = {**engine_targets(home.path), "api": api.pids, "worker": reader.pids}
        for person in people:
            person.start()
        try:
            wait_for_some(book)  # so that there is something to lose
            deeds = carry_out(plan(SEED, KILLS, sorted(targets), mean_s=2.5), targets, threading.Event(), print)
        finally:
            ended.set()
            for person in people:
                person.join(120)
        home.start()
        wait_for_api(url)
        for person in people:
            person.ended = threading.Event()
            person.settle(url)
    assert len(deeds) == KILLS
    assert {deed.kind for deed in deeds} == set(targets)
    assert api.starts > 1
    for user_id in PEOPLE:
        read_documents(stores.tables, stores.blobs, home.settings.limits, user_id, no_progress)
        with stores.tables.transaction(user_id) as connection:
            assert {row.status for row in list_documents(connection, user_id)} == {"read"}
    assert differences(stores, book, PEOPLE) == []
    assert "kill -9 no." in capsys.readouterr().out


def test_what_is_lost_or_twice_is_found(home: EngineHome, stores: Stores) -> None:
    """A comparison that finds nothing must be one that could."""
    with stores.tables.transaction("zoe") as connection:
        add_user(connection, User("zoe"))
    book = Book(
        documents={("zoe", "ab" * 32): b"never stored"},
        talks=[Talk("zoe", "s", "Who?", "Me.")],
        proposals={"Never proposed": "no-such-id"},
        ballots={("zoe", "no-such-id"): "for"},
        wrong=["upload of zoe: 500"],
    )
    found = differences(stores, book, ["zoe"])
    for told in ("has no row", "question of session", "answer of session", "'Never proposed' is lost", "ballot of zoe", "500"):
        assert any(told in each for each in found), (told, found)


def test_a_hundred_kills_are_survived_by_twins_that_sensors_build(tmp_path: Path) -> None:
    """The settings are those of benchmarks, whose sensors are off: nobody had a twin, and every chaos failed."""
    with settings_in(tmp_path) as (_, settings):
        assert settings.automation.switches.users_sensor
        assert settings.automation.switches.catch_up_sensor


def test_the_plan_is_the_seeds() -> None:
    kinds = ["api", "postgres", "worker"]
    assert list(plan(1, 30, kinds, 2.0)) == list(plan(1, 30, kinds, 2.0)) != list(plan(2, 30, kinds, 2.0))
    counts = [sum(blow.kind == kind for blow in plan(1, 30, kinds, 2.0)) for kind in kinds]
    assert counts == [10, 10, 10]
