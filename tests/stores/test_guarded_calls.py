"""Every server outside is asked through a circuit: while it is open nobody asks, and it is told as one that is away."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from lpm_kernel.errors import StoreError, TwinError
from lpm_kernel.records import Message, User
from lpm_kernel.settings import RetrySettings, Settings
from lpm_kernel.stores import breaker_board
from lpm_kernel.stores.addresses import GraphAddress, OpenAiAddress, WeaviateAddress
from lpm_kernel.stores.blobs import open_s3
from lpm_kernel.stores.breaker import Breaker
from lpm_kernel.stores.gemini_ner import GeminiNer
from lpm_kernel.stores.graph import GraphitiGraph
from lpm_kernel.stores.mem0_cloud import Mem0CloudMemories
from lpm_kernel.stores.modal_compute import ModalCompute
from lpm_kernel.stores.open import Stores, open_stores
from lpm_kernel.stores.openai_client import open_openai
from lpm_kernel.stores.openai_embedder import OpenAiEmbedder
from lpm_kernel.stores.tables import BREAKER as TABLES_BREAKER
from lpm_kernel.stores.tables import Tables
from lpm_kernel.stores.users import add_user
from lpm_kernel.stores.weaviate_client import WeaviateConnection
from lpm_kernel.stores.webhook import Webhook
from lpm_kernel.stores.writer import writer_at
from tests.embedded.fixtures import EngineHome
from tests.fakes import FakeEmbedder, no_progress
from tests.json_server import JsonServer

NOON = datetime(2026, 3, 1, tzinfo=UTC)
SHORTLY = RetrySettings(max_retries=0, delay_s=0.0)
MESSAGES = (Message("user", "hello"),)


class DyingServer(JsonServer):
    """Answers 503 and counts."""

    def __init__(self) -> None:
        self.asked = 0
        super().__init__()

    def respond(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> tuple[int, Any]:
        self.asked += 1
        return 503, {}


def embed(url: str, breaker: Breaker) -> None:
    with open_openai(OpenAiAddress("k", f"{url}/v1")).with_options(max_retries=0) as client:
        OpenAiEmbedder(lambda: client, breaker).embed(["a"])


def write(url: str, breaker: Breaker) -> None:
    with closing(writer_at(OpenAiAddress("k", f"{url}/v1"), "m", breaker)) as writer:
        writer._make_client = lambda: open_openai(OpenAiAddress("k", f"{url}/v1")).with_options(max_retries=0)
        writer.write(MESSAGES, max_tokens=5)


def read_names(url: str, breaker: Breaker) -> None:
    (found,) = GeminiNer("k", "m", base_url=url, retries=0, breaker=breaker).extract(["Ada"])
    if isinstance(found, TwinError):
        raise found


def remember(url: str, breaker: Breaker) -> None:
    tables: Any = None
    with closing(Mem0CloudMemories("k", FakeEmbedder(), tables, host=url, breaker=breaker)) as memories:
        memories.every("ada")


def post(url: str, breaker: Breaker) -> None:
    Webhook(url, None, 5, breaker).post({}, SHORTLY)


def settled(server: DyingServer) -> int:
    """How often it was asked, when nobody's connection is on its way any more."""
    before = -1
    while before != server.asked:
        before = server.asked
        time.sleep(0.3)
    return before


def search_weaviate(url: str, breaker: Breaker) -> None:
    with closing(WeaviateConnection(WeaviateAddress(url, "http://127.0.0.1:1"), breaker)) as weaviate:
        weaviate.client()


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (embed, "embedder_unavailable"),
        (write, "writer_unavailable"),
        (read_names, "gemini_unreachable"),
        (remember, "memories_unavailable"),
        (post, "webhook_unavailable"),
        (search_weaviate, "vectors_unavailable"),
    ],
)
def test_a_server_that_fails_is_left_alone(ask: Callable[[str, Breaker], None], code: str) -> None:
    breaker = Breaker(2, 600.0)
    with DyingServer() as server:
        codes: list[str] = []
        for _ in range(2):
            with pytest.raises(TwinError) as caught:
                ask(server.url, breaker)
            codes.append(caught.value.code)
        asked = settled(server)
        with pytest.raises(TwinError) as caught:
            ask(server.url, breaker)
        assert settled(server) == asked, "nobody asks while it is open"
    assert (codes, breaker.circuit().state) == ([code, code], "open")
    assert caught.value.retryable
    assert caught.value.code in (code, "gemini_resting")
    assert asked >= 2


