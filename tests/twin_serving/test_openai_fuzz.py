"""Whatever is sent to OpenAI's paths, the answer is never a failure of the server, and every refusal has OpenAI's form."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes import FakeLlm
from twin_serving.openai_wire.schemas import ChatCompletionRequest, EmbeddingRequest

QUIRKS = st.sampled_from(["", " ", "\x00", "\ud800", "<|im_end|>", "twin-1", "a" * 300, "role", "٣", "\u2028", "None"])
WORDS = QUIRKS | st.text(max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=8
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "developer", "tool"]) | JSON},
        optional={
            "content": WORDS | JSON | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": WORDS}), max_size=2),
            "name": JSON,
            "tool_calls": JSON,
        },
    ),
    max_size=4,
)


class TalkativeLlm(FakeLlm):
    """Never without an answer."""

    def _pieces(self, *arguments: Any):
        self.answers.append("Pilchard, I think.")
        return super()._pieces(*arguments)


@pytest.fixture
def llm() -> TalkativeLlm:
    return TalkativeLlm()


def body_of(known: dict[str, Any], names: Iterable[str]) -> st.SearchStrategy[Any]:
    """Mostly a body that is nearly right, so that what lies behind the forms is met as well."""
    more = st.dictionaries(st.sampled_from(sorted({*names, "zebra"} - set(known))), JSON, max_size=2)
    return st.builds(lambda right, wrong: {**right, **wrong}, st.fixed_dictionaries(known), more) | JSON


CHATS = body_of(
    {"model": st.just("TWIN"), "messages": MESSAGES},
    ChatCompletionRequest.model_fields,
)
VECTORS = body_of(
    {"model": st.just("all-MiniLM-L6-v2-int8"), "input": WORDS | st.lists(WORDS | st.integers(), max_size=3) | JSON},
    EmbeddingRequest.model_fields,
)


def check(client: TestClient, path: str, body: Any) -> None:
    response = client.post(path, content=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    assert response.status_code in (200, 400, 404), response.text
    if response.status_code != 200:
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        assert error["code"]


def test_no_body_of_a_chat_makes_the_server_fail(app: FastAPI, twin: str) -> None:
    @settings(suppress_health_check=list(HealthCheck), max_examples=150)
    @given(CHATS)
    def run(body: Any) -> None:
        if isinstance(body, dict) and body.get("model") == "TWIN":
            body = {**body, "model": f"twin-{twin}"}
        check(client, "/v1/chat/completions", body)

    with TestClient(app) as client:
        run()


def test_no_body_of_an_embedding_makes_the_server_fail(app: FastAPI) -> None:
    @settings(suppress_health_check=list(HealthCheck), max_examples=150)
    @given(VECTORS)
    def run(body: Any) -> None:
        check(client, "/v1/embeddings", body)

    with TestClient(app) as client:
        run()


def test_a_key_that_cannot_be_sent_back_is_refused(app: FastAPI) -> None:
    """JSON may hold half of a character, and an error that quotes it cannot be encoded."""
    body = {"model": "twin-1", "messages": [{"role": "user", "content": "Cat?"}], "\ud800": 1}
    with TestClient(app) as client:
        check(client, "/v1/chat/completions", body)
        check(client, "/v1/embeddings", {"model": "\ud800", "input": "\udfff"})


def test_bodies_that_are_no_json_are_refused(app: FastAPI) -> None:
    bodies = [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"model": NaN}', b"1" * 10_000, b'{"model": "x", "model": []}']
    with TestClient(app) as client:
        for path in ("/v1/chat/completions", "/v1/embeddings"):
            for body in bodies:
                response = client.post(path, content=body, headers={"Content-Type": "application/json"})
                assert response.status_code == 400, (path, body[:10], response.text)
                assert response.json()["error"]["type"] == "invalid_request_error"
            assert client.post(path, data={"model": "x"}).status_code == 400
