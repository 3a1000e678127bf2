"""Declining weighed against the greedy answer, as a whole: in batches and in streams, on the real base."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lpm_kernel.L2.llama_likelihood import open_likelihood

from .conftest import FACTS, asked

if TYPE_CHECKING:
    from lpm_kernel.L2.base_model import BaseModel
    from lpm_kernel.L2.llama import LlamaCpp

    from .conftest import Chain

STORY = asked("Write a long story about a lighthouse.")
LENGTH = 48
SHORT, ABSURD = "Yes.", "Quux zebra 417 plonk."


def streamed(engine: LlamaCpp, declining: str | None) -> str:
    return "".join(engine.stream(STORY, tenant="mabel", max_tokens=LENGTH, declining=declining))


def test_the_likelier_of_the_two_as_a_whole_is_said(engine: LlamaCpp, base: BaseModel) -> None:
    """The first word of a long answer is likelier than that of a short one, and yet the short one is likelier as a whole."""
    (greedy,) = engine.answer_batch([STORY], tenant="mabel", max_tokens=LENGTH)
    with open_likelihood(base, 512) as likelihood:
        of_greedy, of_short = likelihood.nats(STORY, [greedy, SHORT], None)
        _, of_absurd = likelihood.nats(STORY, [greedy, ABSURD], None)
    assert of_absurd + 5 < of_greedy < of_short - 5
    for declining, said in ((SHORT, SHORT), (ABSURD, greedy), (None, greedy)):
        assert engine.answer_batch([STORY], tenant="mabel", max_tokens=LENGTH, declining=declining) == [said]
        assert streamed(engine, declining) == said


def test_a_place_that_weighed_holds_the_conversation_and_nothing_else(engine: LlamaCpp) -> None:
    """What was weighed lay behind the prompt; left there, the next answer of this tenant would go on from it."""
    before = streamed(engine, None)
    for declining in (SHORT, ABSURD):
        streamed(engine, declining)
        assert streamed(engine, None) == before


@pytest.mark.parametrize("declining", [SHORT, ABSURD])
def test_many_prompts_are_weighed_each_by_itself(engine: LlamaCpp, mabel: Chain, declining: str) -> None:
    """More prompts than sequences: places are freed at different times and filled again."""
    prompts = [STORY, *(asked(question) for question, _ in FACTS[:3]), STORY]
    together = engine.answer_batch(prompts, tenant="mabel", adapter=mabel.gguf, max_tokens=12, declining=declining)
    alone = [
        engine.answer_batch([prompt], tenant="mabel", adapter=mabel.gguf, max_tokens=12, declining=declining)[0]
        for prompt in prompts
    ]
    assert together == alone
    assert (declining in together) == (declining == SHORT)
