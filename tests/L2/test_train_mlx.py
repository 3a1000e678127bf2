"""The MLX path: its pure parts everywhere; its loop where MLX is (`pip install mlx`, on Linux `mlx[cpu]`), else skipped."""

from __future__ import annotations

import importlib.util
import json
import random
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.gguf import convert_adapter
from lpm_kernel.L2.mlx_adapter import from_peft, module_names, new_lora, read_lora, save_lora, to_peft
from lpm_kernel.L2.mlx_model import pad_rows, read_shape
from lpm_kernel.L2.stages import ROW_SETTINGS
from lpm_kernel.L2.train import TARGETS
from lpm_kernel.L2.train_mlx import Plan, plan_of, rate_at, train_adapter
from lpm_kernel.L2.train_report import read_report
from lpm_kernel.L2.training_batches import EncodedRow, encode_rows
from lpm_kernel.settings import TrainingSettings
from tests.fakes import no_progress

from .conftest import lora_weights, training_rows

if TYPE_CHECKING:
    from pathlib import Path

    from lpm_kernel.L2.base_model import BaseModel

needs_mlx = pytest.mark.skipif(importlib.util.find_spec("mlx") is None, reason="needs the package mlx")

OF_OTHERS = ROW_SETTINGS | {
    *("backend", "threads", "device", "dtype", "incremental", "replay_share"),
    *("pass_tokens", "passes", "eval_rows", "eval_every_steps", "patience", "checkpoint_every_steps", "prefix_cache_mb"),
}
"""Settings that shape rows, or belong to what this path does not do and says so."""


def config_of(base: BaseModel) -> dict[str, Any]:
    return json.loads((base.hf_dir / "config.json").read_text())


def test_without_mlx_it_says_what_to_do(
    tiny_base: BaseModel, brief_training: TrainingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match="pip install mlx") as caught:
        train_adapter(training_rows(), tiny_base, brief_training, tmp_path / "out", no_progress)
    assert caught.value.code == "mlx_missing"
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_it_cannot_have_is_refused(
    tiny_base: BaseModel, brief_training: TrainingSettings, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="step 8") as caught:
        train_adapter(training_rows(), tiny_base, brief_training, tmp_path, no_progress, resume_from_step=8)
    assert caught.value.code == "checkpoint_missing"


def test_every_setting_that_shapes_an_adapter_is_followed(brief_training: TrainingSettings) -> None:
    """A setting that only torch's path read would be ignored here without a word."""
    assert set(TrainingSettings.model_fields) - OF_OTHERS == {field.name for field in fields(Plan)}
    wanted = {"rank": 3, "alpha": 5, "targets": ("q_proj",), "first_layer": 1, "epochs": 7, "batch_rows": 9, "seed": 11}
    wanted |= {"learning_rate": 0.5, "schedule": "cosine", "warmup_share": 0.25, "weight_decay": 0.125}
    plan = plan_of(brief_training.model_copy(update=wanted))
    assert {name: getattr(plan, name) for name in wanted} == wanted


def test_an_adapter_goes_to_peft_and_back_unchanged(tiny_base: BaseModel) -> None:
    named = lora_weights(4, config_of(tiny_base))
    lora = from_peft(named)
    assert {name: value.tolist() for name, value in to_peft(lora).items()} == {n: v.tolist() for n, v in named.items()}
    pair = lora["model.layers.1.mlp.down_proj"]
    assert pair["a"].shape == (128, 4)
    assert pair["b"].shape == (4, 64)


def test_its_matrices_are_those_peft_would_make(tiny_base: BaseModel) -> None:
    shape = read_shape(tiny_base.hf_dir)
    lora = new_lora(module_names(range(shape.layers), TARGETS), shape.sizes, 4, seed=3)
    expected = {name: value.shape for name, value in lora_weights(4, config_of(tiny_base)).items()}
    assert {name: value.shape for name, value in to_peft(lora).items()} == expected


def test_a_new_adapter_has_no_effect_and_follows_its_seed(tiny_base: BaseModel) -> None:
    shape = read_shape(tiny_base.hf_dir)
    modules = module_names([1], ["q_proj", "down_proj"])
    assert modules == ["model.layers.1.self_attn.q_proj", "model.layers.1.mlp.down_proj"]
    one, same, other = (new_lora(modules, shape.sizes, 8, seed) for seed in (1, 1, 2))
    for module in modules:
        a = one[module]["a"]
        assert not one[module]["b"].any()
        assert 0.9 * a.shape[0] ** -0.5 < np.abs(a).max() <= a.shape[0] ** -0.5
        assert (a == same[module]["a"]).all()
        assert (a != other[module]["a"]).any()


