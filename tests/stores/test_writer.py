"""The writer, through OpenAI's own client against a stand-in for its API: what is sent, what is counted, how it fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lpm_kernel.errors import LlmError, SettingsError
from lpm_kernel.records import Message
from lpm_kernel.settings import Settings, load_settings
from lpm_kernel.stores.addresses import OpenAiAddress
from lpm_kernel.stores.openai_client import open_openai
from lpm_kernel.stores.writer import OpenAiWriter, open_writer
from tests.openai_server import OpenAiServer

ASKED = (Message("system", "Write briefly."), Message("user", "My card is 1234."))
FORM = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}


@pytest.fixture
def server() -> Iterator[OpenAiServer]:
    with OpenAiServer() as server:
        yield server


@pytest.fixture
def writer(server: OpenAiServer) -> Iterator[OpenAiWriter]:
    writer = writer_at(server.base_url)
    yield writer
    writer.close()


def writer_at(base_url: str, api_key: str = "sk-stand-in") -> OpenAiWriter:
    address = OpenAiAddress(api_key, base_url)
    return OpenAiWriter(lambda: open_openai(address).with_options(max_retries=0), "gpt-4o-mini", base_url)


def named(model: str) -> Settings:
    return load_settings(overrides={"models": {"writer": model}})


def test_the_request_holds_the_messages_and_what_bounds_the_answer(writer: OpenAiWriter, server: OpenAiServer) -> None:
    assert writer.write(ASKED, max_tokens=50, temperature=0.3) == "written"
    (body,) = server.chats
    assert body["messages"] == [{"role": message.role, "content": message.content} for message in ASKED]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("gpt-4o-mini", 50, 0.3)
    assert "response_format" not in body


def test_a_schema_is_asked_for_strictly(writer: OpenAiWriter, server: OpenAiServer) -> None:
    server.write = lambda body: '{"answer": "Pilchard"}'
    assert writer.write(ASKED, max_tokens=50, schema=FORM) == '{"answer": "Pilchard"}'
    asked_form: dict[str, Any] = server.chats[0]["response_format"]
    assert (asked_form["type"], asked_form["json_schema"]["strict"]) == ("json_schema", True)
    assert asked_form["json_schema"]["schema"] == FORM


def test_tokens_are_counted_as_the_api_counts_them_and_priced_by_the_settings(writer: OpenAiWriter) -> None:
    writer.write(ASKED, max_tokens=50)
    writer.write(ASKED, max_tokens=50)
    assert (writer.calls, writer.input_tokens, writer.output_tokens) == (2, 12, 2)
    assert writer.cost_usd(1000.0, 5000.0) == pytest.approx(12 * 0.001 + 2 * 0.005)


@pytest.mark.parametrize(
    ("status", "told", "code", "retryable"),
    [
        (500, None, "writer_unavailable", True),
        (503, None, "writer_unavailable", True),
        (408, None, "writer_unavailable", True),
        (429, "rate_limit_exceeded", "writer_unavailable", True),
        (429, "insufficient_quota", "writer_closed", False),
        (400, "invalid_prompt", "writer_refused", False),
        (422, None, "writer_refused", False),
        (401, "invalid_api_key", "writer_closed", False),
        (404, "model_not_found", "writer_closed", False),
    ],
)
def test_a_status_says_whether_a_retry_or_another_request_can_help(
    writer: OpenAiWriter, server: OpenAiServer, status: int, told: str | None, code: str, retryable: bool
) -> None:
    server.failing = status, told
    with pytest.raises(LlmError) as caught:
        writer.write(ASKED, max_tokens=50)
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert str(status) in caught.value.message
    assert "1234" not in str(caught.value)
    assert writer.calls == 0


def test_a_wrong_key_is_closed_for_good_and_not_shown(server: OpenAiServer) -> None:
    writer = writer_at(server.base_url, "sk-wrong")
    with pytest.raises(LlmError) as caught:
        writer.write(ASKED, max_tokens=50)
    writer.close()
    assert (caught.value.code, caught.value.retryable) == ("writer_closed", False)
    assert "sk-wrong" not in str(caught.value)


def test_a_server_that_is_not_there_may_be_asked_again_later(free_port: int) -> None:
    writer = writer_at(f"http://127.0.0.1:{free_port}/v1")
    with pytest.raises(LlmError) as caught:
        writer.write(ASKED, max_tokens=50)
    writer.close()
    assert (caught.value.code, caught.value.retryable) == ("writer_unavailable", True)


def test_an_answer_that_was_cut_or_declined_is_no_answer(writer: OpenAiWriter, server: OpenAiServer) -> None:
    for reason, code in (("length", "writer_cut"), ("content_filter", "writer_refused")):
        server.finish_reason = reason
        with pytest.raises(LlmError) as caught:
            writer.write(ASKED, max_tokens=50)
        assert (caught.value.code, caught.value.retryable) == (code, False)


@pytest.mark.parametrize("answer", ["", " \n", {"choices": []}, {"object": "something else"}, b"<html>busy</html>"])
def test_an_answer_without_words_is_an_error_and_never_an_empty_text(
    writer: OpenAiWriter, server: OpenAiServer, answer: Any
) -> None:
    server.write = lambda body: answer
    with pytest.raises(LlmError) as caught:
        writer.write(ASKED, max_tokens=50)
    assert (caught.value.code, caught.value.retryable) == ("writer_unreadable", True)


def test_two_servers_with_a_model_of_one_name_are_two_writers() -> None:
    one, other, openais = writer_at("http://one/v1"), writer_at("http://other/v1"), OpenAiWriter(open_nothing, "gpt-4o-mini")
    assert len({one.fingerprint, other.fingerprint, openais.fingerprint}) == 3
    assert "http" not in one.fingerprint


def open_nothing() -> Any:
    raise AssertionError("asked before it was needed")


def test_the_settings_name_no_writer_unless_somebody_does(tmp_path: Any) -> None:
    environ = {"TWIN_HOME": str(tmp_path), "OPENAI_API_KEY": "sk-1", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
    assert load_settings().models.writer == "none"
    assert open_writer(named("none"), {}) is None
    writer = open_writer(named("gpt-4o-mini"), environ)
    assert writer is not None
    assert writer.fingerprint.startswith("gpt-4o-mini@")


def test_a_named_writer_without_a_key_is_an_error_and_not_a_run_without_one(tmp_path: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        open_writer(named("gpt-4o-mini"), {"TWIN_HOME": str(tmp_path)})
    assert caught.value.code == "address_missing"
    assert "OPENAI_API_KEY" in caught.value.message
