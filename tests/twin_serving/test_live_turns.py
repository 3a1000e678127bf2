"""A turn apart from its listeners: who hears what, when it goes on alone, and how many there may be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.errors import LlmError
from lpm_kernel.L2.context_pool import ContextPool
from lpm_kernel.settings import ServingSettings, load_settings
from twin_serving.live_turns import BEFORE_THE_START, LiveTurn, LiveTurns


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def serving(**changes: object) -> ServingSettings:
    return load_settings().serving.model_copy(update={"resume_s": 30.0, "turn_life_s": 300.0, "live_turns": 3, **changes})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def turn(clock: Clock) -> LiveTurn:
    return LiveTurn("1", "a" * 32, serving(), clock)


def said(turn: LiveTurn, number: int) -> list[tuple[int, str, object]]:
    return [(event.number, event.name, event.content) for event in turn.events_after(number)]


def test_an_event_is_known_by_its_place_in_the_answer(turn: LiveTurn) -> None:
    turn.start({"s": 1})
    turn.say("One")
    turn.say(" two")
    assert said(turn, BEFORE_THE_START) == [
        (0, "start", {"s": 1}),
        (3, "token", {"text": "One"}),
        (7, "token", {"text": " two"}),
    ]
    assert said(turn, 3) == [(7, "token", {"text": " two"})]
    assert said(turn, 7) == []
    turn.end({"d": 1}, None)
    assert said(turn, 7) == [(8, "done", {"d": 1})]
    assert said(turn, 8) == []


@given(st.lists(st.text(min_size=1), max_size=8), st.data())
def test_whenever_a_listener_comes_back_it_hears_the_rest_and_nothing_twice(pieces: list[str], data: st.DataObject) -> None:
    turn = LiveTurn("1", "a" * 32, serving(), Clock())
    turn.start({})
    heard = []
    number = BEFORE_THE_START
    for piece in [*pieces, None]:
        if piece is None:
            turn.end({}, None)
        else:
            turn.say(piece)
        if data.draw(st.booleans()):  # comes back, and hears some of it before it is cut off again
            events = turn.events_after(number)
            kept = events[: data.draw(st.integers(0, len(events)))]
            heard += kept
            number = kept[-1].number if kept else number
    heard += turn.events_after(number)
    assert [event.number for event in heard] == sorted({event.number for event in heard})
    assert [event.name for event in heard][:1] == ["start"]
    assert [event.name for event in heard][-1] == "done"
    assert "".join(event.content["text"] for event in heard if event.name == "token") == "".join(pieces)


def test_nothing_is_said_after_the_end_and_the_first_end_stands(turn: LiveTurn) -> None:
    turn.start({})
    turn.fail(LlmError("turn_expired", "told to"), "error")
    turn.say("late")
    turn.end("done", None)
    assert [name for _, name, _ in said(turn, BEFORE_THE_START)] == ["start", "error"]
    assert isinstance(turn.error, LlmError)


def test_a_turn_goes_on_for_a_while_without_a_listener_and_then_need_not(turn: LiveTurn, clock: Clock) -> None:
    clock.now += 29
    assert not turn.is_left(), "nobody has come yet"
    with turn.heard():
        clock.now += 100
        assert not turn.is_left()
        with turn.heard():
            pass
        clock.now += 40
        assert not turn.is_left(), "one of two is still there"
    clock.now += 29
    assert not turn.is_left()
    with turn.heard():
        clock.now += 60
    assert not turn.is_left(), "who came back in time has time again"
    clock.now += 30
    assert turn.is_left()


def test_no_turn_outlives_its_life_whoever_listens(turn: LiveTurn, clock: Clock) -> None:
    with turn.heard():
        clock.now += 299
        assert not turn.is_left()
        clock.now += 1
        assert turn.is_left()


@pytest.fixture
def turns(clock: Clock) -> Iterator[LiveTurns]:
    opened = LiveTurns(serving(), clock)
    yield opened
    opened.close()


def ending(turn: LiveTurn) -> None:
    turn.start({})
    turn.end({}, "result")


def eventually(ready: Callable[[], object]) -> None:
    for _ in range(500):
        if ready():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come")


def test_a_turn_is_found_by_its_own_user_alone_and_for_a_while_after_its_end(turns: LiveTurns, clock: Clock) -> None:
    turn = turns.begin("1", "a", ending)
    eventually(lambda: turn.has_ended)
    assert turns.get("1", "a") is turn
    assert turns.get("2", "a") is None
    assert turns.get("1", "b") is None
    clock.now += 30
    assert turns.get("1", "a") is None


def test_there_are_so_many_turns_and_no_more(turns: LiveTurns) -> None:
    go_on = threading.Event()

    def waits(turn: LiveTurn) -> None:
        go_on.wait(10)
        ending(turn)

    begun = [turns.begin("1", name, waits) for name in "abc"]
    assert len(turns) == 3
    with pytest.raises(LlmError) as caught:
        turns.begin("1", "d", waits)
    assert (caught.value.code, caught.value.retryable) == ("turns_busy", True)
    go_on.set()
    eventually(lambda: all(turn.has_ended for turn in begun))
    assert turns.begin("1", "d", ending), "one that has ended makes room"
    assert turns.get("1", "a") is None
    assert turns.get("1", "c") is begun[2], "the oldest first"


def test_a_turn_that_gets_no_thread_holds_no_room(turns: LiveTurns, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was on record before its thread was there, and nothing ever ended it."""

    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        for name in "abc":
            with pytest.raises(LlmError) as caught:
                turns.begin("1", name, ending)
            assert (caught.value.code, caught.value.retryable) == ("turns_busy", True)
    assert len(turns) == 0
    assert turns.get("1", "a") is None
    begun = [turns.begin("1", name, ending) for name in "abc"]
    eventually(lambda: all(turn.has_ended for turn in begun))


