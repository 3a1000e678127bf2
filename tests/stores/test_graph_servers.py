"""The graph on its servers: chosen by URL, lost and found again, refused, and quiet about its library."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lpm_kernel.errors import SettingsError, StoreError
from lpm_kernel.records import Fact
from lpm_kernel.settings import Settings
from lpm_kernel.stores.addresses import GraphAddress, read_graph_address
from lpm_kernel.stores.graph import GraphCount, GraphitiGraph, WriteCount
from lpm_kernel.stores.graph_falkordb import FalkorServer
from lpm_kernel.stores.graph_neo4j import Neo4jServer
from lpm_kernel.stores.graph_servers import open_server
from tests.contracts.test_graph import EMBEDDER, NOON, authored, day, search, texts_of, twin
from tests.embedded.fixtures import EngineHome, running_engines
from tests.fakes import FakeEmbedder


@pytest.fixture(scope="module")
def falkor(engine_home: EngineHome) -> Iterator[GraphitiGraph]:
    graph = GraphitiGraph(lambda: GraphAddress(engine_home.redis_url), EMBEDDER)
    yield graph
    graph.close()


def test_a_neo4j_that_is_named_holds_the_facts_of_any_profile_but_the_embedded(
    settings: Settings, engine_home: EngineHome
) -> None:
    """A NEO4J_URI that a shell exported for another program took the facts of the embedded profile there."""
    environment = engine_home.environment
    named = {
        **environment,
        "NEO4J_URI": "neo4j://n:1",
        "NEO4J_PASSWORD": "s3cret",
        "NEO4J_USERNAME": "u",
        "NEO4J_DATABASE": "d",
    }
    embedded, cloud = settings, settings.model_copy(update={"profile": "cloud"})
    for chosen, environ in ((embedded, environment), (embedded, named), (cloud, environment)):
        assert read_graph_address(chosen, environ) == GraphAddress(engine_home.redis_url)
    address = read_graph_address(cloud, named)
    assert address == GraphAddress("neo4j://n:1", "u", "s3cret", "d")
    assert "s3cret" not in repr(address)


def test_a_server_that_hangs_keeps_a_search_for_no_longer_than_a_person_waits(
    monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    """It took connections and said nothing: the client waits for 30 seconds, twice."""
    monkeypatch.setattr("lpm_kernel.stores.graph.SEARCH_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", free_port)):
        graph = GraphitiGraph(lambda: GraphAddress(f"redis://127.0.0.1:{free_port}/0"), EMBEDDER)
        with pytest.raises(StoreError) as caught:
            search(graph, "ada", "red cat")
        graph.close()
    assert (caught.value.code, caught.value.retryable) == ("graph_unavailable", True)


def test_a_chain_that_a_killed_writer_left_open_is_closed_by_the_next_try(falkor: GraphitiGraph) -> None:
    tenant = f"graph-{uuid.uuid4().hex}"
    facts = [twin(tenant, "one", 0), twin(tenant, "two", 5)]
    group = falkor.group_of(tenant)
    falkor.write_facts(tenant, facts)

    async def reopen(transaction: object, driver: object) -> None:
        await transaction.run("MATCH ()-[e:RELATES_TO]->() SET e.invalid_at = NULL, e.expired_at = NULL")  # type: ignore[attr-defined]

    falkor._loop.run(falkor.server.write(group, reopen))
    assert falkor.write_facts(tenant, facts) == WriteCount(written=0, kept=2)
    assert falkor.list_facts(tenant)[0].invalid_at == day(5)
    falkor.delete_user(tenant)


def test_another_model_finds_a_group_of_its_own_and_deleting_reaches_both(
    engine_home: EngineHome, falkor: GraphitiGraph
) -> None:
    tenant = f"graph-{uuid.uuid4().hex}"
    other = GraphitiGraph(lambda: GraphAddress(engine_home.redis_url), FakeEmbedder())
    falkor.write_facts(tenant, [authored(tenant, "red cat")])
    assert other.count(tenant) == GraphCount(0, 0)
    other.write_facts(tenant, [authored(tenant, "red cat")])
    assert (
        len(other.search_facts(tenant, "cat", FakeEmbedder().embed(["cat"])[0], since=NOON, at=NOON, k=5, keyword_weight=0.3))
        == 1
    )
    falkor.delete_user(tenant)
    assert other.count(tenant) == falkor.count(tenant) == GraphCount(0, 0)
    other.close()
    other.close()
    assert other.count(tenant).facts == 0, "closed, it opens again"
    other.close()


def test_it_can_be_asked_from_inside_a_running_loop(falkor: GraphitiGraph) -> None:
    async def ask() -> int:
        return falkor.count("nobody").facts

    assert asyncio.run(ask()) == 0


def test_the_url_chooses_the_server() -> None:
    assert isinstance(open_server(GraphAddress("redis://:x@localhost:1/0")), FalkorServer)
    for scheme in ("neo4j", "neo4j+s", "bolt", "bolt+ssc"):
        assert isinstance(open_server(GraphAddress(f"{scheme}://localhost:1")), Neo4jServer)
    with pytest.raises(SettingsError) as caught:
        open_server(GraphAddress("http://user:secret@localhost"))
    assert caught.value.code == "graph_url_unknown"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://:secret@127.0.0.1:{port}/0", "bolt://127.0.0.1:{port}"])
def test_a_server_that_is_not_there_may_be_asked_again_later(url: str, free_port: int) -> None:
    graph = GraphitiGraph(lambda: GraphAddress(url.format(port=free_port), password="secret"), EMBEDDER)
    try:
        with pytest.raises(StoreError) as caught:
            graph.list_facts("ada")
    finally:
        graph.close()
    assert (caught.value.code, caught.value.retryable) == ("graph_unavailable", True)
    assert "secret" not in str(caught.value)


def test_a_wrong_password_is_refused_for_good(engine_home: EngineHome) -> None:
    graph = GraphitiGraph(lambda: GraphAddress(engine_home.redis_url.replace("redis://:", "redis://:x")), EMBEDDER)
    with pytest.raises(StoreError) as caught:
        graph.list_facts("ada")
    graph.close()
    assert (caught.value.code, caught.value.retryable) == ("graph_refused", False)


def answer_of(ask: Callable[[], list[Fact]], seconds: float = 60) -> list[Fact]:
    """Of a server that is on its way back: what it says once it says something."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except StoreError as error:
            if not error.retryable or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


