"""A store that is stopped, late or full: chats go on with less or are refused clearly, in time, and nothing is lost.

Belongs here: seconds of each. A minute of each, with the real model: `python -m chaos stops`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from sqlalchemy import make_url

from bench.outage import Talk, Told, ask, lost, seconds_to_recover, wrongs
from chaos.obstacles import SlowProxy, full_disk, paused
from lpm_kernel.records import User
from lpm_kernel.stores import bounded_connection
from lpm_kernel.stores.open import Stores, open_stores
from lpm_kernel.stores.users import add_user
from tests.embedded.fixtures import EngineHome
from tests.fakes import FakeLlm
from tests.twin_serving.conftest import NOTES, make_twin
from tests.twin_serving.test_outage import LINES, QUESTIONS, NoPreferences, home, served

pytestmark = pytest.mark.slow
__all__ = ["home"]

STORE_TIMEOUT_S = 2.0
ANSWER_S = 3.0
PATIENCE_S = 30.0
"""Of a loaded machine; without any bound an answer would take as long as the store is stopped, or 30 s where it is slow."""
SLOW_S = 30.0


@pytest.fixture(scope="module")
def doors(home: EngineHome) -> Iterator[dict[str, SlowProxy]]:
    """In front of each engine, by the variable that holds its address."""
    names = home.settings.stores
    with contextlib.ExitStack() as opened:
        found = dict[str, SlowProxy]()
        for name in (names.redis_url, names.database_url, names.s3_endpoint_url):
            port = make_url(home.environment[name]).port
            assert port
            found[name] = opened.enter_context(SlowProxy(port))
        yield found


@contextlib.contextmanager
def slow(door: SlowProxy) -> Iterator[None]:
    door.delay_s = SLOW_S
    try:
        yield
    finally:
        door.delay_s = 0.0


@pytest.fixture(scope="module")
def talking(
    home: EngineHome, doors: dict[str, SlowProxy], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str, Stores]]:
    """The API's address, whose ways to the engines lead through the doors; a twin, and stores to look with."""
    with contextlib.closing(open_stores(home.settings, home.environment)) as looking, pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounded_connection, "ANSWER_S", ANSWER_S)
        with looking.tables.transaction("nora") as connection:
            add_user(connection, User("nora"))
        user_id = make_twin(looking, "nora", FakeLlm().base_sha256)
        serving = home.settings.serving.model_copy(update={"requests_per_minute": 0})
        recall = home.settings.recall.model_copy(update={"store_timeout_s": STORE_TIMEOUT_S})
        limits = home.settings.limits.model_copy(update={"documents_per_user": 10_000})  # notes are sent all the time
        settings = home.settings.model_copy(update={"serving": serving, "recall": recall, "limits": limits})
        environment = home.environment | {
            name: make_url(home.environment[name]).set(port=door.port).render_as_string(hide_password=False)
            for name, door in doors.items()
        }
        stores = replace(open_stores(settings, environment, prompt=True), preference_head=NoPreferences(looking.embedder))
        stores.warm()
        with served(stores, tmp_path_factory.mktemp("adapters")) as url:
            seconds_to_recover(url, user_id, QUESTIONS[0])
            yield url, user_id, looking


def answers(told: Told) -> bool:
    return told.body["answer"].strip() in LINES or not told.body["answerable"]


@pytest.mark.parametrize(("engine", "missing"), [("falkordb", "facts"), ("seaweedfs", ""), ("postgres", "")])
def test_while_an_engine_is_stopped_everybody_is_told_something_in_time(
    home: EngineHome, talking: tuple[str, str, Stores], engine: str, missing: str
) -> None:
    """Killed it refuses connections; stopped it accepts them and says nothing."""
    url, user_id, looking = talking
    talk = Talk(url, user_id, QUESTIONS, people=3)
    with talk.going_on():
        talk.wait_for_more(3)
        with paused(home.path, engine):
            talk.wait_for_more(6, 120)
        seconds_to_recover(url, user_id, QUESTIONS[0])
        talk.wait_for_more(3)
    assert wrongs(talk.told, NOTES, answers, patience_s=PATIENCE_S) == []
    assert lost(looking, talk) == []
    if missing:
        assert any(told.status == 200 and missing in told.body["degraded"] for told in talk.told)
    if engine == "postgres":
        assert "tables_unavailable" in {told.code for told in talk.told if told.status == 503}


