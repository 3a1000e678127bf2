"""The parts of OpenAI's wire format apart from HTTP: stop sequences, sessions, what a talk says, chunks without a listener."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.records import Message
from lpm_kernel.stores.conversations import last_messages
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeLlm
from tests.twin_serving.conftest import OpenStores
from twin_serving.deps import Services
from twin_serving.openai_wire.conversation import Talk, latest, read_talk, session_of
from twin_serving.openai_wire.decoding import AskedAnswerer, AskedLlm, until_stop
from twin_serving.openai_wire.errors import param_of
from twin_serving.openai_wire.schemas import ChatCompletionRequest
from twin_serving.openai_wire.turns import begin_wire_turn
from twin_serving.routes.openai_chat import CompletionStream, completion_events

LETTERS = st.text(alphabet="ab c", max_size=8)


@pytest.fixture
def services(stores: Stores, llm: FakeLlm, tmp_path: Path) -> Iterator[Services]:
    services = Services(OpenStores(stores), lambda: llm, tmp_path)  # type: ignore[arg-type]
    yield services
    services.close()


def request_of(*messages: dict[str, str], **more: object) -> ChatCompletionRequest:
    return ChatCompletionRequest.model_validate({"model": "twin-1", "messages": list(messages), **more})


def drained(pieces: Generator[str, None, bool]) -> tuple[str, bool]:
    heard = []
    while True:
        try:
            heard.append(next(pieces))
        except StopIteration as end:
            return "".join(heard), end.value


@given(st.lists(LETTERS, max_size=6), st.lists(st.text(alphabet="ab c", min_size=1, max_size=4), max_size=4))
def test_nothing_of_a_stop_sequence_is_ever_sent_however_the_text_is_cut(pieces: list[str], stops: list[str]) -> None:
    whole = "".join(pieces)
    ends = [(at + len(stop), at) for stop in stops if (at := whole.find(stop)) >= 0]
    expected = whole[: min(ends)[1]] if ends else whole
    assert drained(until_stop(iter(pieces), stops)) == (expected, bool(ends))
    assert not any(stop in expected for stop in stops)


def test_a_session_follows_from_who_asks_whom_and_the_first_question() -> None:
    first = Talk("Cat?", (), "")
    grown = Talk("And then?", (Message("user", "Cat?"), Message("assistant", "Pilchard.")), "Be brief.")
    assert session_of(first, "1", None, None) == session_of(grown, "1", None, None)
    others = [session_of(first, "2", None, None), session_of(first, "1", "2", None), session_of(first, "1", None, "u")]
    assert len({session_of(first, "1", None, None), *others, session_of(Talk("Dog?", (), ""), "1", None, None)}) == 5


def test_system_messages_are_what_is_asked_and_the_rest_is_the_talk() -> None:
    talk = read_talk(
        request_of(
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Cat?"},
            {"role": "assistant", "content": ""},
            {"role": "developer", "content": "Rhyme."},
            {"role": "user", "content": "Dog?"},
        ).messages
    )
    assert talk == Talk("Dog?", (Message("user", "Cat?"),), "Be brief.\nRhyme.")


def test_of_a_long_talk_only_what_may_fit_is_counted() -> None:
    class CountingLlm(FakeLlm):
        counted = 0

        def prompt_tokens(self, messages: Sequence[Message]) -> int:
            self.counted += 1
            return super().prompt_tokens(messages)

    llm = CountingLlm(context_tokens=100)
    talk = [Message("user", f"{number} " + "word " * 20) for number in range(1000)]
    kept = latest(talk, llm, 32)
    assert kept == tuple(talk[-len(kept) :])
    assert 1 <= len(kept) <= llm.counted <= 5
    assert latest(talk, FakeLlm(context_tokens=10**6), 32) == tuple(talk[-32:])
    assert latest(talk, llm, 0) == ()
    assert latest([Message("user", "x" * 10**6)], llm, 32) == ()


@pytest.mark.parametrize(
    ("place", "param"),
    [
        (("body", "messages", 0, "content", "str"), "messages[0].content"),
        (("body", "messages", 0, "content", "list[ContentPart]", 1, "type"), "messages[0].content[1].type"),
        (("body",), None),
        (("body", "\ud800"), "\\ud800"),
    ],
)
def test_the_place_of_an_error_is_named_as_a_caller_would(place: tuple[object, ...], param: str | None) -> None:
    assert param_of(place) == param


def test_tokens_are_counted_by_the_model_and_by_its_pieces() -> None:
    """A piece may be several tokens, and an answer that is not the model's has no pieces."""
    llm = AskedLlm(FakeLlm(["one two three"]), 2, ())
    assert "".join(llm.stream([Message("user", "?")], tenant="1", max_tokens=9)) == "one two"
    assert (llm.answer_tokens("one two"), llm.finish_reason("one two")) == (2, "length")
    assert AskedLlm(FakeLlm(), 1, ()).finish_reason("an answer out of documents") == "stop"


