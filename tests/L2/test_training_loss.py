"""One loss however rows are laid out: packed rows do not see each other, and what frozen layers give may be kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.L2.torch_model import with_adapter
from lpm_kernel.L2.training_batches import EncodedRow, packed_tokens, passes, shared_start
from lpm_kernel.L2.training_loss import AnswerLoss, lay_packed

ROWS = [
    EncodedRow((5, 6, 7, 8, 9, 10, 11), 4),
    EncodedRow((5, 6, 7, 21, 22, 23, 24, 25, 26, 27), 6),
    EncodedRow((5, 6, 7, 31, 32, 33), 5),
    EncodedRow((40, 41, 42, 43, 44, 45, 46, 47), 3),
]

encoded = st.lists(st.integers(0, 2), min_size=2, max_size=12).flatmap(
    lambda ids: st.builds(EncodedRow, st.just(tuple(ids)), st.integers(1, len(ids) - 1))
)


def tiny_model(family: str, first_layer: int = 0) -> Any:
    """Random weights, adapters that have an effect, and no file."""
    import torch
    from peft import LoraConfig
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(2)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    config: Any = AutoConfig.for_model(family, vocab_size=64, num_key_value_heads=2, use_cache=False, **shape)
    lora = LoraConfig(
        r=2,
        target_modules=["q_proj", "v_proj", "down_proj"],
        layers_to_transform=list(range(first_layer, 3)) if first_layer else None,
        task_type="CAUSAL_LM",
    )
    model: Any = with_adapter(AutoModelForCausalLM.from_config(config), lora)
    with torch.no_grad():
        for weight in trained(model).values():
            weight.normal_(std=0.2)
    return model


def trained(model: Any) -> dict[str, Any]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def loss_and_gradients(model: Any, loss_of: AnswerLoss, parts: list[list[EncodedRow]]) -> tuple[float, dict[str, Any]]:
    model.zero_grad()
    total = 0.0
    for part in parts:
        loss = loss_of(part)
        loss.backward()
        total += loss.item()
    return total, {name: weight.grad.clone() for name, weight in trained(model).items()}


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("rows", [ROWS, ROWS[:3]], ids=["nothing in common", "a common start"])
def test_packed_rows_give_the_loss_and_gradients_of_rows_alone(family: str, rows: list[EncodedRow]) -> None:
    model = tiny_model(family)
    alone = loss_and_gradients(model, AnswerLoss(model), [[row] for row in rows])
    packed = loss_and_gradients(model, AnswerLoss(model, packed=True), [rows])
    padded = loss_and_gradients(model, AnswerLoss(model), [rows])
    for loss, gradients in (packed, padded):
        assert loss == pytest.approx(alone[0], rel=1e-5)
        for name, expected in alone[1].items():
            assert (gradients[name] - expected).abs().max() < 1e-4, name
            assert expected.abs().max() > 1e-3, "or nothing is compared"


def test_a_packed_row_changes_with_its_own_tokens_only() -> None:
    """Rows that saw each other would still give a loss that falls."""
    model = tiny_model("llama")
    loss_of = AnswerLoss(model, packed=True)
    other = EncodedRow((5, 6, 7, 50, 51, 52), 5)
    first = (loss_of([ROWS[0], ROWS[2]]) - loss_of([ROWS[2]])).item()
    second = (loss_of([ROWS[0], other]) - loss_of([other])).item()
    assert first == pytest.approx(second, abs=1e-4)


def test_positions_count_within_each_row_and_the_common_start_stands_once() -> None:
    layout = lay_packed(ROWS[:3])
    assert layout.ids.shape == (1, packed_tokens(ROWS[:3])) == (1, 3 + 4 + 7 + 3)
    assert layout.positions is not None
    assert layout.positions[0].tolist() == [0, 1, 2, *range(3, 7), *range(3, 10), *range(3, 6)]
    for row, place in zip(ROWS, layout.places, strict=False):
        assert layout.ids[0, place].tolist() == list(row.ids)


@given(st.lists(encoded, min_size=1, max_size=6), st.integers(1, 40))
def test_a_pass_of_packed_rows_loses_none_and_fits_or_is_one_row(rows: list[EncodedRow], pass_tokens: int) -> None:
    parts = list(passes(rows, pass_tokens, packed=True))
    assert sorted(map(id, (row for part in parts for row in part))) == sorted(map(id, rows))
    assert all(len(part) == 1 or packed_tokens(part) <= pass_tokens for part in parts)


@given(st.lists(encoded, min_size=2, max_size=6))
def test_the_common_start_is_the_longest_and_never_asks_for_an_answer(rows: list[EncodedRow]) -> None:
    start = shared_start(rows)
    assert len({row.ids[:start] for row in rows}) == 1
    most = min(row.answer_start for row in rows) - 1
    assert start == most or len({row.ids[: start + 1] for row in rows}) > 1


@pytest.mark.parametrize("packed", [False, True])
def test_what_frozen_layers_give_is_computed_once_and_changes_nothing(packed: bool) -> None:
    model = tiny_model("llama", first_layer=2)
    plain = loss_and_gradients(model, AnswerLoss(model, packed=packed), [ROWS])
    loss_of = AnswerLoss(model, packed=packed, first_layer=2, keep_bytes=1_000_000)
    calls = []
    lowest = model.get_base_model().model.layers[0]
    hook = lowest.register_forward_hook(lambda *_: calls.append(1))
    for parts in ([ROWS], [ROWS[2:], ROWS[:2]], [[row] for row in ROWS]):
        loss, gradients = loss_and_gradients(model, loss_of, parts)
        assert loss == pytest.approx(plain[0], rel=1e-5)
        assert all((gradients[name] - expected).abs().max() < 1e-4 for name, expected in plain[1].items())
    hook.remove()
    assert len(calls) == 1
    assert len(model.get_base_model().model.layers) == 3, "the model is whole again"


def test_over_the_budget_nothing_more_is_kept_and_the_loss_is_the_same() -> None:
    model = tiny_model("llama", first_layer=2)
    calls = []
    model.get_base_model().model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    loss_of = AnswerLoss(model, first_layer=2, keep_bytes=4 * 32 * len(ROWS[0].ids))
    first = [loss_of([row]).item() for row in ROWS]
    assert [loss_of([row]).item() for row in ROWS] == pytest.approx(first)
    assert len(calls) == 2 * len(ROWS) - 1, "room was for the first row alone"
