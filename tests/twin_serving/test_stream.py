"""The event generator apart from HTTP: what happens when the listener leaves."""

from __future__ import annotations

import anyio
import pytest

from lpm_kernel.chat import begin_turn, stream_turn
from lpm_kernel.stores.conversations import last_messages
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeLlm
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
    import json

    llm.answers.append("a\nb “c”")
    turn = begin_turn(stores, llm, twin, "Quote?", f"s-{event}")

    async def all_events() -> list:
        return [item async for item in chat_events(turn, stream_turn(stores, llm, turn, tmp_path))]

    (first, *_) = [item for item in anyio.run(all_events) if item.event == event]
    assert "\n" not in first.data
    json.loads(first.data)
