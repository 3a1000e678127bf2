"""The API as a process: what it imports, how it ends, what is kept of an answer that the end cuts."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from lpm_kernel.settings import load_settings
from lpm_kernel.stores.conversations import last_messages
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeLlm
from tests.paced_llm import wait_until
from tests.rules.sources import ROOT
from tests.twin_serving.conftest import OpenStores
from twin_serving.app import create_app
from twin_serving.deps import Services
from twin_serving.server import Server, build_server

NOT_AT_START = {"dagster", "torch", "llama_cpp", "langgraph", "transformers", "pandas", "spacy", "onnxruntime", "graphiti_core"}


class SpeakingLlm(FakeLlm):
    """A word each 50 ms."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.words = words

    def _pieces(self, *about: object, **named: object) -> Iterator[str]:
        for number in range(self.words):
            time.sleep(0.05)
            yield f"word{number} "


@contextmanager
def serving(stores: Stores, folder: Path, llm: FakeLlm, grace_s: float) -> Iterator[tuple[Server, str, threading.Thread]]:
    app = create_app(lambda: Services(OpenStores(stores), lambda: llm, folder))  # type: ignore[arg-type]
    limits = stores.settings.serving.model_copy(update={"stop_grace_s": grace_s})
    server = build_server(app, stores.settings.model_copy(update={"serving": limits}), port=0)
    with running(server) as (url, thread):
        yield server, url, thread


@contextmanager
def running(server: Server) -> Iterator[tuple[str, threading.Thread]]:
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", thread
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def stopped_amid_an_answer(
    stores: Stores, twin: str, folder: Path, llm: FakeLlm, grace_s: float
) -> tuple[str, str | None, httpx.HTTPError | None]:
    """What the listener heard, what was kept, and how the stream broke off, if it did."""
    heard, broke = "", None
    with serving(stores, folder, llm, grace_s) as (server, url, thread), httpx.Client(trust_env=False, timeout=20) as client:
        body, headers = {"question": "Count, please.", "session_id": "s"}, {"Accept": "text/event-stream"}
        with client.stream("POST", f"{url}/twin/{twin}/chat", json=body, headers=headers) as response:
            try:
                for line in response.iter_lines():
                    heard += line + "\n"
                    if "word2" in line:
                        server.should_exit = True  # as its signal handler does
            except httpx.HTTPError as error:
                broke = error
        thread.join(20)
    with stores.tables.transaction(twin) as connection:
        kept = [message.content for message in last_messages(connection, twin, "s", 10) if message.sender == "twin"]
    return heard, kept[0] if kept else None, broke


def test_an_answer_under_way_ends_before_the_process_does(stores: Stores, twin: str, tmp_path: Path) -> None:
    heard, kept, broke = stopped_amid_an_answer(stores, twin, tmp_path, SpeakingLlm(12), grace_s=10)
    assert broke is None
    assert "event: done" in heard
    assert kept == " ".join(f"word{number}" for number in range(12))


def test_an_answer_that_outlasts_the_grace_is_cut_and_what_was_said_is_kept(stores: Stores, twin: str, tmp_path: Path) -> None:
    """The web server cancels what still runs, in the middle of a word: the thread went on and nothing was stored."""
    began = time.monotonic()
    heard, kept, broke = stopped_amid_an_answer(stores, twin, tmp_path, SpeakingLlm(2000), grace_s=0.3)
    assert time.monotonic() - began < 15
    assert broke is not None, "a cut stream must not look like a whole one"
    assert "event: done" not in heard
    assert kept is not None
    words = kept.split()
    assert 3 <= len(words) < 60
    assert words == [f"word{number}" for number in range(len(words))]


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "once"}])
def test_who_waits_for_json_of_a_server_that_ends_is_given_what_was_said(
    stores: Stores, twin: str, tmp_path: Path, headers: dict[str, str]
) -> None:
    with serving(stores, tmp_path, SpeakingLlm(2000), 0.3) as (server, url, thread), ThreadPoolExecutor(1) as pool:
        body = {"question": "Count, please.", "session_id": "s"}
        asked = pool.submit(httpx.post, f"{url}/twin/{twin}/chat", json=body, headers=headers, timeout=20, trust_env=False)
        turns = server._app.state.services.turns
        wait_until(lambda: any(turn.last_number > len("word0 word1") for turn, _ in list(turns._turns.values())), 60)
        server.should_exit = True
        reply = asked.result()
        thread.join(20)
    assert (reply.status_code, reply.json()["cut_off"]) == (200, True)
    assert reply.json()["answer"].startswith("word0 word1")


def test_a_process_that_ends_is_not_ready_any_more(stores: Stores, tmp_path: Path) -> None:
    with serving(stores, tmp_path, FakeLlm(), 1.0) as (server, url, _), httpx.Client(trust_env=False, timeout=20) as client:
        wait_until(lambda: client.get(f"{url}/readyz").json()["status"] == "ready", 30)
        server._app.state.stop.begun = True
        found = client.get(f"{url}/readyz")
    assert (found.status_code, found.json()["status"]) == (503, "stopping")


def test_who_comes_when_all_connections_are_taken_is_told_so_in_the_form_of_every_error(stores: Stores, tmp_path: Path) -> None:
    few = load_settings(overrides={"serving": {"max_connections": 8}})
    app = create_app(lambda: Services(OpenStores(stores), FakeLlm, tmp_path), few)  # type: ignore[arg-type]
    server = build_server(app, few, port=0)
    with running(server) as (url, _), httpx.Client(trust_env=False, timeout=20) as client:
        place = ("127.0.0.1", int(url.rpartition(":")[2]))
        assert client.get(f"{url}/healthz").status_code == 200
        idle = [socket.create_connection(place) for _ in range(8)]
        wait_until(lambda: len(server.server_state.connections) == 9)
        refused, of_openai = client.get(f"{url}/healthz"), httpx.get(f"{url}/v1/models", trust_env=False)
        assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
        assert (refused.json()["code"], of_openai.json()["error"]["code"]) == ("server_full", "server_full")
        assert refused.headers["retry-after"] == "2"
        assert refused.headers["x-request-id"] == refused.json()["request_id"]
        for connection in idle:
            connection.close()
        wait_until(lambda: len(server.server_state.connections) <= 1)
        assert client.get(f"{url}/healthz").status_code == 200


def test_the_api_starts_without_what_only_a_later_request_needs() -> None:
    code = "import json, sys, twin_serving.server; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert NOT_AT_START & set(json.loads(ran.stdout)) == set()
