"""A LoRA adapter between MLX's form and PEFT's: names, transposes, starting weights, files. Plain numpy.

Belongs here: what can be checked where MLX is not.
Does not belong here: computing with it (`mlx_model.py`) and the loop (`train_mlx.py`).

MLX multiplies from the left (x A B, with A of inputs x rank), PEFT keeps what torch's linear layers keep (A of rank x inputs).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.base_files import BASE_SHA256_KEY
from lpm_kernel.L2.base_model import BaseModel

if TYPE_CHECKING:
    import numpy as np

Sizes = Mapping[str, tuple[int, int]]
"""Inputs and outputs of each linear layer, by its last name."""
Lora = dict[str, dict[str, Any]]
"""By module, such as `model.layers.0.self_attn.q_proj`: `a` of inputs x rank and `b` of rank x outputs."""

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
PREFIX = "base_model.model."


def module_names(layers: Sequence[int], targets: Sequence[str]) -> list[str]:
    """Of every linear layer that gets matrices of its own."""
    return [
        f"model.layers.{layer}.{'self_attn' if target in ATTENTION else 'mlp'}.{target}"
        for layer in layers
        for target in targets
    ]


def new_lora(modules: Sequence[str], sizes: Sizes, rank: int, seed: int) -> Lora:
    """A as PEFT draws it (Kaiming's uniform, which here is within the inverse root of the inputs), B zero: without effect."""
    import numpy as np

    chance = np.random.default_rng(seed)
    lora: Lora = {}
    for module in modules:
        inputs, outputs = sizes[module.rsplit(".", 1)[1]]
        bound = inputs**-0.5
        a = chance.uniform(-bound, bound, (inputs, rank)).astype(np.float32)
        lora[module] = {"a": a, "b": np.zeros((rank, outputs), dtype=np.float32)}
    return lora


def to_peft(lora: Lora) -> dict[str, np.ndarray]:
    """By PEFT's names and in its order of axes."""
    import numpy as np

    named: dict[str, np.ndarray] = {}
    for module, pair in lora.items():
        for side in ("a", "b"):
            named[f"{PREFIX}{module}.lora_{side.upper()}.weight"] = np.ascontiguousarray(np.asarray(pair[side]).T)
    return named


def from_peft(named: Mapping[str, np.ndarray]) -> Lora:
    """The inverse of `to_peft`, in fp32."""
    import numpy as np

    lora: Lora = {}
    for name, values in named.items():
        module, side = name.removeprefix(PREFIX).removesuffix(".weight").rsplit(".lora_", 1)
        lora.setdefault(module, {})[side.lower()] = np.ascontiguousarray(values.T.astype(np.float32))
    return lora


def read_lora(path: Path, like: Lora) -> Lora:
    """Weights of an adapter file to start from.

    Raises: TrainingError `start_adapter_unfit` when it is no such file, or has other matrices than `like`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        named = load_file(path)
    except (OSError, SafetensorError) as error:
        raise TrainingError("start_adapter_unfit", f"{path.name} cannot be read: {error}") from error
    expected = {name: values.shape for name, values in to_peft(like).items()}
    if expected != {name: values.shape for name, values in named.items()}:
        raise TrainingError(
            "start_adapter_unfit", "the adapter to start from has other matrices than the settings of training give"
        )
    return from_peft(named)


def save_lora(
    lora: Lora, base: BaseModel, rank: int, alpha: int, targets: Sequence[str], layers: Sequence[int] | None, out_dir: Path
) -> tuple[Path, Path]:
    """The two files that PEFT reads; weights in f16, as llama.cpp will hold them.

    Raises: TrainingError `loss_not_finite`.
    """
    import numpy as np
    from safetensors.numpy import save

    with np.errstate(over="ignore"):
        named = {name: values.astype(np.float16) for name, values in to_peft(lora).items()}
    if not all(np.isfinite(values).all() for values in named.values()):
        raise TrainingError("loss_not_finite", "the trained weights are not finite in f16; lower training.learning_rate")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.name,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "layers_to_transform": None if layers is None else list(layers),
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "r": rank,
        "target_modules": sorted(targets),
        "use_dora": False,
        "use_rslora": False,
    }
    out_dir.mkdir(parents=True, exist_ok=True)
    adapter_path, config_path = out_dir / "adapter_model.safetensors", out_dir / "adapter_config.json"
    adapter_path.write_bytes(save(named, metadata={BASE_SHA256_KEY: base.sha256}))
    config_path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    return adapter_path, config_path
