"""Streams over a real connection: the client leaves, the answer goes on or is cut off, and nothing of it is lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from lpm_kernel.records import Message
from lpm_kernel.stores.conversations import last_messages
from lpm_kernel.stores.memory_writes import list_memory_writes
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeLlm
from tests.twin_serving.conftest import OpenStores
from tests.twin_serving.event_stream import Read, read_events
from tests.twin_serving.test_chat import code_of
from tests.twin_serving.test_live_turns import eventually
from twin_serving.app import create_app
from twin_serving.deps import Services

STREAM = {"Accept": "text/event-stream"}
CAT = {"question": "What is your cat called?", "session_id": "s"}
WORDS = "My cat, – naïvely – is called Pilchard."
LONG = " ".join(f"word{number}" for number in range(60))


class PacedLlm(FakeLlm):
    """Says its next word when it is let; knows whether it was left."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Semaphore(0)
        self.left = threading.Event()

    def _pieces(self, messages: Sequence[Message], *about: Any) -> Iterator[str]:
        try:
            for piece in super()._pieces(messages, *about):
                assert self.let.acquire(timeout=20)
                yield piece
        except GeneratorExit:
            self.left.set()
            raise


@pytest.fixture
def llm() -> PacedLlm:
    return PacedLlm()


@contextmanager
def served(stores: Stores, llm: FakeLlm, folder: Path, port: int, **serving: float) -> Iterator[str]:
    settings = stores.settings.model_copy(update={"serving": stores.settings.serving.model_copy(update=serving)})
    own = OpenStores(replace(stores, settings=settings))
    app = create_app(lambda: Services(own, lambda: llm, folder))  # type: ignore[arg-type]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


def first_events(url: str, twin: str, wanted: Callable[[list[Read]], bool]) -> list[Read]:
    """Listen until this has come, and then hang up."""
    with httpx.stream("POST", f"{url}/twin/{twin}/chat", json=CAT, headers=STREAM, timeout=20) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        where = response.headers["content-location"]
        stream = b""
        for part in response.iter_raw():
            stream += part
            if wanted(read_events(stream)):
                break
    seen = read_events(stream)
    assert where == f"/twin/{twin}/chat/{seen[0].id.split(':')[0]}/events", "where to come back"
    return seen


def come_back(url: str, twin: str, seen: Read) -> httpx.Response:
    message_id = seen.id.split(":")[0]
    return httpx.get(f"{url}/twin/{twin}/chat/{message_id}/events", headers={"Last-Event-ID": seen.id}, timeout=20)


def words_of(events: list[Read]) -> str:
    return "".join(json.loads(event.data)["text"] for event in events if event.name == "token")


def test_who_is_cut_off_and_comes_back_in_time_hears_the_rest_and_nothing_twice(
    stores: Stores, twin: str, llm: PacedLlm, tmp_path: Path, free_port: int
) -> None:
    llm.answers.append(WORDS)
    with served(stores, llm, tmp_path, free_port) as url:
        llm.let.release(3)
        first = first_events(url, twin, lambda events: len(events) == 4)
        llm.let.release(99)
        rest = read_events(come_back(url, twin, first[-1]).content)
        again = come_back(url, twin, first[1])
        finished = come_back(url, twin, rest[-1])
    assert [event.name for event in first] == ["start", "token", "token", "token"]
    assert words_of(first) + words_of(rest) == WORDS
    assert rest[-1].name == "done"
    assert json.loads(rest[-1].data)["cut_off"] is False
    assert [event.id for event in read_events(again.content)] == [event.id for event in [*first[2:], *rest]]
    assert (finished.status_code, finished.content) == (204, b"")
    with stores.tables.transaction(twin) as connection:
        kept = last_messages(connection, twin, "s", 10)
    assert [(message.sender, message.content, message.cut_off) for message in kept] == [
        ("user", CAT["question"], False),
        ("twin", WORDS, False),
    ]


def say_on(llm: PacedLlm, over: Callable[[], bool]) -> None:
    """A word now and then, until it is over: how soon a server notices that a client is gone is its own affair."""
    for _ in range(50):
        if over():
            return
        llm.let.release()
        threading.Event().wait(0.3)


