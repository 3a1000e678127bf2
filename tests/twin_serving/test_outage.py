"""An engine is killed while people chat: clear refusals, honest answers, nothing lost, and no restart of the API.

The long form asks a hundred questions of the real model in each outage: `python -m bench outage`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bench.outage import Talk, Told, engine_away, lost, seconds_to_recover, wrongs
from lpm_kernel.L0.preference_head import Judged, PreferenceHead
from lpm_kernel.L0.sentences import Sentence
from lpm_kernel.records import Message, User
from lpm_kernel.stores.open import Stores, open_stores
from lpm_kernel.stores.tables import upgrade_tables
from lpm_kernel.stores.users import add_user
from tests.embedded.fixtures import EngineHome, running_engines
from tests.fakes import FakeLlm
from tests.twin_serving.conftest import NOTES, make_twin
from twin_serving.app import create_app
from twin_serving.deps import Services
from twin_serving.server import build_server

pytestmark = pytest.mark.slow

LINES = ("My cat is called Pilchard.", "He has one eye.", "I keep the spare key under the third flower pot.")
QUESTIONS = ("What is your cat called?", "Where do you keep the spare key?")
NOTHING_SHOWN = "I was shown nothing."


class ReadingLlm(FakeLlm):
    """Says the first line of the notes that its prompt holds: what it says tells what it was given."""

    def _pieces(self, messages: Sequence[Message], *more: object, **named: object) -> Iterator[str]:
        shown = "\n".join(message.content for message in messages if message.role == "system")
        said = next((line for line in LINES if line in shown), NOTHING_SHOWN)
        yield from (word + " " for word in said.split())


class NoPreferences(PreferenceHead):
    def fit(self) -> None:
        pass

    def judge(self, sentences: Sequence[Sentence]) -> list[Judged]:
        return [Judged(0.0, None, None) for _ in sentences]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHome]:
    with running_engines(tmp_path_factory.mktemp("outage") / "home") as home:
        upgrade_tables(home.environment[home.settings.stores.migration_database_url])
        yield home


@contextmanager
def served(stores: Stores, adapters: Path) -> Iterator[str]:
    """The API over these stores on a real socket, in a thread."""
    server = build_server(create_app(lambda: Services(stores, ReadingLlm, adapters), stores.settings), stores.settings, port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def talking(home: EngineHome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Stores]]:
    """The API's address, a twin, and stores to look with."""
    with contextlib.closing(open_stores(home.settings, home.environment)) as looking:
        with looking.tables.transaction("nora") as connection:
            add_user(connection, User("nora"))
        user_id = make_twin(looking, "nora", FakeLlm().base_sha256)
        # what is heard of preferences is no matter here, and the real head is fitted for ten seconds
        head = NoPreferences(looking.embedder)
        # people who are refused at once ask again at once, more often than one address may
        serving = home.settings.serving.model_copy(update={"requests_per_minute": 0})
        limits = home.settings.limits.model_copy(update={"documents_per_user": 10_000})  # notes are sent all the time
        settings = home.settings.model_copy(update={"serving": serving, "limits": limits})
        stores = replace(open_stores(settings, home.environment, prompt=True), preference_head=head)
        stores.warm()
        with served(stores, tmp_path_factory.mktemp("adapters")) as url:
            seconds_to_recover(url, user_id, QUESTIONS[0])
            yield url, user_id, looking


@pytest.mark.parametrize("engine", ["falkordb", "seaweedfs", "postgres"])
def test_while_an_engine_is_away_nobody_is_told_anything_wrong_and_nothing_is_lost(
    home: EngineHome, talking: tuple[str, str, Stores], engine: str
) -> None:
    url, user_id, looking = talking

    def answers(told: Told) -> bool:
        return told.body["answer"].strip() in LINES or not told.body["answerable"]

    talk = Talk(url, user_id, QUESTIONS, people=3)
    with talk.going_on():
        talk.wait_for_more(3)
        with engine_away(home.path, home.settings, engine):
            talk.wait_for_more(12)
        seconds_to_recover(url, user_id, QUESTIONS[0])
        talk.wait_for_more(6)
    assert wrongs(talk.told, NOTES, answers, patience_s=60) == []  # how long it takes is the benchmark's: machines are busy
    assert lost(looking, talk) == []
    assert talk.sent
    if engine == "postgres":
        assert {told.code for told in talk.told if told.status == 503} == {"tables_unavailable"}
    if engine == "falkordb":
        assert any(told.status == 200 and "facts" in told.body["degraded"] for told in talk.told), "answers go on without facts"
