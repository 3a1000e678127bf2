"""A question that comes again, over HTTP: it is stored once, and answered once where the client gave it a key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from lpm_kernel.errors import LlmError
from lpm_kernel.stores.memory_writes import list_memory_writes
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeLlm
from tests.paced_llm import PacedLlm, wait_until
from tests.twin_serving.api_server import serve
from tests.twin_serving.conftest import OpenStores
from tests.twin_serving.event_stream import read_events
from tests.twin_serving.test_leaving import send
from tests.twin_serving.test_too_many import code_of
from twin_serving.app import create_app
from twin_serving.deps import Services

CAT, GREETING = "What is your cat called?", "Good morning to you!"
"""The notes answer the first, and no line of them the second."""
KEY = {"Idempotency-Key": "once"}


@contextmanager
def busy(stores: Stores, paced: PacedLlm, twin: str, folder: Path, **serving: Any) -> Iterator[tuple[TestClient, Services]]:
    """An API where both places of the twin are at work for long, and a question waits 0.2 s for one."""
    settings = stores.settings.model_copy(
        update={"serving": stores.settings.serving.model_copy(update={"wait_s": 0.2, **serving})}
    )
    own = OpenStores(replace(stores, settings=settings))
    services = Services(own, lambda: paced, folder / "adapters")  # type: ignore[arg-type]
    with TestClient(create_app(lambda: services), raise_server_exceptions=False) as api, ThreadPoolExecutor(2) as pool:
        paced.gate.clear()
        held = [pool.submit(api.post, f"/twin/{twin}/chat", json={"question": CAT}) for _ in range(2)]
        wait_until(lambda: services.admission.at_work() == 2, 60)
        try:
            yield api, services
        finally:
            paced.gate.set()
            assert [one.result().status_code for one in held] == [200, 200]


def said_in(stores: Stores, twin: str, session_id: str) -> list[tuple[str, str]]:
    query = "select sender, content from chat_message where session_id = :session order by position"
    with stores.tables.transaction(twin) as connection:
        return [(row.sender, row.content) for row in connection.execute(text(query), {"session": session_id})]


def changes_of(stores: Stores, twin: str) -> list[tuple[int, int]]:
    """Of each memory change of this twin the turn that it names and its place in the order of all."""
    query = "select (reference->>'turn')::int as turn, seq from change where kind = 'remember_message' order by seq"
    with stores.tables.transaction(twin) as connection:
        return [(row.turn, row.seq) for row in connection.execute(text(query))]


def waiting_writes(stores: Stores, twin: str) -> int:
    with stores.tables.transaction(twin) as connection:
        return len(list_memory_writes(connection, twin))


def test_who_waits_in_vain_for_the_model_is_told_the_best_line(stores: Stores, twin: str, tmp_path: Path) -> None:
    """After a minute the answer was 503, and the question was stored: who obeyed Retry-After had asked twice."""
    with busy(stores, PacedLlm(), twin, tmp_path) as (api, _):
        reply = api.post(f"/twin/{twin}/chat", json={"question": CAT, "session_id": "s"})
    assert reply.status_code == 200, reply.text
    assert {"adapter", "base"} <= set(reply.json()["degraded"])
    assert "Pilchard" in reply.json()["answer"]
    assert said_in(stores, twin, "s") == [("user", CAT), ("twin", reply.json()["answer"])]


@pytest.mark.parametrize("headers", [{}, KEY])
def test_where_no_line_answers_either_it_is_refused_and_asked_again_stands_once(
    stores: Stores, twin: str, tmp_path: Path, headers: dict[str, str]
) -> None:
    paced = PacedLlm()
    question = {"question": GREETING, "session_id": "s"}
    with busy(stores, paced, twin, tmp_path) as (api, services):
        for _ in range(2):
            refused = api.post(f"/twin/{twin}/chat", json=question, headers=headers)
            assert (refused.status_code, code_of(refused)) == (503, "engine_busy")
            assert int(refused.headers["retry-after"]) >= 1
        paced.gate.set()
        wait_until(lambda: services.admission.at_work() == 0, 60)
        reply = api.post(f"/twin/{twin}/chat", json=question, headers=headers)
    assert reply.status_code == 200
    assert said_in(stores, twin, "s") == [("user", GREETING), ("twin", reply.json()["answer"])]
    assert waiting_writes(stores, twin) <= 3, "of the two that were at work, and this one"


def test_what_was_answered_may_be_asked_again(client: TestClient, twin: str, llm: FakeLlm, stores: Stores) -> None:
    llm.answers.extend(["Pilchard.", "Pilchard, still."])
    for _ in range(2):
        client.post(f"/twin/{twin}/chat", json={"question": CAT, "session_id": "s"})
    assert [content for _, content in said_in(stores, twin, "s")] == [CAT, "Pilchard.", CAT, "Pilchard, still."]


@pytest.mark.parametrize("session", [{}, {"session_id": "s"}])
def test_a_question_with_a_key_is_answered_once(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path, session: dict[str, str]
) -> None:
    """A client whose connection broke off before it heard the answer could only ask, and be stored, again."""
    llm.answers.extend(["Pilchard.", "never asked"])
    body = {"question": CAT, **session}
    replies = []
    for _ in range(2):  # two processes, so that nothing is left in memory
        app = create_app(partial(Services, OpenStores(stores), lambda: llm, tmp_path))  # type: ignore[arg-type]
        with TestClient(app) as api:
            replies.append(api.post(f"/twin/{twin}/chat", json=body, headers=KEY).json())
            replies.append(api.post(f"/twin/{twin}/chat", json=body, headers=KEY).json())
            stream = api.post(f"/twin/{twin}/chat", json=body, headers={**KEY, "Accept": "text/event-stream"})
            [done] = [event for event in read_events(stream.content) if event.name == "done"]
            replies.append(json.loads(done.data))
    for name in ("answer", "message_id", "session_id", "answerable"):
        assert len({reply[name] for reply in replies}) == 1, name
    assert replies[0]["session_id"] == session.get("session_id", replies[0]["session_id"])
    assert len(llm.calls) == 1
    assert said_in(stores, twin, replies[0]["session_id"]) == [("user", CAT), ("twin", "Pilchard.")]


def test_a_key_is_one_askers_and_of_one_question(
    client: TestClient, twin: str, llm: FakeLlm, new_user: Callable[[], str]
) -> None:
    llm.answers.extend(["Pilchard.", "Pilchard, to you.", "Pilchard, later."])

    def ask(question: str = CAT, headers: dict[str, str] = KEY, **more: str):
        return client.post(f"/twin/{twin}/chat", json={"question": question, **more}, headers=headers)

    first = ask().json()
    assert ask(asker=new_user()).json()["answer"] == "Pilchard, to you."
    assert ask(f" {CAT} ").json()["message_id"] == first["message_id"]
    for other in (ask("What is your dog called?"), ask(session_id="another")):
        assert (other.status_code, code_of(other)) == (409, "key_reused")
    for key in ("", "k" * 201):
        other = ask(headers={"Idempotency-Key": key})
        assert (other.status_code, code_of(other)) == (422, "key_invalid")
    assert ask(headers={"Idempotency-Key": "another"}).json()["answer"] == "Pilchard, later."


def test_a_turn_that_failed_is_answered_when_its_key_comes_again(
    client: TestClient, twin: str, llm: FakeLlm, stores: Stores
) -> None:
    llm.answers.extend([LlmError("engine_closed", "told to", retryable=False), "Pilchard.", "Good morning."])
    failed = client.post(f"/twin/{twin}/chat", json={"question": GREETING, "session_id": "s"}, headers=KEY)
    assert code_of(failed) == "engine_closed"
    assert client.post(f"/twin/{twin}/chat", json={"question": "Cat?", "session_id": "s"}).status_code == 200
    queued = changes_of(stores, twin)
    reply = client.post(f"/twin/{twin}/chat", json={"question": GREETING, "session_id": "s"}, headers=KEY)
    assert reply.json()["answer"] == "Good morning."
    assert [content for sender, content in said_in(stores, twin, "s") if sender == "user"] == [GREETING, "Cat?"]
    assert changes_of(stores, twin) == queued, "the message was offered to memory again, as if of another turn"
    assert [turn for turn, _ in queued] == [1, 2]


def test_two_that_ask_with_one_key_hear_one_turn(stores: Stores, twin: str, tmp_path: Path) -> None:
    paced = PacedLlm()
    services = Services(OpenStores(stores), lambda: paced, tmp_path / "adapters")  # type: ignore[arg-type]
    with TestClient(create_app(lambda: services)) as api, ThreadPoolExecutor(4) as pool:
        paced.gate.clear()
        asked = [pool.submit(api.post, f"/twin/{twin}/chat", json={"question": CAT}, headers=KEY) for _ in range(4)]
        wait_until(lambda: services.admission.at_work() == 1, 60)
        paced.gate.set()
        replies = [one.result().json() for one in asked]
    assert len({reply["message_id"] for reply in replies}) == 1
    assert [tenant for tenant, _ in paced.answered if tenant == twin] == [twin], "plans that others left may ask it too"
    assert [sender for sender, _ in said_in(stores, twin, replies[0]["session_id"])] == ["user", "twin"]


def test_another_question_does_not_join_the_turn_that_its_key_began(stores: Stores, twin: str, tmp_path: Path) -> None:
    """While the first was under way whoever came with its key heard its answer, whatever they had asked."""
    paced = PacedLlm()
    services = Services(OpenStores(stores), lambda: paced, tmp_path / "adapters")  # type: ignore[arg-type]
    with TestClient(create_app(lambda: services)) as api, ThreadPoolExecutor(1) as pool:
        paced.gate.clear()
        first = pool.submit(api.post, f"/twin/{twin}/chat", json={"question": CAT}, headers=KEY)
        try:
            wait_until(lambda: len(services.turns) == 1, 60)
            for body in ({"question": GREETING}, {"question": CAT, "session_id": "another"}):
                for accept in ("*/*", "text/event-stream"):
                    other = api.post(f"/twin/{twin}/chat", json=body, headers={**KEY, "Accept": accept})
                    assert (other.status_code, code_of(other)) == (409, "key_reused")
        finally:
            paced.gate.set()
        assert first.result().status_code == 200
    assert [sender for sender, _ in said_in(stores, twin, first.result().json()["session_id"])] == ["user", "twin"]


def test_who_leaves_a_question_with_a_key_finds_its_whole_answer(stores: Stores, twin: str, tmp_path: Path) -> None:
    """It was cut off where the client's connection broke, though the client was to come back with its key."""
    paced = PacedLlm()
    services = Services(OpenStores(stores), lambda: paced, tmp_path / "adapters")  # type: ignore[arg-type]
    with serve(create_app(lambda: services)) as url:
        paced.gate.clear()
        connection = send(url, f"/twin/{twin}/chat", {"question": CAT}, KEY)
        wait_until(lambda: paced.at_work.total() == 1, 60)
        connection.close()
        [(live, _)] = services.turns._turns.values()
        wait_until(lambda: not live._listeners, 60)
        paced.gate.set()
        reply = httpx.post(f"{url}/twin/{twin}/chat", json={"question": CAT}, headers=KEY, timeout=30).json()
    assert reply["cut_off"] is False
    assert len(reply["answer"].split()) == paced.pieces
    assert len(paced.answered) == 1
