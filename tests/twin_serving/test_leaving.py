"""A client that waits for a whole answer over HTTP and leaves before it is there: nobody works on for it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from starlette.requests import Request
from starlette.types import Message

from lpm_kernel.erase import delete_user
from lpm_kernel.stores.open import Stores
from tests.paced_llm import PacedLlm, wait_until
from tests.twin_serving.api_server import serve
from tests.twin_serving.conftest import OpenStores
from twin_serving.app import create_app
from twin_serving.deps import Services
from twin_serving.leaving import heard_out

QUESTION = "What is your cat called?"


def chat_of(twin: str) -> tuple[str, dict]:
    return f"/twin/{twin}/chat", {"question": QUESTION}


def completion_of(twin: str) -> tuple[str, dict]:
    return "/v1/chat/completions", {"model": f"twin-{twin}", "messages": [{"role": "user", "content": QUESTION}]}


def send(url: str, path: str, body: dict, headers: Mapping[str, str] | None = None) -> socket.socket:
    """A request whose answer nobody has read by now."""
    host, port = url.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    told = {"Host": host, "Content-Type": "application/json", "Content-Length": str(len(content)), **(headers or {})}
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in told.items()) + "\r\n"
    connection = socket.create_connection((host, int(port)))
    connection.sendall(head.encode() + content)
    return connection


@pytest.mark.parametrize("asked", [chat_of, completion_of])
def test_who_waits_for_json_and_leaves_frees_the_place_and_what_was_said_is_kept(
    stores: Stores, twin: str, tmp_path: Path, asked: Callable[[str], tuple[str, dict]]
) -> None:
    """Four who had left kept the model busy to the end of their answers, one after the other."""
    paced = PacedLlm(pieces=64, piece_s=0.4)
    services = Services(OpenStores(stores), lambda: paced, tmp_path / "adapters")  # type: ignore[arg-type]
    with serve(create_app(lambda: services)) as url:
        open_now = [send(url, *asked(twin)) for _ in range(4)]
        wait_until(lambda: (paced.at_work.total(), services.admission.waiting()) == (2, 2), 60)
        time.sleep(1.0)
        for connection in open_now:
            connection.close()
        began = time.monotonic()
        wait_until(lambda: (services.admission.at_work(), services.admission.waiting()) == (0, 0), 60)
        assert time.monotonic() - began < 12, "an answer takes 25"
        wait_until(lambda: services.admission.booked() == 0, 10)
    with stores.tables.transaction(twin) as connection:
        kept = connection.execute(text("select cut_off, content from chat_message where sender = 'twin'")).all()
    assert [cut_off for cut_off, _ in kept][:2] == [True, True]
    assert all(cut_off for cut_off, _ in kept)
    assert all(1 <= len(content.split()) < 40 for _, content in kept)


def test_work_that_ends_is_returned_and_a_client_that_leaves_ends_it() -> None:
    async def run(leaves: bool, ends: bool = True) -> tuple[str | None, bool]:
        gone, told = anyio.Event(), anyio.Event()
        if leaves:
            gone.set()

        async def receive() -> Message:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def work() -> str:
            with anyio.move_on_after(5 if leaves else 0.01):
                await told.wait()
            return "cut" if told.is_set() else "whole"

        return await heard_out(Request({"type": "http"}, receive), work(), told.set if ends else None), told.is_set()

    assert anyio.run(run, False) == ("whole", False)
    assert anyio.run(run, True) == ("cut", True)
    assert anyio.run(run, True, False) == (None, False), "nobody waits, and the work is not told"


@pytest.mark.parametrize("by", ["this API", "another process", "nobody, for their lease is held"])
def test_who_is_deleted_while_they_ask_another_s_twin_leaves_nothing_there(
    stores: Stores, twin: str, tmp_path: Path, by: str
) -> None:
    """The answer was stored behind the deletion: whoever had that id next found the talk as their own."""
    paced = PacedLlm()
    services = Services(OpenStores(stores), lambda: paced, tmp_path / "adapters")  # type: ignore[arg-type]
    query = text("select sender from chat_message where asker = 'leaving-bob'")

    def left() -> list[str]:
        with stores.tables.transaction(twin) as connection:
            return list(connection.execute(query).scalars())

    with TestClient(create_app(lambda: services)) as api, ThreadPoolExecutor(1) as pool:
        paced.gate.clear()
        try:
            asked = {"question": QUESTION, "asker": "leaving-bob"}
            answer = pool.submit(api.post, f"/twin/{twin}/chat", json=asked)
            wait_until(lambda: paced.at_work.total() == 1, 60)
            assert left() == ["user"]
            if by == "this API":
                assert api.delete("/twin/leaving-bob").status_code == 200
            elif by == "another process":
                delete_user(stores, "leaving-bob", tmp_path / "adapters")
            else:
                with stores.locks.hold("leaving-bob"):
                    assert api.delete("/twin/leaving-bob").json()["code"] == "lease_held"
            kept = by.startswith("nobody")
            assert left() == ["user"] * kept
        finally:
            paced.gate.set()
        answer.result()
        [(_, thread)] = services.turns._turns.values()
        thread.join(60)
        assert left() == ["user", "twin"] * kept
        delete_user(stores, "leaving-bob", tmp_path / "adapters")
