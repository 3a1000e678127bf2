"""OpenAI's own client with an `Idempotency-Key`: what it asks again is one turn, as on the twin's own route."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from lpm_kernel.errors import LlmError
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeLlm
from tests.paced_llm import PacedLlm, wait_until
from tests.twin_serving.api_server import serve
from tests.twin_serving.conftest import OpenStores
from tests.twin_serving.event_stream import read_events
from tests.twin_serving.test_asked_again import changes_of, said_in
from tests.twin_serving.test_openai_chat import CAT, ask, refused, text_of, user
from twin_serving.app import create_app
from twin_serving.deps import Services

KEYED: dict[str, Any] = {"extra_headers": {"Idempotency-Key": "once"}}
GREETING = "Good morning to you!"


@contextmanager
def served(stores: Stores, llm: Any, folder: Path, retries: int = 0) -> Iterator[tuple[OpenAI, Services]]:
    services = Services(OpenStores(stores), lambda: llm, folder / "adapters")  # type: ignore[arg-type]
    with (
        serve(create_app(lambda: services)) as url,
        OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=retries) as sdk,
    ):
        yield sdk, services


def test_what_is_asked_again_with_its_key_is_told_as_it_was_said(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path
) -> None:
    """A client that tries again after a broken connection was answered anew, and both answers were stored."""
    llm.answers.extend(["My cat is called Pilchard.", "never asked"])
    told: list[Any] = []
    for _ in range(2):  # two processes, so that nothing is left in memory
        with served(stores, llm, tmp_path) as (sdk, _):
            told += [ask(sdk, twin, **KEYED), ask(sdk, twin, **KEYED)]
            chunks: list[Any] = list(ask(sdk, twin, stream=True, stream_options={"include_usage": True}, **KEYED))
            assert text_of(chunks) == "My cat is called Pilchard."
            assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
            assert {chunk.id for chunk in chunks} == {told[0].id}
            assert chunks[0].choices[0].delta.role == "assistant"
            assert chunks[0].twin["session_id"] == told[0].twin["session_id"]
    for name in ("id", "model", "system_fingerprint", "choices"):
        assert all(getattr(one, name) == getattr(told[0], name) for one in told), name
    assert told[0].usage.completion_tokens == 5
    assert [one.usage for one in told[2:]] == [None, None], "which is not stored"
    places = [[(place["document_sha256"], place["byte_start"]) for place in one.twin["citations"]] for one in told]
    assert places[0]
    assert all(one == places[0] for one in places)
    assert len(llm.calls) == 1
    session_id = told[0].twin["session_id"]
    assert said_in(stores, twin, session_id) == [("user", CAT), ("twin", "My cat is called Pilchard.")]
    assert [turn for turn, _ in changes_of(stores, twin)] == [1]


def test_two_that_ask_with_one_key_hear_one_turn_each_in_its_form(stores: Stores, twin: str, tmp_path: Path) -> None:
    paced = PacedLlm()
    with served(stores, paced, tmp_path) as (sdk, services), ThreadPoolExecutor(3) as pool:
        paced.gate.clear()
        try:
            whole = [pool.submit(ask, sdk, twin, **KEYED) for _ in range(2)]
            counted = {"stream": True, "stream_options": {"include_usage": True}}
            stream = pool.submit(lambda: list(ask(sdk, twin, **counted, **KEYED)))
            wait_until(lambda: [live._listeners for live, _ in services.turns._turns.values()] == [3], 60)
            other = refused(sdk, twin, user(GREETING), **KEYED)
        finally:
            paced.gate.set()
        first, second, chunks = whole[0].result(), whole[1].result(), stream.result()
    assert (other.status_code, other.code, other.response.headers["x-should-retry"]) == (409, "key_reused", "false")
    assert (first.id, first.choices, first.usage) == (second.id, second.choices, second.usage)
    assert text_of(chunks) == first.choices[0].message.content
    assert (chunks[-1].usage, chunks[-1].id) == (first.usage, first.id)
    assert [tenant for tenant, _ in paced.answered if tenant == twin] == [twin]
    assert [sender for sender, _ in said_in(stores, twin, first.twin["session_id"])] == ["user", "twin"]


def test_a_key_is_of_one_question_in_one_session_on_one_way(stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path) -> None:
    llm.answers.extend(["Pilchard.", "Pilchard, as ever."])
    with served(stores, llm, tmp_path) as (sdk, _):
        first = ask(sdk, twin, **KEYED)
        for error in (refused(sdk, twin, user(GREETING), **KEYED), refused(sdk, twin, metadata={"session_id": "s"}, **KEYED)):
            assert (error.status_code, error.code) == (409, "key_reused")
        for key in ("", "k" * 201):
            error = refused(sdk, twin, extra_headers={"Idempotency-Key": key})
            assert (error.status_code, error.code) == (400, "key_invalid")
        assert refused(sdk, twin, n=2, **KEYED).param == "n"
        url = str(sdk.base_url).removesuffix("/v1/")
        own = httpx.post(f"{url}/twin/{twin}/chat", json={"question": CAT}, headers={"Idempotency-Key": "once"}).json()
        assert (own["answer"], own["message_id"] != first.twin["message_id"]) == ("Pilchard, as ever.", True)
        events = httpx.get(f"{url}/twin/{twin}/chat/{first.twin['message_id']}/events").content
    assert [event.name for event in read_events(events)] == ["start", "token", "done"], "the turn is one like any other"


def test_who_leaves_a_stream_with_a_key_finds_its_whole_answer(stores: Stores, twin: str, tmp_path: Path) -> None:
    """Without a key the answer ends with its listener: nobody could come back for it."""
    paced = PacedLlm()
    with served(stores, paced, tmp_path) as (sdk, services):
        paced.gate.clear()
        try:
            left = ask(sdk, twin, stream=True, **KEYED)
            assert next(iter(left)).choices[0].delta.role == "assistant"
            left.close()
            [(live, _)] = services.turns._turns.values()
            wait_until(lambda: not live._listeners, 60)
        finally:
            paced.gate.set()
        reply = ask(sdk, twin, **KEYED)
    assert len(reply.choices[0].message.content.split()) == paced.pieces
    assert len(paced.answered) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_turn_that_failed_is_answered_when_its_key_comes_again(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path, stream: bool
) -> None:
    llm.answers.extend([LlmError("model_loading", "too many ask at once"), "Good morning."])
    with served(stores, llm, tmp_path) as (sdk, _):
        with pytest.raises(openai.APIError, match="too many ask") as caught:
            list(ask(sdk, twin, user(GREETING), stream=stream, **KEYED))
        assert caught.value.code == "model_loading"
        reply = ask(sdk, twin, user(GREETING), **KEYED)
    assert said_in(stores, twin, reply.twin["session_id"]) == [("user", GREETING), ("twin", "Good morning.")]
    assert len(changes_of(stores, twin)) == 1


def test_a_client_that_tries_again_by_itself_sends_the_same_key(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path
) -> None:
    llm.answers.extend([LlmError("model_loading", "too many ask at once"), "Good morning."])
    with served(stores, llm, tmp_path, retries=1) as (sdk, _):
        reply = ask(sdk, twin, user(GREETING), **KEYED)
    assert reply.choices[0].message.content == "Good morning."
    assert [sender for sender, _ in said_in(stores, twin, reply.twin["session_id"])] == ["user", "twin"]


def test_an_answer_that_begins_with_a_stop_sequence_is_empty_and_no_failure(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path
) -> None:
    llm.answers.append("My cat is called Pilchard.")
    with served(stores, llm, tmp_path) as (sdk, _):
        for more in ({}, {"stream": True}):
            told: Any = ask(sdk, twin, stop="My", **more, **KEYED)
            if more:
                chunks = list(told)
                assert (text_of(chunks), chunks[-1].choices[0].finish_reason) == ("", "stop")
            else:
                assert (told.choices[0].message.content, told.choices[0].finish_reason) == ("", "stop")


def test_who_has_no_place_is_told_so_before_anything_is_stored(stores: Stores, twin: str, tmp_path: Path) -> None:
    paced = PacedLlm()
    settings = stores.settings.model_copy(
        update={"serving": stores.settings.serving.model_copy(update={"in_flight_per_user": 1, "waiting_per_user": 0})}
    )
    with served(replace(stores, settings=settings), paced, tmp_path) as (sdk, services), ThreadPoolExecutor(1) as pool:
        paced.gate.clear()
        try:
            first = pool.submit(partial(ask, sdk, twin, **KEYED))
            wait_until(lambda: services.admission.at_work() == 1, 60)
            error = refused(
                sdk, twin, user(GREETING), extra_headers={"Idempotency-Key": "another"}, metadata={"session_id": "s"}
            )
        finally:
            paced.gate.set()
        first.result()
    assert isinstance(error, openai.RateLimitError)
    assert int(error.response.headers["retry-after"]) >= 1
    assert said_in(stores, twin, "s") == []
