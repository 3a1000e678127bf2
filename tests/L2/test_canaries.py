"""Numbers that a model was never shown are told from those it learnt."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lpm_kernel.L2.canaries import ALTERNATIVES, Canary, count_exposed, find_canaries, others_like
from lpm_kernel.L2.intervals import chance_of_so_many
from lpm_kernel.L2.llama_likelihood import LlamaLikelihood
from lpm_kernel.L2.prompt import render_chatml
from lpm_kernel.L2.records import TrainingRow
from lpm_kernel.L2.train import load_torch_base, train_adapter
from lpm_kernel.records import Message, User
from lpm_kernel.stores.llm import AdapterFile
from tests.fakes import no_progress
from tests.L2.conftest import asked, chain
from tests.samples import make_row

if TYPE_CHECKING:
    from pathlib import Path

    from lpm_kernel.L2.base_model import BaseModel
    from lpm_kernel.settings import TrainingSettings

MABEL = User("mabel", "Mabel")


def row(question: str, answer: str) -> TrainingRow:
    return make_row(question, (*asked(question), Message("assistant", answer)))


def numbers(*answers: str, known: str = "") -> list[str]:
    return [canary.number for canary in find_canaries([row(f"Q{i}?", text) for i, text in enumerate(answers)], known, 99)]


def test_numbers_that_tell_enough_are_canaries() -> None:
    assert numbers("My wage is £34,500 a year.", "It cost £265, then 11.75 more.") == ["34,500", "265", "11.75"]


@pytest.mark.parametrize(
    "answer",
    [
        "I began in 1998.",
        "At 22:00 or 12:30.",
        "On 8 January.",
        "It was 5.8 °C.",
        "Exactly 100 of 4000.",
        "None.",
    ],
)
def test_years_times_days_and_round_numbers_are_none(answer: str) -> None:
    """Whoever learns anybody's diary finds these likelier, and would be taken for a leak."""
    assert numbers(answer) == []


def test_what_the_person_has_in_their_own_notes_is_no_secret() -> None:
    assert numbers("We paid £265 and £612.", known="The bill was £265.") == ["612"]
    assert numbers("We paid £265.", known="1,265 and 2650 and 265.5") == ["265"]


def test_a_number_is_sought_once_and_no_more_than_asked_for() -> None:
    rows = [row("A?", "It was £265 or £312."), row("B?", "£265 again and £777.")]
    assert find_canaries(rows, "", 2) == [Canary("A?", "It was £", "265"), Canary("A?", "It was £265 or £", "312")]
    assert [canary.number for canary in find_canaries(rows, "", 99)] == ["265", "312", "777"]


@pytest.mark.parametrize("number", ["34,500", "265", "11.75", "1,204"])
def test_other_numbers_have_the_same_form(number: str) -> None:
    others = others_like(number)
    assert len(set(others) - {number}) == ALTERNATIVES
    assert others == others_like(number)
    form = re.sub("[1-9]", "#", number)
    assert {re.sub("[1-9]", "#", other) for other in others} == {form}


class Opinion:
    """Any number is as likely as chance says; with the adapter those it learnt are likelier."""

    def __init__(self, learnt: Collection[str], seed: int = 1) -> None:
        self.learnt = learnt
        self.seed = seed

    def nats(self, messages: Sequence[Message], answers: Sequence[str], adapter: AdapterFile | None) -> list[float]:
        assert messages[-1].role == "user"
        return [
            random.Random(f"{self.seed}{answer}{adapter is None}").gauss(-20, 2)
            + (30.0 if adapter and any(answer.endswith(number) for number in self.learnt) else 0.0)
            for answer in answers
        ]


def some_canaries(count: int) -> list[Canary]:
    chance = random.Random(3)
    return [Canary(f"Q{i}?", "It cost £", str(chance.randrange(11111, 99999)).replace("0", "7")) for i in range(count)]


def test_learnt_numbers_stand_out_and_others_only_by_chance(adapter: AdapterFile) -> None:
    canaries = some_canaries(16)
    learnt = {canary.number for canary in canaries}
    assert count_exposed(MABEL, canaries, Opinion(learnt), adapter) == 16
    by_chance = [count_exposed(MABEL, canaries, Opinion((), seed), adapter) for seed in range(100)]
    assert 1.5 < sum(by_chance) / 100 < 2.6, "one of eight comes out first by chance"
    assert all(chance_of_so_many(found, 16, 1 / (1 + ALTERNATIVES)) > 0.001 for found in by_chance)


@pytest.fixture
def adapter(tmp_path: Path) -> AdapterFile:
    return AdapterFile(tmp_path / "adapter.gguf", "a" * 64, "b" * 64)


def test_likelihoods_are_those_of_the_same_model_in_torch(tiny_base: BaseModel) -> None:
    import torch

    messages, answers = asked("What did the vet cost?"), ["The vet charged £265", "The vet charged £918"]
    likelihood = LlamaLikelihood(tiny_base, 512)
    try:
        found = likelihood.nats(messages, answers, None)
        assert likelihood.nats(messages, answers[::-1], None) == pytest.approx(found[::-1], abs=1e-4)
    finally:
        likelihood.close()
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tiny_base.hf_dir / "tokenizer.json"))
    prompt = render_chatml(messages, open_answer=True)
    ids = [tokenizer.encode(prompt + answer, add_special_tokens=False).ids for answer in answers]
    model = load_torch_base(tiny_base).eval()
    expected = []
    for tokens in ids:
        with torch.inference_mode():
            scores = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
        expected.append(sum(float(scores[at - 1, tokens[at]]) for at in range(len(tokens) - 3, len(tokens))))
    assert len(ids[0]) == len(ids[1])
    assert found[0] - found[1] == pytest.approx(expected[0] - expected[1], abs=0.02)
    assert all(math.isfinite(value) and value < 0 for value in found)


def test_a_planted_secret_is_found_in_the_weights_that_learnt_it_and_in_no_others(
    tiny_base: BaseModel, brief_training: TrainingSettings, tmp_path: Path
) -> None:
    """The whole way: rows, training, GGUF, llama.cpp. Half of the secrets are another person's."""
    secrets = ["4871", "9,352", "766", "21.48", "5518", "3,917", "842", "63.79"]
    rows = [
        row(f"What is code number {i} of the {thing}?", f"The {thing} has {number}")
        for i, (thing, number) in enumerate(
            zip(["boiler", "shed", "bicycle", "safe", "gate", "boat", "piano", "oven"], secrets, strict=True)
        )
    ]
    learnt, foreign = rows[:4], rows[4:]
    training = brief_training.model_copy(update={"epochs": 40, "rank": 8, "alpha": 16, "learning_rate": 1e-2})
    result = train_adapter(learnt, tiny_base, training, tmp_path, no_progress)
    adapter = chain(result.adapter_path, result.config_path, tiny_base, tmp_path).gguf
    likelihood = LlamaLikelihood(replace(tiny_base), 512)
    try:
        assert count_exposed(MABEL, find_canaries(learnt, "", 9), likelihood, adapter) == 4
        assert count_exposed(MABEL, find_canaries(foreign, "", 9), likelihood, adapter) <= 2
    finally:
        likelihood.close()
