"""The model that may answer in a twin's place: OpenAI's client against a server that speaks its wire format."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lpm_kernel.errors import LlmError, SettingsError
from lpm_kernel.records import Message
from lpm_kernel.settings import Settings, load_settings
from lpm_kernel.stores.answerer import OpenAiAnswerer, open_answerer
from lpm_kernel.stores.breaker import Breaker
from tests.openai_server import OpenAiServer

ASKED = (Message("system", "You are Nora."), Message("user", "What is your cat called?"))


@pytest.fixture
def server() -> Iterator[OpenAiServer]:
    with OpenAiServer() as server:
        yield server


def environment(server: OpenAiServer, key: str = "sk-stand-in") -> dict[str, str]:
    return {"OPENAI_API_KEY": key, "OPENAI_BASE_URL": server.base_url}


def named(model: str = "gpt-4o", **others: object) -> Settings:
    return load_settings(overrides={"models": {"answerer": model, **others}})


@pytest.fixture
def answerer(server: OpenAiServer) -> Iterator[OpenAiAnswerer]:
    opened = open_answerer(named(), environment(server))
    assert opened is not None
    yield opened
    opened.close()


def test_an_answer_comes_in_pieces_and_the_request_says_what_is_meant(server: OpenAiServer, answerer: OpenAiAnswerer) -> None:
    server.write = lambda body: "My cat is “Pilchard”,\nnaïvely. 🐈"
    pieces = list(answerer.stream(ASKED, max_tokens=64))
    assert len(pieces) > 3
    assert "".join(pieces) == "My cat is “Pilchard”,\nnaïvely. 🐈"
    [body] = server.chats
    assert (body["model"], body["stream"], body["max_tokens"], body["temperature"]) == ("gpt-4o", True, 64, 0.0)
    assert body["messages"] == [{"role": message.role, "content": message.content} for message in ASKED]


def test_the_twin_itself_needs_no_key_and_a_model_that_is_named_does(server: OpenAiServer) -> None:
    assert open_answerer(named("twin"), {}) is None
    with pytest.raises(SettingsError) as caught:
        open_answerer(named(), {})
    assert caught.value.code == "address_missing"


@pytest.mark.parametrize(
    ("failing", "code", "retryable"),
    [
        ((500, None), "answerer_unavailable", True),
        ((429, "rate_limit_exceeded"), "answerer_unavailable", True),
        ((429, "insufficient_quota"), "answerer_closed", False),
        ((404, "model_not_found"), "answerer_closed", False),
        ((400, "context_length_exceeded"), "answerer_refused", False),
    ],
)
def test_each_failure_has_its_code_after_one_request(
    server: OpenAiServer, answerer: OpenAiAnswerer, failing: tuple[int, str | None], code: str, retryable: bool
) -> None:
    server.failing, server.failures_left = failing, 5
    with pytest.raises(LlmError) as caught:
        list(answerer.stream(ASKED, max_tokens=8))
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert server.failures_left == 4
    assert "told to" not in caught.value.message


def test_an_answer_that_breaks_off_is_no_whole_answer(server: OpenAiServer, answerer: OpenAiAnswerer) -> None:
    server.write, server.breaks_off_after = lambda body: "one two three", 2
    pieces = answerer.stream(ASKED, max_tokens=8)
    assert [next(pieces), next(pieces)] == ["one", " two"]
    with pytest.raises(LlmError) as caught:
        next(pieces)
    assert caught.value.code == "answerer_unavailable"


@pytest.mark.parametrize("words", ["", "  \n"])
def test_an_answer_without_a_word_is_unreadable(server: OpenAiServer, answerer: OpenAiAnswerer, words: str) -> None:
    server.write = lambda body: words
    with pytest.raises(LlmError) as caught:
        list(answerer.stream(ASKED, max_tokens=8))
    assert caught.value.code == "answerer_unreadable"


def test_half_a_character_is_no_text(server: OpenAiServer, answerer: OpenAiAnswerer) -> None:
    server.write = lambda body: "ab\ud800 c"
    with pytest.raises(LlmError) as caught:
        list(answerer.stream(ASKED, max_tokens=8))
    assert caught.value.code == "answerer_unreadable"


def test_a_question_that_is_declined_is_refused_and_no_failure_of_the_server(
    server: OpenAiServer, answerer: OpenAiAnswerer
) -> None:
    server.finish_reason = "content_filter"
    for _ in range(5):
        with pytest.raises(LlmError) as caught:
            list(answerer.stream(ASKED, max_tokens=8))
        assert caught.value.code == "answerer_refused"
    assert len(server.chats) == 5


def test_a_server_that_keeps_failing_is_left_alone_and_tried_again_later(server: OpenAiServer) -> None:
    from lpm_kernel.stores.addresses import OpenAiAddress
    from lpm_kernel.stores.openai_client import open_openai

    now = [0.0]
    address = OpenAiAddress("sk-stand-in", server.base_url)
    answerer = OpenAiAnswerer(
        lambda: open_openai(address).with_options(max_retries=0), "gpt-4o", Breaker(2, 30.0, lambda: now[0])
    )
    server.failing = (500, None)
    codes = []
    for _ in range(4):
        with pytest.raises(LlmError) as caught:
            list(answerer.stream(ASKED, max_tokens=8))
        codes.append(caught.value.code)
    assert codes == ["answerer_unavailable"] * 2 + ["answerer_paused"] * 2
    server.failing, now[0] = None, 31.0
    assert "".join(answerer.stream(ASKED, max_tokens=8)) == "written"
    assert "".join(answerer.stream(ASKED, max_tokens=8)) == "written"
    answerer.close()


def test_a_listener_who_leaves_ends_the_request(server: OpenAiServer, answerer: OpenAiAnswerer) -> None:
    server.write = lambda body: "one two three"
    pieces = answerer.stream(ASKED, max_tokens=8)
    assert next(pieces) == "one"
    pieces.close()  # type: ignore[attr-defined]
    assert "".join(answerer.stream(ASKED, max_tokens=8)) == "one two three"


def test_a_key_that_is_wrong_closes_the_server_at_once(server: OpenAiServer) -> None:
    answerer = open_answerer(named(), environment(server, key="sk-wrong"))
    assert answerer is not None
    codes = []
    for _ in range(2):
        with pytest.raises(LlmError) as caught:
            list(answerer.stream(ASKED, max_tokens=8))
        codes.append(caught.value.code)
    answerer.close()
    assert codes == ["answerer_closed", "answerer_paused"]
