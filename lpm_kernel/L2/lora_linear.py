"""A linear layer and its LoRA matrices as one step of the gradient, in place of PEFT's several.

Belongs here: that step, and putting it into a model that PEFT made.
Does not belong here: which layers have LoRA matrices (`torch_model.py`).

PEFT scales and adds the adapter's share in steps of their own, each a pass over memory as large as the layer's output, there
and back. Here it is added within the product itself: a tenth less work on two cores, and the same values but for rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def fuse_lora(model: Any) -> int:
    """Let every LoRA layer compute in one step; how many there are. Weights and their names stay PEFT's."""
    from peft.tuners.lora import Linear

    step = _step()
    fused = 0
    for module in model.modules():
        if isinstance(module, Linear):
            module.forward = _forward(step, module)
            fused += 1
    return fused


def _forward(step: Any, module: Any) -> Any:
    base, scaling = module.get_base_layer(), module.scaling["default"]
    down, up = module.lora_A["default"], module.lora_B["default"]

    def forward(x: torch.Tensor) -> torch.Tensor:
        return step.apply(x, base.weight, base.bias, down.weight, up.weight, scaling)

    return forward


def _step() -> Any:
    import torch

    class LoraLinear(torch.autograd.Function):
        """y = x W' + b + s (x A') B'. The base's W and b stand still; x, A and B get gradients."""

        @staticmethod
        def forward(ctx: Any, x: Any, weight: Any, bias: Any, down: Any, up: Any, scaling: float) -> Any:
            flat = x.reshape(-1, x.shape[-1])
            low = flat @ down.T
            out = torch.nn.functional.linear(flat, weight, bias).addmm_(low, up.T, alpha=scaling)
            ctx.save_for_backward(flat, low, weight, down, up)
            ctx.scaling, ctx.shape = scaling, x.shape
            return out.view(*x.shape[:-1], -1)

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            flat, low, weight, down, up = ctx.saved_tensors
            given = gradients[0].reshape(-1, gradients[0].shape[-1])
            of_low = (given @ up).mul_(ctx.scaling)
            of_x = (given @ weight).addmm_(of_low, down).view(ctx.shape) if ctx.needs_input_grad[0] else None
            of_up = (given.T @ low).mul_(ctx.scaling)
            return of_x, None, None, of_low.T @ flat, of_up, None

    return LoraLinear