def test_its_files_are_read_by_peft_and_become_a_gguf_adapter(tiny_base: BaseModel, tmp_path: Path) -> None:
    from peft import LoraConfig

    lora = from_peft(lora_weights(4, config_of(tiny_base)))
    adapter_path, config_path = save_lora(lora, tiny_base, 4, 8, TARGETS, None, tmp_path)
    config = LoraConfig.from_peft_type(**json.loads(config_path.read_text()))
    assert (config.r, config.lora_alpha, set(config.target_modules)) == (4, 8, set(TARGETS))
    assert convert_adapter(adapter_path, config_path, tiny_base, tmp_path / "adapter.gguf") == 2 * 2 * len(TARGETS)
    again = read_lora(adapter_path, lora)
    assert all(np.allclose(again[m][s], lora[m][s], atol=1e-3) for m in lora for s in "ab")


def test_an_adapter_of_another_rank_is_none_to_start_from(tiny_base: BaseModel, tmp_path: Path) -> None:
    lora = from_peft(lora_weights(4, config_of(tiny_base)))
    adapter_path, _ = save_lora(lora, tiny_base, 4, 8, TARGETS, None, tmp_path)
    (tmp_path / "broken").write_bytes(b"no weights")
    for path, like in ((adapter_path, from_peft(lora_weights(8, config_of(tiny_base)))), (tmp_path / "broken", lora)):
        with pytest.raises(TrainingError) as caught:
            read_lora(path, like)
        assert caught.value.code == "start_adapter_unfit"


def test_weights_too_large_for_f16_are_refused(tiny_base: BaseModel, tmp_path: Path) -> None:
    lora = from_peft({name: values * 1e6 for name, values in lora_weights(4, config_of(tiny_base)).items()})
    with pytest.raises(TrainingError) as caught:
        save_lora(lora, tiny_base, 4, 8, TARGETS, None, tmp_path / "out")
    assert caught.value.code == "loss_not_finite"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "gemma3"},
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e5}},
        {"use_sliding_window": True},
    ],
)
def test_a_base_it_would_compute_wrongly_is_refused(tiny_base: BaseModel, tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config_of(tiny_base) | change))
    with pytest.raises(TrainingError) as caught:
        read_shape(tmp_path)
    assert caught.value.code == "base_not_for_mlx"


def test_padded_rows_foretell_exactly_the_answers() -> None:
    padded = pad_rows([EncodedRow((5, 6, 7, 8), 2), EncodedRow((1, 2), 1)])
    assert padded.ids.tolist() == [[5, 6, 7, 8], [1, 2, 0, 0]]
    assert padded.ids.reshape(-1)[padded.positions].tolist() == [6, 7, 1]
    assert padded.wanted.tolist() == [7, 8, 2]


