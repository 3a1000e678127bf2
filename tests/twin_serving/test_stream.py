"""The event generator apart from HTTP: framing, listeners who leave and come back, and a turn that never ends."""

from __future__ import annotations

import json
import threading

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sse_starlette import ServerSentEvent

from lpm_kernel.errors import UserInputError
from tests.twin_serving.event_stream import Read, read_events
from tests.twin_serving.test_live_turns import serving
from twin_serving.events import encoded, event_id, number_after, stored_events, turn_events
from twin_serving.live_turns import BEFORE_THE_START, LiveTurn, TurnEvent

ID = "0123456789abcdef" * 2
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\r\n\x0b\x0c\x1c\x85\u2028\u2029\0:"))


def live(**changes: object) -> LiveTurn:
    turn = LiveTurn("1", ID, serving(**changes), lambda: 0.0)
    turn.start({})
    return turn


def on_the_wire(events: list[ServerSentEvent]) -> list[Read]:
    return read_events(b"".join(event.encode() for event in events))


@given(st.lists(ANY_TEXT, max_size=6))
def test_any_text_comes_through_the_frames_as_it_is(texts: list[str]) -> None:
    events = [TurnEvent(number, "token", {"text": text}) for number, text in enumerate(texts)]
    read = on_the_wire([encoded(ID, event) for event in events])
    assert [(item.id, item.name) for item in read] == [(f"{ID}:{number}", "token") for number in range(len(texts))]
    assert [json.loads(item.data)["text"] for item in read] == texts


@given(ANY_TEXT.filter(bool), st.data())
def test_a_stored_answer_gives_what_is_missing_and_its_end(answer: str, data: st.DataObject) -> None:
    number = data.draw(st.integers(BEFORE_THE_START, len(answer)))
    read = on_the_wire(list(stored_events(ID, answer, {"answer": answer}, number)))
    words = "".join(json.loads(item.data)["text"] for item in read if item.name == "token")
    assert words == ("" if number == BEFORE_THE_START else answer[number:]), "without an id `done` says it all"
    assert (read[-1].name, read[-1].id) == ("done", f"{ID}:{len(answer) + 1}")
    assert json.loads(read[-1].data) == {"answer": answer}
    assert len({item.id for item in read}) == len(read)


@pytest.mark.parametrize("given", [None, ""])
def test_who_names_no_event_hears_all(given: str | None) -> None:
    assert number_after(ID, given) == BEFORE_THE_START


def test_an_event_is_named_by_its_answer_and_its_number() -> None:
    assert number_after(ID, event_id(ID, 17)) == 17


@pytest.mark.parametrize("named", ["17", f"{'f' * 32}:17", f"{ID}:", f"{ID}:-1", f"{ID}:1x", f"{ID}:{'9' * 30}", ":", "\x00"])
def test_what_is_no_event_of_this_answer_is_refused(named: str) -> None:
    with pytest.raises(UserInputError) as caught:
        number_after(ID, named)
    assert caught.value.code == "event_id_invalid"


async def heard_from(turn: LiveTurn, number: int = BEFORE_THE_START, most: int = 99) -> list[Read]:
    events = turn_events(turn, number)
    heard = []
    async for event in events:
        heard.append(event)
        if len(heard) == most:
            break
    await events.aclose()  # type: ignore[attr-defined]
    return on_the_wire(heard)


def test_a_listener_who_leaves_and_comes_back_hears_all_of_it_once() -> None:
    turn = live()
    words = ["one", " two", " three\n", " four"]

    async def listen() -> list[Read]:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, speak)
            first = await heard_from(turn, most=2)
            last = number_after(ID, first[-1].id)
            return first + await heard_from(turn, last)

    def speak() -> None:
        for word in words:
            turn.say(word)
            threading.Event().wait(0.01)
        turn.end({"answer": "".join(words)}, None)

    heard = anyio.run(listen)
    assert [item.name for item in heard] == ["start", *["token"] * 4, "done"]
    assert "".join(json.loads(item.data)["text"] for item in heard[1:-1]) == "".join(words)


def test_two_listeners_hear_the_same() -> None:
    turn = live()
    turn.say("one")

    async def listen() -> list[list[Read]]:
        heard: list[list[Read]] = []

        async def one() -> None:
            heard.append(await heard_from(turn))

        async with anyio.create_task_group() as group:
            group.start_soon(one)
            group.start_soon(one)
            await anyio.sleep(0.02)
            turn.end({}, None)
        return heard

    first, second = anyio.run(listen)
    assert first == second
    assert [item.name for item in first] == ["start", "token", "done"]


def test_a_listener_who_is_cancelled_is_gone_for_the_turn() -> None:
    turn = live()

    async def cancelled() -> None:
        with anyio.move_on_after(0.05):
            await heard_from(turn)

    anyio.run(cancelled)
    assert turn._listeners == 0


def test_a_turn_whose_thread_hangs_ends_for_its_listeners() -> None:
    turn = live(turn_life_s=0.01)

    async def listen() -> list[Read]:
        return on_the_wire([event async for event in turn_events(turn, grace_s=0.05)])

    heard = anyio.run(listen)
    assert [item.name for item in heard] == ["start", "error"]
    assert "turn_expired" in heard[-1].data
