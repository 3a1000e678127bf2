from __future__ import annotations

import random
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.torch_model import Placement, choose_placement
from lpm_kernel.L2.train import TrainingLoop, TrainResult, answer_loss_sum, load_torch_base, train_adapter
from lpm_kernel.L2.training_batches import PASS_TOKENS, EncodedRow, encode_rows, epoch_batches, passes
from lpm_kernel.records import Message
from tests.fakes import no_progress

from .conftest import asked, training_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
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


class Scripted:
    """Stands for the loss: gives its values in order, each of a weight, so that gradients exist; an error is raised."""

    def __init__(self, weight: Any, *script: float | Exception) -> None:
        self.weight, self.script = weight, list(script)
        self.sizes: list[int] = []

    def __call__(self, rows: Sequence[EncodedRow]) -> Any:
        self.sizes.append(len(rows))
        given = self.script.pop(0) if self.script else 1.0
        if isinstance(given, Exception):
            raise given
        return self.weight.sum() * 0.1 + given


def scripted(training: TrainingSettings, *script: float | Exception, **sets: int) -> tuple[TrainingLoop, Scripted, list[str]]:
    """A loop over four rows of ten tokens, two a batch, on a model of one weight."""
    import torch

    model = torch.nn.Linear(2, 1, bias=False)
    rows = [EncodedRow((n, *range(9)), 5) for n in range(4)]
    losses, told = Scripted(model.weight, *script), []
    changes = {"epochs": 2, "batch_rows": 2, "eval_every_steps": 0, **sets}
    measured = rows[:1] if changes["eval_every_steps"] else []
    place = Placement("cpu", "float32")
    given = training.model_copy(update=changes)
    loop = TrainingLoop(model, rows, measured, given, place, lambda share, words: told.append(words), losses)
    return loop, losses, told


def no_room() -> Exception:
    """What torch itself raises where memory ends."""
    import torch

    try:
        torch.empty(2**60)
    except RuntimeError as error:
        return error
    raise AssertionError("this machine has room for an exabyte")


def test_out_of_memory_halves_the_passes_once_and_says_so(brief_training: TrainingSettings) -> None:
    loop, losses, told = scripted(brief_training, no_room(), pass_tokens=20)
    state, _ = loop.run(None)
    assert losses.sizes == [2, *[1] * 8], "the batch that failed is learned whole, in two passes"
    assert (state.step, state.pass_tokens) == (4, 10)
    assert told[0] == "memory ran out in step 1: trying again with 10 tokens at once"


def test_out_of_memory_again_is_an_error_that_names_what_to_lower(brief_training: TrainingSettings) -> None:
    for error in (no_room(), MemoryError()):
        loop, _, _ = scripted(brief_training, error, 1.0, error, pass_tokens=20)
        with pytest.raises(TrainingError, match=r"step 1 .* 10 tokens at once .* lower training.pass_tokens") as caught:
            loop.run(None)
        assert caught.value.code == "out_of_memory"
        assert caught.value.retryable