def test_closing_ends_what_is_under_way_and_waits_for_it(turns: LiveTurns) -> None:
    kept = []

    def until_left(turn: LiveTurn) -> None:
        turn.start({})
        while not turn.is_left():
            threading.Event().wait(0.005)
        kept.append("what was said")
        turn.end({}, None)

    turns.begin("1", "a", until_left)
    turns.close()
    assert kept == ["what was said"]
    with pytest.raises(LlmError):
        turns.begin("1", "b", ending)


def test_more_turns_than_threads_of_the_framework_all_come_to_their_end() -> None:
    """Forty turns waited for a place in the model, each in a thread of the web framework's forty; the two that had one found no
    thread to go on with, and the whole API stood still for good."""
    places = ContextPool(2)
    turns = LiveTurns(serving(live_turns=100))

    def work(turn: LiveTurn) -> None:
        with places.lend(("tenant", turn.message_id)):
            turn.start({})
            turn.say(turn.message_id)
            turn.end({}, None)

    async def listen(name: str, heard: dict[str, str]) -> None:
        turn = turns.begin("1", name, work)
        with turn.heard():
            assert await turn.wait(lambda: turn.has_ended, 60)
        heard[name] = turn.events_after(0)[0].content["text"]

    async def listen_all() -> dict[str, str]:
        heard: dict[str, str] = {}
        async with anyio.create_task_group() as group:
            for number in range(60):
                group.start_soon(listen, str(number), heard)
        return heard

    assert anyio.run(listen_all) == {str(number): str(number) for number in range(60)}
    turns.close()


def test_waiting_ends_when_its_time_is_over(turn: LiveTurn) -> None:
    async def wait() -> bool:
        return await turn.wait(lambda: turn.has_ended, 0.02)

    assert anyio.run(wait) is False


def test_what_a_deleted_user_was_told_is_told_nobody_and_turns_under_way_end(clock: Clock) -> None:
    turns = LiveTurns(serving(live_turns=5), clock)
    left = threading.Event()

    def speak(turn: LiveTurn) -> None:
        turn.start({})
        while not turn.is_left():
            left.wait(0.01)
        turn.end({}, None)

    begun = [turns.begin(user_id, "a" * 32, speak, asker) for user_id, asker in (("1", None), ("2", "1"), ("3", None))]
    ended = turns.begin("1", "b" * 32, lambda turn: turn.end({}, None))
    eventually(lambda: ended.has_ended)
    turns.drop("1")
    assert [turns.get(turn.user_id, turn.message_id) for turn in (*begun, ended)] == [None, None, begun[2], None]
    eventually(lambda: begun[0].has_ended and begun[1].has_ended)
    assert not begun[2].has_ended
    turns.close()
