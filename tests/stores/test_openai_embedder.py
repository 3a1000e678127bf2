"""Requests of a size that OpenAI takes, and answers that are none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from lpm_kernel.errors import LlmError
from lpm_kernel.stores.addresses import OpenAiAddress
from lpm_kernel.stores.openai_client import open_openai
from lpm_kernel.stores.openai_embedder import OpenAiEmbedder
from tests.openai_server import OpenAiServer, WideEmbedder

LONG = "the quick brown fox jumps over a lazy dog "


@pytest.fixture
def server() -> Iterator[OpenAiServer]:
    with OpenAiServer() as server:
        yield server


@pytest.fixture
def embedder(server: OpenAiServer) -> Iterator[OpenAiEmbedder]:
    yield from embedder_at(server.base_url, server.api_key)


def embedder_at(base_url: str, api_key: str = "sk-stand-in") -> Iterator[OpenAiEmbedder]:
    with open_openai(OpenAiAddress(api_key, base_url)).with_options(max_retries=0) as client:
        yield OpenAiEmbedder(lambda: client)


def test_texts_go_in_requests_of_at_most_2048(embedder: OpenAiEmbedder, server: OpenAiServer) -> None:
    texts = [f"text {i}" for i in range(2050)]
    vectors = embedder.embed(texts)
    assert [len(request) for request in server.requests] == [2048, 2]
    np.testing.assert_allclose(vectors, WideEmbedder().embed(texts), atol=1e-6)


def test_a_request_holds_at_most_300000_tokens(embedder: OpenAiEmbedder, server: OpenAiServer) -> None:
    text = LONG * 800
    texts = [f"{i} {text}" for i in range(45)]
    vectors = embedder.embed(texts)
    assert [text for request in server.requests for text in request] == texts
    assert len(server.requests) == 2
    np.testing.assert_allclose(vectors, WideEmbedder().embed(texts), atol=1e-6)
    assert embedder.tokens > 300_000


@pytest.mark.parametrize("text", [LONG * 1000, "😀ä€" * 6000, "<|endoftext|> " * 5000])
def test_a_text_is_read_up_to_the_models_limit(embedder: OpenAiEmbedder, server: OpenAiServer, text: str) -> None:
    embedder.embed([text, "short"])
    ((cut, short),) = server.requests
    assert short == "short"
    assert text.startswith(cut)
    assert embedder.tokens > 8000


def test_what_the_api_counted_is_told(embedder: OpenAiEmbedder) -> None:
    assert embedder.tokens == 0
    embedder.embed(["a cat", "a dog"])
    embedder.embed(["a cat"])
    assert embedder.tokens == 6


def test_nothing_is_asked_for_no_texts(embedder: OpenAiEmbedder, server: OpenAiServer) -> None:
    embedder.embed([])
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (500, None, True),
        (503, None, True),
        (429, "rate_limit_exceeded", True),
        (429, "insufficient_quota", False),
        (400, None, False),
        (401, "invalid_api_key", False),
        (403, None, False),
        (404, "model_not_found", False),
    ],
)
def test_an_answer_that_is_no_success_says_whether_a_retry_can_help(
    embedder: OpenAiEmbedder, server: OpenAiServer, status: int, code: str | None, retryable: bool
) -> None:
    server.failing = status, code
    with pytest.raises(LlmError) as caught:
        embedder.embed(["my card is 1234"])
    assert caught.value.retryable is retryable
    assert caught.value.code == ("embedder_unavailable" if retryable else "embedder_refused")
    assert str(status) in caught.value.message
    assert "1234" not in str(caught.value)


def test_a_server_that_is_not_there_may_be_asked_again_later(free_port: int) -> None:
    for embedder in embedder_at(f"http://127.0.0.1:{free_port}/v1"):
        with pytest.raises(LlmError) as caught:
            embedder.embed(["a cat"])
        assert (caught.value.code, caught.value.retryable) == ("embedder_unavailable", True)


def test_a_wrong_key_is_no_passing_failure(server: OpenAiServer) -> None:
    for embedder in embedder_at(server.base_url, "sk-wrong"):
        with pytest.raises(LlmError) as caught:
            embedder.embed(["a cat"])
        assert caught.value.retryable is False
        assert "sk-wrong" not in str(caught.value)


@pytest.mark.parametrize(("spoil", "dim"), [("short", 1536), ("zero", 1536), ("", 768)])
def test_an_answer_of_another_form_is_an_error(embedder: OpenAiEmbedder, server: OpenAiServer, spoil: str, dim: int) -> None:
    server.spoil, server.dim = spoil, dim
    with pytest.raises(LlmError) as caught:
        embedder.embed(["a cat", "a dog"])
    assert (caught.value.code, caught.value.retryable) == ("embedder_unreadable", False)


def test_the_clients_own_tries_come_first(server: OpenAiServer) -> None:
    server.failing, server.failures_left = (500, None), 1
    with open_openai(OpenAiAddress(server.api_key, server.base_url)) as client:
        assert OpenAiEmbedder(lambda: client).embed(["a cat"]).shape == (1, 1536)