def test_a_model_elsewhere_is_held_to_what_the_caller_asked_for() -> None:
    class Elsewhere:
        limits: list[int] = []  # noqa: RUF012

        def stream(self, messages: Sequence[Message], *, max_tokens: int) -> Iterator[str]:
            self.limits.append(max_tokens)
            yield from ("My cat", " is", " Pilchard.")

        def close(self) -> None: ...

    elsewhere, asked = Elsewhere(), AskedLlm(FakeLlm(), 7, (" Pil",))
    assert "".join(AskedAnswerer(elsewhere, asked).stream([Message("user", "?")], max_tokens=64)) == "My cat is"
    assert (elsewhere.limits, asked.finish_reason("My cat is")) == ([7], "stop")


def test_a_listener_who_leaves_early_loses_nothing_that_was_said(
    services: Services, stores: Stores, llm: FakeLlm, twin: str
) -> None:
    llm.answers.append("one two three four")
    asked = request_of({"role": "user", "content": "Count, please."}, stream=True)
    turn = begin_wire_turn(services, asked, twin, None, "s1")

    async def leave_after_two_words() -> list[dict]:
        events = completion_events(turn)
        heard = [json.loads((await anext(events)).data) for _ in range(3)]
        await events.aclose()  # type: ignore[attr-defined]
        return heard

    heard = anyio.run(leave_after_two_words)
    assert [chunk["choices"][0]["delta"]["content"] for chunk in heard] == ["", "one", " two"]
    with stores.tables.transaction(twin) as connection:
        kept = last_messages(connection, twin, "s1", 10)
    assert [(message.sender, message.content) for message in kept] == [("user", "Count, please."), ("twin", "one two")]


def test_a_stream_whose_listener_left_before_it_began_gives_its_place_back(services: Services, llm: FakeLlm, twin: str) -> None:
    """Nothing of the generator behind it runs then, not even what stands under `finally`."""
    turn = begin_wire_turn(services, request_of({"role": "user", "content": "Count, please."}, stream=True), twin, None, None)
    assert services.admission.booked() == 1

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        raise OSError("the listener left")

    async def answer_nobody() -> None:
        with suppress(Exception):
            await CompletionStream(turn)({"type": "http"}, receive, send)

    anyio.run(answer_nobody)
    assert services.admission.booked() == 0


def test_a_failure_that_nobody_foresaw_ends_the_stream_with_an_error_in_openais_form(
    services: Services, llm: FakeLlm, twin: str
) -> None:
    llm.answers.append(OSError(28, "No space left on device"))
    asked = request_of({"role": "user", "content": "Count, please."}, stream=True)
    turn = begin_wire_turn(services, asked, twin, None, None)

    async def all_events() -> list[str]:
        return [event.data async for event in completion_events(turn)]

    *_, last = anyio.run(all_events)
    assert json.loads(last)["error"] == {
        "message": "the server failed; its log says where",
        "type": "server_error",
        "param": None,
        "code": "internal",
    }