def opened() -> Breaker:
    breaker = Breaker(1, 600.0)
    breaker.failed()
    return breaker


def test_modal_is_not_asked_either(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lpm_kernel.stores.modal_compute.require_token", lambda: None)
    monkeypatch.setattr("lpm_kernel.L2.stage_calls.encode_call", lambda call: "letter")
    with pytest.raises(TwinError) as caught:
        ModalCompute(settings.models, settings.compute, opened()).run("lora_adapter", None, no_progress)
    assert (caught.value.code, caught.value.retryable) == ("modal_unreachable", True)


def test_a_graph_that_is_away_is_neither_searched_nor_written_nor_waited_for(free_port: int) -> None:
    breaker = Breaker(2, 600.0)
    with closing(GraphitiGraph(lambda: GraphAddress(f"redis://127.0.0.1:{free_port}/0"), FakeEmbedder(), breaker)) as graph:
        for ask in (lambda: graph.list_facts("ada"), graph.check):
            with pytest.raises(StoreError):
                ask()
        assert breaker.circuit().state == "open"
        for ask in (graph.check, lambda: graph.list_facts("ada"), lambda: graph.write_facts("ada", [])):
            with pytest.raises(StoreError) as caught:
                ask()
            assert "a moment ago" in caught.value.message


def test_tables_that_cannot_be_reached_are_left_alone(free_port: int) -> None:
    breaker = Breaker(2, 600.0)
    with closing(Tables(f"postgresql+psycopg://a:b@127.0.0.1:{free_port}/c", breaker=breaker)) as tables:
        told: list[str] = []
        for _ in range(3):
            with pytest.raises(StoreError) as caught, tables.transaction("ada"):
                pass
            assert caught.value.code == "tables_unavailable"
            told.append(caught.value.message)
    assert ["a moment ago" in words for words in told] == [False, False, True]


def cut_off(tables: Tables) -> None:
    """A transaction whose connection another one ends."""
    with tables.transaction("ada") as connection:
        own = connection.execute(text("select pg_backend_pid()")).scalar_one()
        with tables.transaction("ada") as other:
            other.execute(text("select pg_terminate_backend(:pid)"), {"pid": own})
        connection.execute(text("select 1"))


def test_what_the_tables_refuse_is_an_answer_and_a_connection_that_breaks_is_a_failure(
    engine_home: EngineHome, stores: Stores
) -> None:
    breaker = Breaker(1, 600.0)
    url = engine_home.environment[engine_home.settings.stores.database_url]
    with closing(Tables(url, breaker=breaker)) as tables:
        with pytest.raises(StoreError) as caught, tables.transaction("ada") as connection:
            connection.execute(text("select 1 / 0"))
        assert (caught.value.code, breaker.circuit().state) == ("tables_refused", "closed")
        with pytest.raises(StoreError) as caught:
            cut_off(tables)
        assert (caught.value.code, breaker.circuit().state) == ("tables_unavailable", "open")


@pytest.fixture
def locked(engine_home: EngineHome, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Tables, Breaker]]:
    """Tables that people wait for: they give up a lock long before a server."""
    monkeypatch.setattr("lpm_kernel.stores.tables.LOCK_S", 0.2)
    breaker = Breaker(1, 600.0)
    with closing(Tables(engine_home.environment[engine_home.settings.stores.database_url], breaker=breaker)) as tables:
        yield tables, breaker


