"""A Llama or Qwen2 in MLX with LoRA beside its linear layers, as plain functions of arrays.

Belongs here: the forward pass up to the hidden states, the loss of answers, and which bases it can be trusted with.
Does not belong here: the loop (`train_mlx.py`), names and files of adapters (`mlx_adapter.py`), generation.

MLX is imported inside functions: it exists for Apple's processors, and elsewhere only to be tried.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.mlx_adapter import Sizes
from lpm_kernel.L2.training_batches import EncodedRow

if TYPE_CHECKING:
    import numpy as np

KNOWN = ("llama", "qwen2")


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a base's config its forward pass needs."""

    layers: int
    hidden: int
    feed: int
    heads: int
    kv_heads: int
    head_dim: int
    rope_base: float
    norm_eps: float

    @property
    def sizes(self) -> Sizes:
        """Inputs and outputs of each linear layer."""
        wide, narrow = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q_proj": (self.hidden, wide),
            "k_proj": (self.hidden, narrow),
            "v_proj": (self.hidden, narrow),
            "o_proj": (wide, self.hidden),
            "gate_proj": (self.hidden, self.feed),
            "up_proj": (self.hidden, self.feed),
            "down_proj": (self.feed, self.hidden),
        }


def read_shape(hf_dir: Path) -> Shape:
    """Raises: TrainingError `base_not_for_mlx` for a base that this forward pass would compute wrongly."""
    config = json.loads((hf_dir / "config.json").read_text(encoding="utf-8"))
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    reasons = {
        f"architecture {config.get('model_type')}": config.get("model_type") not in KNOWN,
        f"rotary embedding {kind}": kind != "default",
        f"activation {config.get('hidden_act')}": config.get("hidden_act", "silu") != "silu",
        "sliding window attention": bool(config.get("use_sliding_window")),
    }
    if wrong := [reason for reason, holds in reasons.items() if holds]:
        raise TrainingError("base_not_for_mlx", f"{', '.join(wrong)} is not known here; set training.backend to torch")
    heads = config["num_attention_heads"]
    return Shape(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        feed=config["intermediate_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        rope_base=float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
        norm_eps=float(config["rms_norm_eps"]),
    )


def load_mlx_base(hf_dir: Path) -> dict[str, Any]:
    """All weights by their names, in fp32."""
    import mlx.core as mx  # type: ignore[import-not-found]

    weights: dict[str, Any] = {}
    for path in sorted(hf_dir.glob("*.safetensors")):
        for name, value in mx.load(str(path)).items():
            weights[name] = value.astype(mx.float32)
    return weights


@dataclass(frozen=True, slots=True)
class Padded:
    """Rows as one rectangle of ids, padded on the right, and where in it a token of an answer is foretold."""

    ids: np.ndarray
    positions: np.ndarray
    """Flat, into rows times columns: of the token before each answer token."""
    wanted: np.ndarray
    """The answer token that comes after it."""


def pad_rows(rows: Sequence[EncodedRow]) -> Padded:
    """No mask is needed: a causal model never looks from a real token at the padding behind it."""
    import numpy as np

    longest = max(len(row.ids) for row in rows)
    ids = np.zeros((len(rows), longest), dtype=np.int32)
    positions: list[int] = []
    wanted: list[int] = []
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = row.ids
        positions += range(index * longest + row.answer_start - 1, index * longest + len(row.ids) - 1)
        wanted += row.ids[row.answer_start :]
    return Padded(ids, np.array(positions, dtype=np.int32), np.array(wanted, dtype=np.int32))


def answer_loss_sum(weights: Mapping[str, Any], lora: Mapping[str, Any], scale: float, shape: Shape, rows: Padded) -> Any:
    """Cross entropy summed over the answers' tokens, in nats; the output layer runs at their positions only."""
    import mlx.core as mx  # type: ignore[import-not-found]

    hidden = hidden_states(weights, lora, scale, shape, mx.array(rows.ids))
    picked = hidden.reshape(-1, shape.hidden)[mx.array(rows.positions)]
    output = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
    logits = picked @ output.T
    given = mx.take_along_axis(logits, mx.array(rows.wanted)[:, None], axis=-1).squeeze(-1)
    return (mx.logsumexp(logits, axis=-1) - given).sum()


def hidden_states(weights: Mapping[str, Any], lora: Mapping[str, Any], scale: float, shape: Shape, ids: Any) -> Any:
    """After the last norm, one vector a token."""
    import mlx.core as mx  # type: ignore[import-not-found]

    def linear(module: str, x: Any) -> Any:
        y = x @ weights[f"{module}.weight"].T
        if f"{module}.bias" in weights:
            y = y + weights[f"{module}.bias"]
        pair = lora.get(module)
        return y if pair is None else y + scale * ((x @ pair["a"]) @ pair["b"])

    def norm(module: str, x: Any) -> Any:
        return mx.fast.rms_norm(x, weights[f"{module}.weight"], shape.norm_eps)

    def heads(x: Any, count: int, *, turned: bool) -> Any:
        x = x.reshape(*x.shape[:2], count, shape.head_dim).transpose(0, 2, 1, 3)
        if not turned:
            return x
        return mx.fast.rope(x, shape.head_dim, traditional=False, base=shape.rope_base, scale=1.0, offset=0)

    x = weights["model.embed_tokens.weight"][ids]
    for layer in range(shape.layers):
        name = f"model.layers.{layer}"
        y = norm(f"{name}.input_layernorm", x)
        queries = heads(linear(f"{name}.self_attn.q_proj", y), shape.heads, turned=True)
        keys = heads(linear(f"{name}.self_attn.k_proj", y), shape.kv_heads, turned=True)
        values = heads(linear(f"{name}.self_attn.v_proj", y), shape.kv_heads, turned=False)
        seen = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=shape.head_dim**-0.5, mask="causal")
        x = x + linear(f"{name}.self_attn.o_proj", seen.transpose(0, 2, 1, 3).reshape(*y.shape[:2], -1))
        y = norm(f"{name}.post_attention_layernorm", x)
        gate = linear(f"{name}.mlp.gate_proj", y)
        x = x + linear(f"{name}.mlp.down_proj", gate * mx.sigmoid(gate) * linear(f"{name}.mlp.up_proj", y))
    return norm("model.norm", x)