@pytest.mark.slow
def test_a_killed_engine_is_found_again_with_every_fact_and_index(tmp_path: Path) -> None:
    import redis

    with running_engines(tmp_path / "home") as home:
        graph = GraphitiGraph(lambda: GraphAddress(home.redis_url), EMBEDDER)
        graph.write_facts("ada", [authored("ada", "red cat"), twin("ada", "one", 0), twin("ada", "two", 5)])
        before = graph.list_facts("ada")
        with redis.Redis.from_url(home.redis_url) as client:
            os.kill(int(client.info("server")["process_id"]), signal.SIGKILL)  # type: ignore[index]
        assert answer_of(lambda: graph.list_facts("ada")) == before
        assert texts_of(search(graph, "ada", "red cat"))[0] == "red cat"
        assert graph.write_facts("ada", [twin("ada", "three", 9)]) == WriteCount(1, 0)
        graph.close()


def test_graphiti_is_imported_without_telemetry_and_without_reading_an_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=stray\nEMBEDDING_DIM=7\n")
    code = """
import os
from lpm_kernel.stores.graphiti_clients import import_graphiti
import_graphiti(384)
from graphiti_core.embedder.client import EMBEDDING_DIM
from graphiti_core.telemetry.telemetry import is_telemetry_enabled
print(EMBEDDING_DIM, is_telemetry_enabled(), os.environ.get("OPENAI_API_KEY"), os.environ.get("EMBEDDING_DIM"))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop("OPENAI_API_KEY", None)
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.stdout.split() == ["384", "False", "None", "None"], run.stderr
