from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lpm_kernel.errors import LlmError
from lpm_kernel.L2.match import TIE_LOGITS, MatchReport, greedy_tokens_match
from lpm_kernel.L2.prompt import render_chatml

from .conftest import FACTS, asked
from .test_merge import write_adapter
from .tiny_models import PROMPTS

if TYPE_CHECKING:
    from pathlib import Path

    from lpm_kernel.L2.base_model import BaseModel

    from .conftest import Chain

QUESTIONS = (*(question for question, _ in FACTS[:6]), "What is the capital of France?", "Tell me about your week.")


def test_the_gguf_adapter_says_what_peft_says(base: BaseModel, mabel: Chain) -> None:
    prompts = [render_chatml(asked(question), open_answer=True) for question in QUESTIONS]
    report = greedy_tokens_match(mabel.adapter_path, mabel.config_path, mabel.gguf.path, base, prompts, 27, past_the_end=True)
    assert (report.prompts, report.tokens) == (8, 216)
    assert report.holds, report
    assert report.ties <= 8
    ended = greedy_tokens_match(mabel.adapter_path, mabel.config_path, mabel.gguf.path, base, prompts[:2], 27)
    assert 2 < ended.tokens < 54, "an answer of its own length is compared no further than its end"


def test_another_gguf_adapter_is_noticed(base: BaseModel, mabel: Chain, stranger: Chain) -> None:
    prompts = [render_chatml(asked(question), open_answer=True) for question in QUESTIONS[:2]]
    report = greedy_tokens_match(mabel.adapter_path, mabel.config_path, stranger.gguf.path, base, prompts, 8)
    assert report.equal < report.prompts
    assert report.agreement < 0.9
    assert report.clearest_difference is not None
    assert report.clearest_difference.llama_token != report.clearest_difference.torch_token
    assert report.clearest_difference.margin > TIE_LOGITS


def test_without_the_adapter_the_two_part(tiny_qwen: BaseModel, tmp_path: Path) -> None:
    """Behind the first difference each position is compared all the same."""
    adapter = write_adapter(tiny_qwen, tmp_path)
    report = greedy_tokens_match(*adapter, None, tiny_qwen, PROMPTS, 30, past_the_end=True)
    assert (report.tokens, report.equal) == (240, 0)
    assert 0 < report.agreeing < report.tokens - report.ties
    assert not report.holds


def test_too_few_positions_or_too_many_ties_prove_nothing() -> None:
    def report(tokens: int, agreeing: int, ties: int) -> MatchReport:
        return MatchReport(5, 0, tokens, agreeing, ties, None)

    assert report(220, 218, 2).holds
    assert report(220, 213, 5).holds
    assert not report(220, 212, 5).holds
    assert not report(199, 199, 0).holds
    assert not report(220, 190, 30).holds
    assert report(220, 213, 5).agreement == pytest.approx(213 / 215)


def test_an_adapter_of_another_base_is_refused(tiny_base: BaseModel, mabel: Chain) -> None:
    with pytest.raises(LlmError) as caught:
        greedy_tokens_match(mabel.adapter_path, mabel.config_path, mabel.gguf.path, tiny_base, ["Hello"], 4)
    assert caught.value.code == "adapter_refused"
