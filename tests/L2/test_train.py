from __future__ import annotations

import random
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.train import TrainResult, answer_loss_sum, load_torch_base, train_adapter
from lpm_kernel.L2.training_batches import PASS_TOKENS, EncodedRow, encode_rows, epoch_batches, passes
from lpm_kernel.records import Message
from tests.fakes import no_progress

from .conftest import asked, training_rows

if TYPE_CHECKING:
    from pathlib import Path

    from lpm_kernel.L2.base_model import BaseModel
    from lpm_kernel.settings import TrainingSettings

encoded_rows = st.lists(
    st.integers(2, 200).flatmap(
        lambda length: st.builds(EncodedRow, st.just(tuple(range(length))), st.integers(1, length - 1))
    ),
    min_size=1,
    max_size=60,
)  # fmt: skip


def test_training_lowers_the_loss(trained: TrainResult) -> None:
    assert len(trained.loss_curve) == 2
    assert trained.loss_curve[1] < trained.loss_curve[0] - 0.5
    assert trained.steps == 8
    assert trained.tokens_per_second > 0
    assert trained.targets == ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def test_the_same_seed_and_rows_give_the_same_bytes(
    tiny_base: BaseModel, brief_training: TrainingSettings, tmp_path: Path
) -> None:
    """Weights were equal and files were not: safetensors wrote two metadata keys in an order that changed."""
    training = brief_training.model_copy(update={"threads": 2})
    results = [train_adapter(training_rows(), tiny_base, training, tmp_path / str(n), no_progress) for n in range(4)]
    assert len({result.adapter_path.read_bytes() for result in results}) == 1
    assert len({result.config_path.read_bytes() for result in results}) == 1
    assert len({result.loss_curve for result in results}) == 1


def test_another_seed_gives_another_adapter_and_torch_is_left_as_it_was(
    tiny_base: BaseModel, brief_training: TrainingSettings, tmp_path: Path
) -> None:
    import torch

    threads, random_state = torch.get_num_threads(), torch.get_rng_state()
    adapters = set()
    for seed in (1, 2):
        training = brief_training.model_copy(update={"seed": seed, "epochs": 1, "threads": threads + 1})
        result = train_adapter(training_rows(), tiny_base, training, tmp_path / str(seed), no_progress)
        adapters.add(result.adapter_path.read_bytes())
    assert len(adapters) == 2
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), random_state)


def test_progress_names_epoch_step_and_loss_and_ends_at_one(
    tiny_base: BaseModel, brief_training: TrainingSettings, tmp_path: Path
) -> None:
    said: list[tuple[float, str]] = []
    train_adapter(training_rows(), tiny_base, brief_training, tmp_path, lambda share, words: said.append((share, words)))
    shares = [share for share, _ in said]
    assert shares == sorted(shares)
    assert said[-1][0] == 1.0
    assert said[-1][1].startswith("epoch 2 of 2, step 8 of 8, loss ")
    assert not any("tortoise" in words for _, words in said)


def test_only_the_answer_is_learned(tiny_base: BaseModel) -> None:
    """The output layer runs at answer positions only; the loss must be that of the whole row with the prompt masked."""
    import torch

    rows = encode_rows(training_rows(), tiny_base.hf_dir)
    model = load_torch_base(tiny_base)
    longest = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    attention = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), -100)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        attention[index, : len(row.ids)] = 1
        labels[index, row.answer_start : len(row.ids)] = torch.tensor(row.ids[row.answer_start :])
    with torch.no_grad():
        whole = model(input_ids=ids, attention_mask=attention, labels=labels).loss
        mean = answer_loss_sum(model, rows) / sum(row.answer_tokens for row in rows)
        one_by_one = sum(answer_loss_sum(model, [row]) for row in rows) / sum(row.answer_tokens for row in rows)
    assert mean.item() == pytest.approx(whole.item(), rel=1e-5)
    assert float(one_by_one) == pytest.approx(whole.item(), rel=1e-5)


def test_the_last_token_learned_is_the_end_of_the_message(tiny_base: BaseModel) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tiny_base.hf_dir / "tokenizer.json"))
    row = encode_rows(training_rows()[:1], tiny_base.hf_dir)[0]
    learned = tokenizer.decode(row.ids[row.answer_start :], skip_special_tokens=False)
    given_text = tokenizer.decode(row.ids[: row.answer_start], skip_special_tokens=False)
    assert learned == "My tortoise is called Admiral.<|im_end|>"
    assert given_text.endswith("What is your tortoise called?<|im_end|>\n<|im_start|>assistant\n")


def test_rows_that_may_not_or_cannot_be_learned_are_refused(tiny_base: BaseModel) -> None:
    row = training_rows()[0]
    refused = {
        "no_training_rows": [],
        "held_out_row": [row, replace(row, split="held_out")],
        "answer_missing": [replace(row, messages=asked("Who?"))],
        "row_too_long": [replace(row, messages=(*asked("word " * 600), Message("assistant", "Yes.")))],
    }
    for code, rows in refused.items():
        with pytest.raises(TrainingError) as caught:
            encode_rows(rows, tiny_base.hf_dir)
        assert caught.value.code == code


def test_a_loss_that_is_not_finite_ends_the_training(
    tiny_base: BaseModel, brief_training: TrainingSettings, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    shutil.copytree(tiny_base.hf_dir, tmp_path / "hf")
    weights = load_file(tiny_base.hf_dir / "model.safetensors")
    weights["model.norm.weight"] = np.full_like(weights["model.norm.weight"], np.nan)
    save_file(weights, tmp_path / "hf" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingError, match="step 1 of 8") as caught:
        train_adapter(
            training_rows(), replace(tiny_base, hf_dir=tmp_path / "hf"), brief_training, tmp_path / "out", no_progress
        )
    assert caught.value.code == "loss_not_finite"
    assert not (tmp_path / "out").exists()


@given(encoded_rows, st.integers(1, 9), st.integers(0, 3))
def test_an_epoch_holds_every_row_once_and_follows_its_seed(rows: list[EncodedRow], batch_rows: int, seed: int) -> None:
    batches = epoch_batches(rows, batch_rows, random.Random(seed))
    assert sorted(map(id, (row for batch in batches for row in batch))) == sorted(map(id, rows))
    assert len(batches) == -(-len(rows) // batch_rows)
    assert batches == epoch_batches(rows, batch_rows, random.Random(seed))


@given(encoded_rows)
def test_a_batch_is_cut_to_fit_memory_and_loses_no_row(rows: list[EncodedRow]) -> None:
    parts = list(passes(rows))
    assert sorted(map(id, (row for part in parts for row in part))) == sorted(map(id, rows))
    assert all(len(part) * max(len(row.ids) for row in part) <= PASS_TOKENS for part in parts)
