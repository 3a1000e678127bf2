"""What every language model guarantees: greedy answers within their room, refusals before the first word, and order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lpm_kernel.errors import LlmError
from lpm_kernel.L2.base_model import default_cache_dir, prepare_base
from lpm_kernel.records import Message
from lpm_kernel.settings import Settings
from lpm_kernel.stores.llm import AdapterFile, Llm
from tests.fakes import FakeLlm, no_progress
from twin_serving.engine.engine import ServingEngine

HELLO = (Message("system", "You are a helpful assistant."), Message("user", "What is the capital of France?"))


@pytest.fixture(scope="module")
def llama(settings: Settings) -> Iterator[Llm]:
    from lpm_kernel.L2.llama import LlamaCpp

    engine = LlamaCpp(prepare_base(settings.models, default_cache_dir(os.environ), no_progress), slots=2, context_tokens=256)
    yield engine
    engine.close()


@pytest.fixture(params=["embedded", "fake", "served"])
def llm(request: pytest.FixtureRequest, settings: Settings) -> Llm:
    if request.param == "embedded":
        return request.getfixturevalue("llama")
    fake = FakeLlm(["The capital of France is Paris."] * 9, context_tokens=256)
    return fake if request.param == "fake" else ServingEngine(fake, settings)


Ask = Callable[..., str]


@pytest.fixture(params=["stream", "batch"])
def ask(request: pytest.FixtureRequest, llm: Llm) -> Ask:
    if request.param == "stream":
        return lambda messages, **how: "".join(llm.stream(messages, tenant="1", **how))
    return lambda messages, **how: llm.answer_batch([messages], tenant="1", **how)[0]


def test_a_question_is_answered(ask: Ask) -> None:
    assert ask(HELLO, max_tokens=16).strip() == "The capital of France is Paris."


def test_a_shorter_answer_is_the_beginning_of_the_longer(ask: Ask) -> None:
    assert ask(HELLO, max_tokens=16).startswith(short := ask(HELLO, max_tokens=2))
    assert 0 < len(short) < len(ask(HELLO, max_tokens=16))


def test_a_stream_comes_in_pieces(llm: Llm) -> None:
    assert len(list(llm.stream(HELLO, tenant="1", max_tokens=16))) >= 4


def test_a_stream_closed_early_leaves_room_for_the_next(llm: Llm) -> None:
    for _ in range(4):
        stream = llm.stream(HELLO, tenant="1", max_tokens=16)
        next(stream)
        stream.close()  # type: ignore[attr-defined]
    assert "Paris" in "".join(llm.stream(HELLO, tenant="1", max_tokens=16))


def test_a_batch_answers_each_in_order(llm: Llm) -> None:
    other = (HELLO[0], Message("user", "What is the capital of France? Answer in a sentence."))
    answers = llm.answer_batch([HELLO, other, HELLO], tenant="1", max_tokens=16)
    assert len(answers) == 3
    assert answers[0] == answers[2]
    assert llm.answer_batch([], tenant="1", max_tokens=16) == []


def test_tokens_of_a_prompt_grow_with_it(llm: Llm) -> None:
    longer = (*HELLO[:-1], Message("user", HELLO[-1].content + " And of Ghana?"))
    assert 0 < llm.prompt_tokens(HELLO) < llm.prompt_tokens(longer) < llm.context_tokens


def test_a_prompt_without_room_for_its_answer_is_refused_before_the_first_word(llm: Llm) -> None:
    room = llm.context_tokens - llm.prompt_tokens(HELLO)
    for asked in (
        lambda: llm.stream(HELLO, tenant="1", max_tokens=room + 1),
        lambda: llm.answer_batch([HELLO], tenant="1", max_tokens=room + 1),
    ):
        with pytest.raises(LlmError) as caught:
            asked()
        assert (caught.value.code, caught.value.retryable) == ("prompt_too_long", False)
    assert "Paris" in "".join(llm.stream(HELLO, tenant="1", max_tokens=room))


def test_an_adapter_of_another_base_is_refused_before_the_first_word(llm: Llm, tmp_path: Path) -> None:
    foreign = AdapterFile(tmp_path / "adapter.gguf", "a" * 64, "f" * 64)
    for asked in (
        lambda: llm.stream(HELLO, tenant="1", adapter=foreign, max_tokens=8),
        lambda: llm.answer_batch([HELLO], tenant="1", adapter=foreign, max_tokens=8),
    ):
        with pytest.raises(LlmError) as caught:
            asked()
        assert (caught.value.code, caught.value.retryable) == ("adapter_refused", False)
    assert "Paris" in "".join(llm.stream(HELLO, tenant="1", max_tokens=16))


def test_options_are_weighed_against_each_other(llm: Llm) -> None:
    ((right, wrong), (_, again)) = llm.score([HELLO, HELLO], ["France", "Xylophone"], tenant="1")
    assert wrong < right < 0
    assert again == pytest.approx(wrong, abs=1e-3)
    for prompts, options, code in (
        ([HELLO], [""], "option_empty"),
        ([(Message("user", "word " * 300),)], ["a"], "prompt_too_long"),
    ):
        with pytest.raises(LlmError) as caught:
            llm.score(prompts, options, tenant="1")
        assert (caught.value.code, caught.value.retryable) == (code, False)


def test_the_fake_remembers_what_it_was_asked_and_fails_when_told_to() -> None:
    fake = FakeLlm(["one two three", LlmError("decode_failed", "told to")])
    adapter = AdapterFile(Path("x"), "a" * 64, fake.base_sha256)
    assert list(fake.stream(HELLO, tenant="7", adapter=adapter, max_tokens=2)) == ["one", " two"]
    assert [(call.messages, call.tenant, call.adapter, call.max_tokens) for call in fake.calls] == [(HELLO, "7", adapter, 2)]
    with pytest.raises(LlmError, match="told to"):
        fake.answer_batch([HELLO], tenant="7", max_tokens=8)
    fake.close()
    with pytest.raises(LlmError, match="closed"):
        fake.stream(HELLO, tenant="7", max_tokens=8)
