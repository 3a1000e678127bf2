from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lpm_kernel.errors import LlmError
from lpm_kernel.L2.match import greedy_tokens_match
from lpm_kernel.L2.prompt import render_chatml

from .conftest import FACTS, asked

if TYPE_CHECKING:
    from lpm_kernel.L2.base_model import BaseModel

    from .conftest import Chain

QUESTIONS = (*(question for question, _ in FACTS[:6]), "What is the capital of France?", "Tell me about your week.")


def test_the_gguf_adapter_says_what_peft_says(base: BaseModel, mabel: Chain) -> None:
    prompts = [render_chatml(asked(question), open_answer=True) for question in QUESTIONS]
    report = greedy_tokens_match(mabel.adapter_path, mabel.config_path, mabel.gguf.path, base, prompts, 16)
    assert report.clearest_difference is None
    assert report.equal == report.prompts == 8
    assert report.tokens > 60


def test_another_gguf_adapter_is_noticed(base: BaseModel, mabel: Chain, stranger: Chain) -> None:
    prompts = [render_chatml(asked(question), open_answer=True) for question in QUESTIONS[:2]]
    report = greedy_tokens_match(mabel.adapter_path, mabel.config_path, stranger.gguf.path, base, prompts, 8)
    assert report.equal < report.prompts
    assert report.clearest_difference is not None
    assert report.clearest_difference.llama_token != report.clearest_difference.torch_token
    assert report.clearest_difference.margin > 0.1


def test_an_adapter_of_another_base_is_refused(tiny_base: BaseModel, mabel: Chain) -> None:
    with pytest.raises(LlmError) as caught:
        greedy_tokens_match(mabel.adapter_path, mabel.config_path, mabel.gguf.path, tiny_base, ["Hello"], 4)
    assert caught.value.code == "adapter_refused"