def test_the_rate_rises_then_falls_as_the_schedule_says(brief_training: TrainingSettings) -> None:
    plan = replace(plan_of(brief_training), learning_rate=1.0, warmup_share=0.2)
    linear = [rate_at(replace(plan, schedule="linear"), step, 10) for step in range(10)]
    assert linear == pytest.approx([0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])
    cosine = [rate_at(replace(plan, schedule="cosine"), step, 10) for step in range(10)]
    assert cosine[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert cosine[6] == pytest.approx(0.5)
    assert [rate_at(replace(plan, schedule="constant"), step, 10) for step in (0, 1, 9)] == [0.5, 1.0, 1.0]


@pytest.fixture(scope="session", params=["llama", "qwen2"])
def any_base(request: pytest.FixtureRequest, tiny_base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """The tiny llama, and a random Qwen2 of its size with its tokenizer and biases that are not zero."""
    if request.param == "llama":
        return tiny_base
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    llama = config_of(tiny_base)
    kept = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = Qwen2ForCausalLM(Qwen2Config(**{key: llama[key] for key in kept}, tie_word_embeddings=True))
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(weight, std=0.5)
    folder = tmp_path_factory.mktemp("qwen2")
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((tiny_base.hf_dir / "tokenizer.json").read_bytes())
    return replace(tiny_base, hf_dir=folder)


@pytest.fixture
def start(any_base: BaseModel, tmp_path: Path) -> Path:
    """An adapter that does something, so that both of its matrices have gradients from the first step."""
    lora = from_peft(lora_weights(4, config_of(any_base)))
    return save_lora(lora, any_base, 4, 8, TARGETS, None, tmp_path / "start")[0]


@needs_mlx
def test_loss_and_gradients_are_those_of_torch(any_base: BaseModel, start: Path) -> None:
    import mlx.core as mx  # type: ignore[import-not-found]

    from lpm_kernel.L2.mlx_model import answer_loss_sum, load_mlx_base

    rows = encode_rows(training_rows(), any_base.hf_dir)
    shape = read_shape(any_base.hf_dir)
    weights = load_mlx_base(any_base.hf_dir)
    like = new_lora(module_names(range(2), TARGETS), shape.sizes, 4, 1)
    lora = {m: {s: mx.array(v) for s, v in pair.items()} for m, pair in read_lora(start, like).items()}
    loss, gradients = mx.value_and_grad(lambda lora: answer_loss_sum(weights, lora, 2.0, shape, pad_rows(rows)))(lora)
    theirs, their_gradients = torch_loss(any_base, start, rows)
    assert loss.item() == pytest.approx(theirs, rel=1e-5)
    ours = to_peft({m: {s: np.array(v) for s, v in pair.items()} for m, pair in gradients.items()})
    assert set(ours) == set(their_gradients)
    for name, gradient in their_gradients.items():
        assert np.abs(ours[name] - gradient).max() <= 2e-4 * np.abs(gradient).max(), name


@needs_mlx
def test_a_training_ends_where_torch_ends(
    any_base: BaseModel, start: Path, brief_training: TrainingSettings, tmp_path: Path
) -> None:
    """AdamW without bias correction, MLX's default, and another clipping both showed here."""
    from safetensors.numpy import load_file

    plan = brief_training.model_copy(update={"epochs": 3, "batch_rows": 3})
    result = train_adapter(training_rows(), any_base, plan, tmp_path / "out", no_progress, start_adapter=start)
    expected, curve = torch_training(any_base, start, plan)
    assert result.loss_curve == pytest.approx(curve, rel=1e-3)
    assert result.steps == 9
    found = load_file(result.adapter_path)
    begun = load_file(start)
    for name, weights in expected.items():
        moved = np.abs(weights - begun[name]).max()
        assert np.abs(found[name] - weights).max() < 0.05 * moved + 1e-3, name


@needs_mlx
def test_equal_trainings_are_equal_bytes_and_a_skipped_layer_gets_no_matrices(
    tiny_base: BaseModel, brief_training: TrainingSettings, tmp_path: Path
) -> None:
    said: list[str] = []
    results = [
        train_adapter(
            training_rows(),
            tiny_base,
            brief_training,
            tmp_path / str(n),
            lambda share, words: said.append(words),
            held_out=training_rows(),
        )
        for n in range(2)
    ]
    assert results[0].adapter_path.read_bytes() == results[1].adapter_path.read_bytes()
    assert results[0].loss_curve[1] < results[0].loss_curve[0]
    assert "held-out rows are not measured" in said[0]
    told = read_report(said[-1])
    assert told is not None, "steps are told as torch's are, so that they plot"
    assert (told.epoch, told.step, told.steps, told.seconds_left) == (2, 8, 8, 0)
    assert [point.step for point in results[0].curve] == list(range(1, 9))
    assert results[0].curve[-1].loss == pytest.approx(told.loss, abs=1e-3)


def torch_model(base: BaseModel, start: Path) -> Any:
    from lpm_kernel.L2.torch_model import load_with_adapter

    return load_with_adapter(base, start, start.parent / "adapter_config.json").train()


def torch_loss(base: BaseModel, start: Path, rows: list[EncodedRow]) -> tuple[float, dict[str, np.ndarray]]:
    from lpm_kernel.L2.train import answer_loss_sum

    model = torch_model(base, start)
    loss = answer_loss_sum(model, rows)
    for weight in model.parameters():
        weight.requires_grad_(False)
    named = {name.replace(".default", ""): weight for name, weight in model.named_parameters() if "lora_" in name}
    for weight in named.values():
        weight.requires_grad_(True)
    loss = answer_loss_sum(model, rows)
    loss.backward()
    return loss.item(), {name: weight.grad.numpy() for name, weight in named.items()}


def torch_training(base: BaseModel, start: Path, training: TrainingSettings) -> tuple[dict[str, np.ndarray], list[float]]:
    """Textbook steps in torch: AdamW, clipping at 1, a linear schedule after the warm-up."""
    import torch

    from lpm_kernel.L2.train import answer_loss_sum
    from lpm_kernel.L2.training_batches import epoch_batches

    model, rows = torch_model(base, start), encode_rows(training_rows(), base.hf_dir)
    for name, weight in model.named_parameters():
        weight.requires_grad_("lora_" in name)
    named = {name.replace(".default", ""): weight for name, weight in model.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.AdamW(named.values(), lr=training.learning_rate, weight_decay=0.0)
    steps, step, curve, chance = training.epochs * 3, 0, [], random.Random(training.seed)
    plan = plan_of(training)
    for _ in range(training.epochs):
        total = 0.0
        for batch in epoch_batches(rows, training.batch_rows, chance):
            loss = answer_loss_sum(model, batch)
            total += loss.item()
            (loss / sum(row.answer_tokens for row in batch)).backward()
            torch.nn.utils.clip_grad_norm_(named.values(), 1.0)
            optimizer.param_groups[0]["lr"] = rate_at(plan, step, steps)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
        curve.append(total / sum(row.answer_tokens for row in rows))
    return {name: weight.detach().numpy() for name, weight in named.items()}, curve