def test_another_error_is_not_taken_for_a_lack_of_memory(brief_training: TrainingSettings) -> None:
    loop, _, _ = scripted(brief_training, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        loop.run(None)


def test_training_ends_when_measurements_stop_getting_better_and_the_best_weights_are_kept(
    brief_training: TrainingSettings,
) -> None:
    """Each step is one pass of training and one of measuring; the second measurement is the best."""
    import torch

    weights: list[torch.Tensor] = []
    script = [1.0, 9.0, 1.0, 4.0, 1.0, 5.0, 1.0, 6.0]
    loop, losses, _ = scripted(brief_training, *script, epochs=9, eval_every_steps=1, patience=2)
    loop_progress = loop._progress
    loop._progress = lambda share, words: (weights.append(losses.weight.detach().clone()), loop_progress(share, words))[1]
    state, stopped = loop.run(None)
    assert stopped
    assert (state.step, state.best_step) == (4, 2)
    assert [point.eval_loss is not None for point in state.curve] == [True] * 4
    assert not torch.equal(weights[1], weights[3])
    assert torch.equal(losses.weight, weights[1])


def test_a_measurement_that_is_not_finite_is_never_the_best_but_ends_the_training(brief_training: TrainingSettings) -> None:
    loop, _, _ = scripted(brief_training, 1.0, float("nan"), 1.0, 4.0, eval_every_steps=1)
    with pytest.raises(TrainingError, match="held-out loss nan after step 1 of 4") as caught:
        loop.run(None)
    assert caught.value.code == "loss_not_finite"


def test_without_patience_training_goes_to_its_end(brief_training: TrainingSettings) -> None:
    script = [1.0, 4.0, 1.0, 5.0, 1.0, 6.0, 1.0, 7.0]
    loop, _, _ = scripted(brief_training, *script, eval_every_steps=1, patience=0)
    state, stopped = loop.run(None)
    assert not stopped
    assert (state.step, state.best_step, state.evals_without_gain) == (4, 1, 3)


def test_progress_has_few_points_however_many_steps(brief_training: TrainingSettings) -> None:
    loop, _, told = scripted(brief_training, epochs=60)
    state, _ = loop.run(None)
    assert state.step == 120
    assert len(state.curve) == len(told) == 40
    assert told[-1].startswith("epoch 60 of 60, step 120 of 120, loss ")
    assert told[-1].endswith("tokens/s, 0 s left")


def test_training_may_begin_with_any_adapter_of_its_shape(
    tiny_base: BaseModel, brief_training: TrainingSettings, tmp_path: Path
) -> None:
    rows, twice = training_rows(), brief_training.model_copy(update={"epochs": 1})
    first = train_adapter(rows, tiny_base, twice, tmp_path / "1", no_progress)
    second = train_adapter(rows, tiny_base, twice, tmp_path / "2", no_progress, start_adapter=first.adapter_path)
    assert second.loss_curve[0] < first.loss_curve[0] - 0.05
    smaller = twice.model_copy(update={"rank": 2})
    for other in (first.adapter_path, first.config_path):
        with pytest.raises(TrainingError) as caught:
            train_adapter(rows, tiny_base, smaller, tmp_path / "3", no_progress, start_adapter=other)
        assert caught.value.code == "start_adapter_unfit"


def test_only_the_targets_and_layers_that_are_set_get_an_adapter(
    tiny_base: BaseModel, brief_training: TrainingSettings, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    training = brief_training.model_copy(update={"targets": ("v_proj", "q_proj"), "first_layer": 1})
    result = train_adapter(training_rows(), tiny_base, training, tmp_path, no_progress)
    modules = {name.rpartition(".lora_")[0] for name in load_file(result.adapter_path)}
    assert modules == {f"base_model.model.model.layers.1.self_attn.{name}" for name in ("q_proj", "v_proj")}
    assert result.targets == ("q_proj", "v_proj")
    assert result.loss_curve[1] < result.loss_curve[0]
    with pytest.raises(TrainingError) as caught:
        train_adapter(
            training_rows(), tiny_base, training.model_copy(update={"first_layer": 2}), tmp_path / "none", no_progress
        )
    assert caught.value.code == "first_layer_beyond"


def test_a_base_in_bf16_is_learned_beside_in_fp32(
    tiny_base: BaseModel, brief_training: TrainingSettings, tmp_path: Path
) -> None:
    """The format of a GPU, tried on the CPU: the curve must be that of fp32 but for rounding."""
    once = brief_training.model_copy(update={"learning_rate": 1e-2})
    curves = {}
    for dtype in ("float32", "bfloat16"):
        training = once.model_copy(update={"dtype": dtype})
        result = train_adapter(training_rows(), tiny_base, training, tmp_path / dtype, no_progress)
        assert (result.device, result.dtype) == ("cpu", dtype)
        curves[dtype] = result.loss_curve
    assert curves["bfloat16"] == pytest.approx(curves["float32"], rel=0.02)
    assert curves["bfloat16"][1] < curves["bfloat16"][0] - 0.1


def test_a_gpu_that_is_not_there_is_named(brief_training: TrainingSettings) -> None:
    import torch

    if torch.cuda.is_available():
        assert choose_placement(brief_training) == Placement("cuda", "bfloat16")
        return
    assert choose_placement(brief_training) == Placement("cpu", "float32")
    with pytest.raises(TrainingError) as caught:
        choose_placement(brief_training.model_copy(update={"device": "cuda"}))
    assert caught.value.code == "no_gpu"


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