@pytest.mark.parametrize("operator", [False, True])
def test_a_lock_that_another_holds_is_no_failure_of_the_server(
    stores: Stores, new_user: Callable[[], str], locked: tuple[Tables, Breaker], operator: bool
) -> None:
    """A statement that waited for a row was cut like one to a server that is gone; three of them, and everybody else was told
    that PostgreSQL does not answer."""
    tables, breaker = locked
    user_id = new_user()
    lock = text("select pg_advisory_xact_lock(hashtext('held:' || :user_id))")
    with stores.tables.transaction(user_id) as holder:
        holder.execute(lock, {"user_id": user_id})
        begun = tables.operator_transaction() if operator else tables.transaction(user_id)
        with pytest.raises(StoreError) as caught, begun as waiting:
            waiting.execute(lock, {"user_id": user_id})
    assert (caught.value.code, caught.value.retryable, breaker.circuit().state) == ("tables_locked", True, "closed")
    with tables.transaction(user_id) as connection:
        connection.execute(lock, {"user_id": user_id})


def test_a_row_that_another_changes_is_waited_for_no_longer_and_then_to_be_had(
    stores: Stores, new_user: Callable[[], str], locked: tuple[Tables, Breaker]
) -> None:
    tables, breaker = locked
    user_id = new_user()
    with stores.tables.transaction(user_id) as holder:
        add_user(holder, User(user_id, "Ada"))
    row = text("select 1 from app_user where user_id = :user_id for update")
    with stores.tables.transaction(user_id) as holder:
        holder.execute(row, {"user_id": user_id})
        with pytest.raises(StoreError, match="tables_locked"), tables.transaction(user_id) as waiting:
            waiting.execute(row, {"user_id": user_id})
    with tables.transaction(user_id) as connection:
        assert connection.execute(row, {"user_id": user_id}).scalar_one() == 1
    assert breaker.circuit().state == "closed"


def test_a_stage_waits_for_a_lock_as_long_as_it_takes(stores: Stores, new_user: Callable[[], str]) -> None:
    with stores.tables.transaction(new_user()) as connection:
        assert connection.execute(text("show lock_timeout")).scalar_one() == "0"


def test_an_api_has_a_circuit_for_each_store_and_a_stage_waits_for_tables_and_blobs(engine_home: EngineHome) -> None:
    settings, environ = engine_home.settings, engine_home.environment
    with closing(open_stores(settings, environ, prompt=True)) as prompt, closing(open_stores(settings, environ)) as patient:
        assert {"tables", "blobs", "graph"} <= set(prompt.breakers.circuits())
        assert not {"tables", "blobs"} & set(patient.breakers._held)
        for each in (prompt, patient):
            each.blobs.client.close()  # type: ignore[attr-defined]


def test_the_memories_of_an_api_rest_with_its_tables_and_are_answered_within_the_same_bounds(
    engine_home: EngineHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have connections of their own, on which whoever asked waited for as long as the server was stopped."""
    monkeypatch.setattr(breaker_board, "KEY", f"twin:breakers:{uuid.uuid4().hex}")  # an open circuit is told to every process
    with closing(open_stores(engine_home.settings, engine_home.environment, prompt=True)) as stores:
        breaker = stores.tables.breaker
        assert breaker is not None
        assert stores.memories.search("nobody", "cat", 1, as_of=NOON) == []
        for _ in range(TABLES_BREAKER[0]):
            breaker.failed()
        with pytest.raises(StoreError, match="a moment ago"):
            stores.memories.search("nobody", "cat", 1, as_of=NOON)
        stores.blobs.client.close()  # type: ignore[attr-defined]


def test_two_stores_of_one_process_have_one_circuit_each(engine_home: EngineHome) -> None:
    from lpm_kernel.stores.addresses import read_addresses
    from lpm_kernel.stores.breaker import Breakers

    breakers = Breakers()
    blobs = open_s3(read_addresses(engine_home.settings, engine_home.environment), prompt=True, breakers=breakers)
    try:
        blobs.check()
        assert list(breakers.circuits()) == ["blobs"]
    finally:
        blobs.client.close()