def test_a_graph_that_answers_after_half_a_minute_is_gone_on_without(
    home: EngineHome, talking: tuple[str, str, Stores], doors: dict[str, SlowProxy]
) -> None:
    url, user_id, _ = talking
    with slow(doors[home.settings.stores.redis_url]), httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        told = ask(client, user_id, QUESTIONS[0], "slow-graph")
    assert (told.status, "facts" in told.body["degraded"], answers(told)) == (200, True, True), told
    assert told.seconds < SLOW_S / 2
    seconds_to_recover(url, user_id, QUESTIONS[0])


def test_while_the_tables_answer_after_half_a_minute_everybody_is_told_so_in_time(
    home: EngineHome, talking: tuple[str, str, Stores], doors: dict[str, SlowProxy]
) -> None:
    url, user_id, _ = talking
    asked = [f"/twin/{user_id}/profile", f"/twin/{user_id}/memories", f"/twin/{user_id}/sessions"]
    with slow(doors[home.settings.stores.database_url]), httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        began = time.monotonic()
        told = ask(client, user_id, QUESTIONS[0], "slow-tables")
        heard = [client.get(path) for path in asked]
        took_s = time.monotonic() - began
    assert (told.status, told.code) == (503, "tables_unavailable")
    assert {(one.status_code, one.json()["code"]) for one in heard} == {(503, "tables_unavailable")}
    assert took_s < SLOW_S
    seconds_to_recover(url, user_id, QUESTIONS[0])
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        again = ask(client, user_id, QUESTIONS[0], "slow-tables")
    assert (again.status, answers(again)) == (200, True), "the same request, sent again"


def test_while_the_blobs_answer_after_half_a_minute_uploads_are_refused_in_time_and_chats_go_on(
    home: EngineHome, talking: tuple[str, str, Stores], doors: dict[str, SlowProxy]
) -> None:
    url, user_id, _ = talking
    with slow(doors[home.settings.stores.s3_endpoint_url]), httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        began = time.monotonic()
        files = {"files": ("kiln.md", b"The kiln is in the yard.\n" * 40, "text/markdown")}
        refused = client.post("/upload", data={"user_id": user_id}, files=files)
        told = ask(client, user_id, QUESTIONS[0], "slow-blobs")
        took_s = time.monotonic() - began
    assert (refused.status_code, refused.json()["code"]) == (503, "blob_store")
    assert (told.status, answers(told)) == (200, True)
    assert took_s < SLOW_S
    seconds_to_recover(url, user_id, QUESTIONS[0])


def test_with_a_full_disk_uploads_are_refused_clearly_and_chats_go_on(
    home: EngineHome, talking: tuple[str, str, Stores], tmp_path: Path
) -> None:
    url, user_id, looking = talking
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        note = b"The canteen has a new kettle.\n" * 400

        def send() -> httpx.Response:
            return client.post("/upload", data={"user_id": user_id}, files={"files": ("kettle.md", note, "text/markdown")})

        with full_disk(home.path, "seaweedfs"):
            refused = send()
            told = ask(client, user_id, QUESTIONS[0], "full-disk")
        assert (refused.status_code, refused.json()["code"]) == (503, "blob_store")
        assert "Retry-After" in refused.headers
        assert (told.status, answers(told)) == (200, True)
        deadline = time.monotonic() + 60
        while (taken := send()).status_code != 202:
            assert (taken.status_code, time.monotonic() < deadline) == (503, True), taken.text
            time.sleep(0.3)
        assert taken.json()["files"][0]["status"] == "stored"
    from lpm_kernel.layout import raw_key

    assert looking.blobs.get(raw_key(user_id, taken.json()["files"][0]["sha256"])) == note
