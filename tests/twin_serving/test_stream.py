"""The event generator apart from HTTP: what happens when the listener leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator

import anyio
import pytest

from lpm_kernel.chat import Turn, begin_turn, stream_turn
from lpm_kernel.L2.context_pool import ContextPool
from lpm_kernel.records import User
from lpm_kernel.stores.conversations import last_messages
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeLlm
from tests.samples import make_message, make_release
from twin_serving.routes.chat import chat_events


def test_a_listener_who_leaves_early_loses_nothing_that_was_said(stores: Stores, llm: FakeLlm, twin: str, tmp_path) -> None:
    llm.answers.append("one two three four")
    turn = begin_turn(stores, llm, twin, "Count, please.", "s1")

    async def leave_after_two_words() -> list[str]:
        events = chat_events(turn, stream_turn(stores, llm, turn, tmp_path))
        heard = []
        async for event in events:
            heard.append(event.event)
            if heard.count("token") == 2:
                break
        await events.aclose()  # type: ignore[attr-defined]
        return heard

    assert anyio.run(leave_after_two_words) == ["start", "token", "token"]
    with stores.tables.transaction(twin) as connection:
        kept = last_messages(connection, twin, "s1", 10)
    assert [(message.sender, message.content) for message in kept] == [("user", "Count, please."), ("twin", "one two")]


def test_pieces_that_were_never_asked_for_store_no_empty_answer(stores: Stores, llm: FakeLlm, twin: str, tmp_path) -> None:
    llm.answers.append("one")
    turn = begin_turn(stores, llm, twin, "Count, please.", "s2")

    async def leave_at_once() -> None:
        events = chat_events(turn, stream_turn(stores, llm, turn, tmp_path))
        assert (await anext(events)).event == "start"
        await events.aclose()  # type: ignore[attr-defined]

    anyio.run(leave_at_once)
    with stores.tables.transaction(twin) as connection:
        kept = last_messages(connection, twin, "s2", 10)
    assert [message.sender for message in kept] == ["user"]


@pytest.mark.parametrize("event", ["start", "token", "done"])
def test_every_event_is_one_line_of_json(stores: Stores, llm: FakeLlm, twin: str, tmp_path, event: str) -> None:
    llm.answers.append("a\nb “c”")
    turn = begin_turn(stores, llm, twin, "Quote?", f"s-{event}")

    async def all_events() -> list:
        return [item async for item in chat_events(turn, stream_turn(stores, llm, turn, tmp_path))]

    (first, *_) = [item for item in anyio.run(all_events) if item.event == event]
    assert "\n" not in first.data
    json.loads(first.data)


def test_a_failure_that_nobody_foresaw_ends_the_stream_with_an_error_event() -> None:
    """The status has been sent: the stream only broke off, and the listener took what there was for the whole answer."""

    def pieces() -> Iterator[str]:
        yield "one "
        raise OSError(28, "No space left on device")

    async def all_events() -> list:
        turn = Turn(User("1"), make_release("1"), "s", make_message("1", 1), 1, "a", (), ())
        return [item async for item in chat_events(turn, pieces())]

    events = anyio.run(all_events)
    assert [event.event for event in events] == ["start", "token", "error"]
    assert json.loads(events[-1].data)["error"]["code"] == "internal"


def test_more_listeners_than_threads_all_hear_their_answer_to_the_end() -> None:
    """Forty turns waited for a place in the model, each in a thread of the web framework's forty; the two that had one found no
    thread to go on with, and the whole API stood still for good."""
    places = ContextPool(2)

    def pieces(number: int) -> Iterator[str]:
        with places.lend(("tenant", str(number))):
            yield f"{number} "
            yield "done"

    async def listen(number: int, heard: dict[int, str]) -> None:
        turn = Turn(User("1"), make_release("1"), "s", make_message("1", 1), 1, f"a{number}", (), ())
        events = [event async for event in chat_events(turn, pieces(number))]
        heard[number] = json.loads(events[-1].data or "")["answer"]

    async def listen_all() -> dict[int, str]:
        heard: dict[int, str] = {}
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for number in range(60):
                    group.start_soon(listen, number, heard)
        return heard

    assert anyio.run(listen_all) == {number: f"{number} done" for number in range(60)}
