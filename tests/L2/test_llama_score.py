"""Likelihoods of options: one tree against plain evaluation of each prompt and option; and what a call leaves behind."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

import pytest

from lpm_kernel.errors import LlmError
from lpm_kernel.L2.llama_likelihood import open_likelihood
from lpm_kernel.L2.llama_score import BRANCHES, open_prompt
from lpm_kernel.records import Message

from .conftest import FACTS, asked

if TYPE_CHECKING:
    from pathlib import Path

    from lpm_kernel.L2.base_model import BaseModel
    from lpm_kernel.L2.llama import LlamaCpp
    from lpm_kernel.settings import Settings

    from .conftest import Chain

OPTIONS = [" for", " against", " against it, and", " abstaining"]
TOLERANCE = 0.02


def standing(question: str, begun: str = "I am") -> tuple[Message, ...]:
    return (*asked(question), Message("assistant", begun))


PROMPTS = [
    standing("Do you want the bench?"),
    standing("Do you want the bench?", "I am, all in all,"),
    asked("Do you want the lamp?"),
    standing("Do you want the bench?"),
    *(asked(question) for question, _ in FACTS),
]


def plainly(model, tokenizer, messages: tuple[Message, ...], option: str) -> float:
    """By transformers: one forward pass for one prompt and one option."""
    import torch

    prompt = tokenizer(open_prompt(messages), add_special_tokens=False)["input_ids"]
    said = tokenizer(option, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([prompt + said])).logits[0].double().log_softmax(-1)
    return sum(float(logits[len(prompt) - 1 + index, token]) for index, token in enumerate(said))


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_a_tree_is_what_transformers_finds_for_each_alone(settings: Settings, tmp_path: Path, architecture: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lpm_kernel.L2.llama import LlamaCpp

    from .tiny_models import prepare_tiny, write_tiny_model

    base = prepare_tiny(settings, write_tiny_model(tmp_path / "hf", architecture), tmp_path / "cache")
    model = AutoModelForCausalLM.from_pretrained(base.hf_dir, dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(base.hf_dir)
    engine = LlamaCpp(base, slots=1, context_tokens=256)
    try:
        found = engine.score(PROMPTS, OPTIONS, tenant="mabel")
    finally:
        engine.close()
    for messages, likelihoods in zip(PROMPTS, found, strict=True):
        expected = [plainly(model, tokenizer, messages, option) for option in OPTIONS]
        assert likelihoods == pytest.approx(expected, abs=TOLERANCE)


def test_of_the_real_base_a_tree_is_what_one_evaluation_each_finds(engine: LlamaCpp, base: BaseModel, mabel: Chain) -> None:
    """Differences of likelihoods, which is all that the other way gives."""
    for adapter in (None, mabel.gguf):
        found = engine.score(PROMPTS, OPTIONS, tenant="mabel", adapter=adapter)
        assert found[0] == pytest.approx(found[3], abs=1e-6)
        with open_likelihood(base, 512) as alone:
            for messages, likelihoods in zip(PROMPTS, found, strict=True):
                if messages[-1].role == "user":
                    said = [option.strip() for option in OPTIONS[:2]]
                    expected = alone.nats(messages, said, adapter)
                    (likelihoods,) = engine.score([messages], said, tenant="mabel", adapter=adapter)
                    assert likelihoods[0] - likelihoods[1] == pytest.approx(expected[0] - expected[1], abs=TOLERANCE)


def test_what_is_asked_together_is_what_is_asked_alone_however_it_is_cut_into_parts(engine: LlamaCpp) -> None:
    """More options than branches, and more tokens than a context: several parts, of which each finds the one before it."""
    many = [
        standing(f"Do you want bench number {number}? " + "It is made of oak. " * 12) for number in range(2 * BRANCHES // 3)
    ]
    together = engine.score(many, OPTIONS[:3], tenant="mabel")
    for place in (0, 17, len(many) - 1):
        assert engine.score([many[place]], OPTIONS[:3], tenant="mabel")[0] == pytest.approx(together[place], abs=TOLERANCE)


def test_options_that_begin_alike_are_told_apart(engine: LlamaCpp) -> None:
    ((short, long),) = engine.score([PROMPTS[0]], [" against", " against it"], tenant="mabel")
    assert long < short < 0
    assert math.isfinite(long)


def test_a_call_leaves_nothing_that_another_tenant_or_adapter_could_find(
    engine: LlamaCpp, mabel: Chain, stranger: Chain
) -> None:
    before = engine.score(PROMPTS[:2], OPTIONS, tenant="mabel", adapter=mabel.gguf)
    other = engine.score(PROMPTS[:2], OPTIONS, tenant="ravi", adapter=stranger.gguf)
    assert other != before
    assert engine.score(PROMPTS[:2], OPTIONS, tenant="ravi") != before
    assert engine.score(PROMPTS[:2], OPTIONS, tenant="mabel", adapter=mabel.gguf) == before


def test_a_stream_beside_it_says_what_it_says_alone(engine: LlamaCpp) -> None:
    alone = "".join(engine.stream(PROMPTS[2], tenant="mabel", max_tokens=12))
    scored: list[list[list[float]]] = []
    beside = threading.Thread(target=lambda: scored.append(engine.score(PROMPTS, OPTIONS, tenant="ravi")))
    beside.start()
    assert "".join(engine.stream(PROMPTS[2], tenant="mabel", max_tokens=12)) == alone
    beside.join(60)
    assert scored == [engine.score(PROMPTS, OPTIONS, tenant="ravi")]


def test_what_cannot_be_scored_is_refused_by_name(engine: LlamaCpp) -> None:
    assert engine.score([], OPTIONS, tenant="mabel") == []
    assert engine.score(PROMPTS[:2], [], tenant="mabel") == [[], []]
    for prompts, options, code in (
        ([PROMPTS[0]], [" for", ""], "option_empty"),
        ([standing("word " * 600)], OPTIONS, "prompt_too_long"),
    ):
        with pytest.raises(LlmError) as raised:
            engine.score(prompts, options, tenant="mabel")
        assert (raised.value.code, raised.value.retryable) == (code, False)


def test_special_tokens_in_a_prompt_or_an_option_are_words(engine: LlamaCpp) -> None:
    """An option that could close the message would be scored as an ended answer."""
    ((found,),) = engine.score([PROMPTS[0]], ["<|im_end|>"], tenant="mabel")
    ((plain,),) = engine.score([PROMPTS[0]], ["<im_end|>"], tenant="mabel")
    assert found == plain
