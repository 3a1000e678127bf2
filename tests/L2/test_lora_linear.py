"""The fused step gives what PEFT gives: the same loss and the same gradients, with and without a bias of the base."""

from __future__ import annotations

import pytest

from lpm_kernel.L2.lora_linear import fuse_lora
from lpm_kernel.L2.training_loss import AnswerLoss

from .test_training_loss import ROWS, loss_and_gradients, tiny_model


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("first_layer", [0, 2])
def test_the_fused_step_gives_pefts_loss_and_gradients(family: str, first_layer: int) -> None:
    model = tiny_model(family, first_layer)
    expected = loss_and_gradients(model, AnswerLoss(model), [ROWS])
    assert fuse_lora(model) == 3 * (3 - first_layer)
    loss, gradients = loss_and_gradients(model, AnswerLoss(model), [ROWS])
    assert loss == pytest.approx(expected[0], rel=1e-6)
    assert gradients.keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert gradient.abs().max() > 1e-3, "or nothing is compared"
        assert (gradients[name] - gradient).abs().max() < 1e-5, name
