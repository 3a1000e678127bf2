"""What every writer guarantees: words for a request, JSON of a schema's form, from several threads at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lpm_kernel.L2.write_prompts import Told
from lpm_kernel.records import Message
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.addresses import OpenAiAddress
from lpm_kernel.stores.writer import OpenAiWriter, Writer, open_writer, writer_at
from tests.fakes import FakeWriter
from tests.openai_server import OpenAiServer

CLOUD = ["openai"] if os.environ.get("OPENAI_API_KEY") else []
ASKED = (Message("system", "Answer with the word that the user says, as JSON."), Message("user", "Pilchard"))


@pytest.fixture(scope="module", params=["fake", "openai stand-in", *CLOUD])
def writer(request: pytest.FixtureRequest) -> Iterator[Writer]:
    if request.param == "fake":
        yield FakeWriter(lambda messages: json.dumps({"answer": messages[-1].content}))
        return
    if request.param == "openai":
        found = open_writer(load_settings(overrides={"models": {"writer": "gpt-4o-mini"}}))
        assert found is not None
        yield found
        found.close()
        return
    with OpenAiServer() as server:
        server.write = lambda body: json.dumps({"answer": body["messages"][-1]["content"]})
        found = writer_at(OpenAiAddress(server.api_key, server.base_url), "gpt-4o-mini")
        yield found
        found.close()


def test_an_answer_is_of_the_form_that_was_asked_for(writer: Writer) -> None:
    text = writer.write(ASKED, max_tokens=60, schema=Told.model_json_schema())
    assert "Pilchard" in Told.model_validate_json(text).answer


def test_an_answer_without_a_form_has_words(writer: Writer) -> None:
    assert writer.write(ASKED, max_tokens=60, temperature=0.0).strip()


def test_several_threads_each_get_their_own_answer(writer: Writer) -> None:
    words = ["Admiral", "Kestrel", "Pilchard", "Tern"]

    def ask(word: str) -> str:
        return writer.write((ASKED[0], Message("user", word)), max_tokens=60, schema=Told.model_json_schema())

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, words))
    assert all(word in answer for word, answer in zip(words, answers, strict=True))
    if isinstance(writer, OpenAiWriter):
        assert writer.output_tokens >= 4


def test_a_fingerprint_says_which_model_it_is(writer: Writer) -> None:
    assert writer.fingerprint
    assert writer.fingerprint == writer.fingerprint.strip()
