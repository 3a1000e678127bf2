"""An adapter in the form llama.cpp loads onto the shared base: safetensors to GGUF.

Belongs here: the names, row order and metadata of a LoRA in GGUF, and refusing what the format cannot say.
Does not belong here: torch (nothing here needs it), the base's own files (`base_files.py`), reading one (`gguf_adapter.py`).
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.base_files import BASE_SHA256_KEY, halves_to_interleaved
from lpm_kernel.L2.base_model import BaseModel

if TYPE_CHECKING:
    import numpy as np

TENSOR_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")

UNSAYABLE = (
    "use_dora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "lora_bias",
    "use_qalora",
    "trainable_token_indices",
)
"""Keys of PEFT's config that, when set, mean more than a pair of matrices and one scale a module."""


@dataclass(frozen=True, slots=True)
class LoraMatrices:
    weights: dict[tuple[str, str], np.ndarray]
    """By module and side, A or B: what is added to the module's weight is scale x B @ A."""
    rank: int
    scale: float


def convert_adapter(adapter_path: Path, config_path: Path, base: BaseModel, out: Path) -> int:
    """Write the adapter as a GGUF LoRA in f16, bound to the base by its hash; return how many tensors it has.

    Idempotent: equal inputs give equal bytes; the file is whole or absent.
    Raises: TrainingError `adapter_unreadable`, `adapter_not_expressible`, `adapter_not_finite`, `adapter_base_differs`.
    """
    import gguf

    shape = _read_json(base.hf_dir / "config.json")
    architectures = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2}
    architecture = shape["model_type"]
    if architecture not in architectures:
        raise TrainingError("adapter_not_expressible", f"adapters of architecture {architecture} are not known here")
    names = gguf.get_tensor_name_map(architectures[architecture], shape["num_hidden_layers"])
    lora = read_lora(adapter_path, config_path, base)
    making = out.with_name(f".making-{out.name}")
    writer = gguf.GGUFWriter(making, architecture)
    try:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, lora.scale * lora.rank)
        writer.add_string(BASE_SHA256_KEY, base.sha256)
        for (module, side), values in sorted(lora.weights.items()):
            name = names.get_name(f"{module}.weight", try_suffixes=(".weight",))
            if name is None:
                raise TrainingError("adapter_not_expressible", f"{module} has no name in GGUF for architecture {architecture}")
            if architecture == "llama" and side == "B":
                values = _in_llama_order(module, values, shape)
            writer.add_tensor(f"{name}.lora_{side.lower()}", _as_f16(module, values))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        making.rename(out)
    finally:
        writer.close()
        making.unlink(missing_ok=True)
    return len(lora.weights)


def read_lora(adapter_path: Path, config_path: Path, base: BaseModel) -> LoraMatrices:
    """Both matrices of every module, and the scale of their product.

    Raises: TrainingError `adapter_unreadable`, `adapter_not_expressible`, `adapter_base_differs`.
    """
    config = _read_json(config_path)
    _refuse_unsayable(config)
    weights, rank = _read_weights(adapter_path, base), config["r"]
    for (module, side), values in weights.items():
        if values.shape[0 if side == "A" else 1] != rank:
            raise TrainingError("adapter_unreadable", f"{module} is of shape {values.shape}, not of rank {rank}")
    # llama.cpp scales by alpha / rank and knows no other rule.
    alpha = float(config["lora_alpha"]) * (math.sqrt(rank) if config.get("use_rslora") else 1.0)
    return LoraMatrices(weights, rank, alpha / rank)


def _refuse_unsayable(config: dict[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise TrainingError("adapter_not_expressible", f"a GGUF adapter is a LoRA; this one is {config.get('peft_type')}")
    wrong = [key for key in UNSAYABLE if config.get(key)]
    if config.get("bias", "none") != "none":
        wrong.append("bias")
    if wrong:
        raise TrainingError("adapter_not_expressible", f"a GGUF adapter cannot say {', '.join(wrong)}; train without")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError("adapter_unreadable", f"cannot read {path.name}: {error}") from error


def _read_weights(path: Path, base: BaseModel) -> dict[tuple[str, str], np.ndarray]:
    from safetensors import SafetensorError, safe_open

    weights: dict[tuple[str, str], np.ndarray] = {}
    try:
        with safe_open(path, framework="np") as file:
            trained_on = (file.metadata() or {}).get(BASE_SHA256_KEY, base.sha256)
            for name in file.keys():  # noqa: SIM118 - it is not a dict
                found = TENSOR_NAME.fullmatch(name)
                if not found:
                    raise TrainingError("adapter_not_expressible", f"{name} is no LoRA matrix of a linear layer")
                weights[found["module"], found["side"]] = file.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise TrainingError("adapter_unreadable", f"cannot read adapter {path.name}: {error}; train it again") from error
    if trained_on != base.sha256:
        raise TrainingError(
            "adapter_base_differs",
            f"the adapter was trained on base {trained_on[:12]}, not on {base.sha256[:12]}; train it on this base",
        )
    alone = sorted(module for module, side in weights if (module, "A" if side == "B" else "B") not in weights)
    if alone or not weights:
        raise TrainingError("adapter_unreadable", f"{path.name} lacks one of the two matrices of {alone[:3] or 'every module'}")
    return weights


def _in_llama_order(module: str, values: np.ndarray, shape: dict[str, Any]) -> np.ndarray:
    if module.endswith("q_proj"):
        return halves_to_interleaved(values, shape["num_attention_heads"])
    if module.endswith("k_proj"):
        return halves_to_interleaved(values, shape["num_key_value_heads"])
    return values


def _as_f16(module: str, values: np.ndarray) -> np.ndarray:
    import numpy as np

    with np.errstate(over="ignore"):
        rounded = np.ascontiguousarray(values.astype(np.float16))
    if not np.isfinite(rounded).all():
        raise TrainingError("adapter_not_finite", f"{module} holds values that are not finite in f16; train again, more slowly")
    return rounded