def test_an_answer_that_nobody_comes_back_for_is_cut_off_and_what_was_said_is_kept(
    stores: Stores, twin: str, llm: PacedLlm, tmp_path: Path, free_port: int
) -> None:
    llm.answers.append(LONG)
    with served(stores, llm, tmp_path, free_port, resume_s=0.2) as url:
        llm.let.release(2)
        first = first_events(url, twin, lambda events: len(events) == 3)
        say_on(llm, llm.left.is_set)
        assert llm.left.is_set(), "the decoding goes on though nobody listens"
        eventually(lambda: len(read_events(come_back(url, twin, first[-1]).content)) == 2)
        rest = read_events(come_back(url, twin, first[-1]).content)
    done = json.loads(rest[-1].data)
    assert (rest[-1].name, done["cut_off"]) == ("done", True)
    assert words_of(first) + words_of(rest) == done["answer"] != LONG
    assert LONG.startswith(done["answer"])


def test_a_server_that_ends_keeps_what_was_said_and_the_next_one_gives_it(
    stores: Stores, twin: str, llm: PacedLlm, tmp_path: Path, free_port: int
) -> None:
    llm.answers.append(LONG)
    ended = threading.Event()
    with served(stores, llm, tmp_path, free_port) as url:
        llm.let.release(2)
        first = first_events(url, twin, lambda events: len(events) == 3)
        threading.Thread(target=say_on, args=(llm, ended.is_set), daemon=True).start()
    ended.set()
    assert llm.left.is_set()
    with served(stores, llm, tmp_path, free_port) as url:
        response = come_back(url, twin, first[-1])
        whole = httpx.get(f"{url}/twin/{twin}/chat/{first[0].id.split(':')[0]}/events", timeout=20)
    [done] = read_events(whole.content)
    kept = json.loads(done.data)
    assert (done.name, kept["cut_off"]) == ("done", True)
    assert words_of(first) + words_of(read_events(response.content)) == kept["answer"] != LONG
    assert LONG.startswith(kept["answer"])


def test_what_is_no_answer_of_this_twin_is_404_and_no_event_of_it_422(
    stores: Stores, twin: str, new_user: Callable[[], str], llm: PacedLlm, tmp_path: Path, free_port: int
) -> None:
    llm.answers.append("Pilchard.")
    llm.let.release(99)
    with served(stores, llm, tmp_path, free_port, resume_s=0.0) as url:
        reply = httpx.post(f"{url}/twin/{twin}/chat", json=CAT, timeout=20).json()
        with stores.tables.transaction(twin) as connection:
            [question, _] = last_messages(connection, twin, "s", 10)

        def ask(user: str, message: str, seen: str | None = None) -> tuple[int, str]:
            headers = {"Last-Event-ID": seen} if seen else {}
            response = httpx.get(f"{url}/twin/{user}/chat/{message}/events", headers=headers)
            return response.status_code, code_of(response) if response.status_code >= 400 else ""

        answer = reply["message_id"]
        assert ask(twin, answer) == (200, "")
        assert ask(twin, "0" * 32) == (404, "message_unknown")
        assert ask(new_user(), answer) == (404, "message_unknown"), "another's"
        assert ask(twin, question.message_id) == (404, "message_unknown"), "what the person said is no answer"
        assert ask(twin, "%00") == (400, "request_malformed")
        assert ask("UPPER", answer) == (422, "user_id_invalid")
        assert ask(twin, answer, f"{answer}:999") == (422, "event_id_invalid")
        assert ask(twin, answer, f"{'0' * 32}:1") == (422, "event_id_invalid")
        assert ask(twin, answer, f"{answer}:10") == (204, "")


def test_what_was_said_comes_into_memory_after_the_answer_by_the_api_itself(
    stores: Stores, twin: str, llm: PacedLlm, tmp_path: Path, free_port: int
) -> None:
    llm.answers.append("Noted.")
    llm.let.release(99)
    with served(stores, llm, tmp_path, free_port) as url:
        httpx.post(f"{url}/twin/{twin}/chat", json={"question": "I never eat meat, it makes me ill."}, timeout=20)

        def written() -> bool:
            with stores.tables.transaction(twin) as connection:
                return not list_memory_writes(connection, twin)

        eventually(written)

    held = stores.memories.current(twin, as_of=datetime.now(UTC))
    assert {memory.kind for memory in held} == {"turn", "preference"}
