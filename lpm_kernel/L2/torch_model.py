"""The base in torch and the LoRA matrices beside it.

Belongs here: loading, PEFT's config, starting weights, where it computes and in which number format.
Does not belong here: the loss (`training_loss.py`) and the loop (`train.py`).

On a CPU without AMX bf16 is 3.5 times slower, so fp32 there; on a GPU the base is bf16 and the adapter's own weights are fp32.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.base_files import BASE_SHA256_KEY
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.settings import TrainingSettings

if TYPE_CHECKING:
    import torch

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a training computes, and in which format the base is there."""

    device: str
    dtype: str


def choose_placement(training: TrainingSettings) -> Placement:
    """Raises: TrainingError `no_gpu` where one is asked for and there is none."""
    import torch

    found = torch.cuda.is_available()
    if training.device == "cuda" and not found:
        raise TrainingError("no_gpu", "training.device is cuda and torch finds none; set it to auto or cpu")
    device = ("cuda" if found else "cpu") if training.device == "auto" else training.device
    dtype = ("bfloat16" if device == "cuda" else "float32") if training.dtype == "auto" else training.dtype
    return Placement(device, dtype)


def load_torch_base(base: BaseModel, placement: Placement = Placement("cpu", "float32")) -> Any:
    """The base as a transformers model; in fp32 on a CPU its weights are mapped from disk, not copied."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    dtype = getattr(torch, placement.dtype)
    model: Any = AutoModelForCausalLM.from_pretrained(base.hf_dir, dtype=dtype, local_files_only=True)
    model.config.use_cache = False
    return model if placement.device == "cpu" else model.to(placement.device)


def with_adapter(model: Any, config: Any) -> Any:
    """Put LoRA matrices beside the base's, by PEFT's config; they start without effect."""
    from peft import get_peft_model

    with warnings.catch_warnings():
        # PEFT asks transformers for gradient checkpointing by a name that transformers is about to drop.
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(model, config)


def new_config(training: TrainingSettings, layers: int) -> Any:
    """Raises: TrainingError `first_layer_beyond` when no layer would get an adapter."""
    from peft import LoraConfig

    if training.first_layer >= layers:
        raise TrainingError(
            "first_layer_beyond", f"training.first_layer is {training.first_layer} and the base has {layers} layers"
        )
    return LoraConfig(
        r=training.rank,
        lora_alpha=training.alpha,
        lora_dropout=0.0,
        bias="none",
        target_modules=list(chosen_targets(training)),
        layers_to_transform=list(range(training.first_layer, layers)) if training.first_layer else None,
        task_type="CAUSAL_LM",
    )


def chosen_targets(training: TrainingSettings) -> tuple[str, ...]:
    """In one order, whatever that of the settings."""
    return tuple(name for name in TARGETS if name in training.targets)


def start_from(model: Any, adapter_path: Path) -> None:
    """Put an adapter's weights in the place of the new ones.

    Raises: TrainingError `start_adapter_unfit` when it is of another shape, or not a file of weights.
    """
    from peft import set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(adapter_path)
    except (OSError, SafetensorError) as error:
        raise TrainingError("start_adapter_unfit", f"{adapter_path.name} cannot be read: {error}") from error
    expected = {name: tuple(tensor.shape) for name, tensor in adapter_weights(model).items()}
    if expected != {name: tuple(tensor.shape) for name, tensor in weights.items()}:
        raise TrainingError(
            "start_adapter_unfit",
            "the adapter to start from has other matrices than rank, targets and first_layer of the settings give",
        )
    set_peft_model_state_dict(model, weights)


def adapter_weights(model: Any) -> dict[str, torch.Tensor]:
    """By PEFT's names, as they stand."""
    from peft import get_peft_model_state_dict

    # save_embedding_layers: by default PEFT asks the model hub over the network whether the vocabulary was changed.
    return get_peft_model_state_dict(model, save_embedding_layers=False)


def load_with_adapter(base: BaseModel, adapter_path: Path, config_path: Path, *, to_learn: bool = False) -> Any:
    """The base and an adapter that was trained, in fp32 on the CPU.

    Raises: TrainingError `adapter_unreadable` when the two files name different modules.
    """
    from peft import LoraConfig, set_peft_model_state_dict
    from safetensors.torch import load_file

    config = json.loads(config_path.read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": None, "inference_mode": not to_learn}
    model = with_adapter(load_torch_base(base), LoraConfig.from_peft_type(**config))
    outcome = set_peft_model_state_dict(model, load_file(adapter_path))
    missing = [name for name in outcome.missing_keys if "lora_" in name]
    if missing or outcome.unexpected_keys:
        raise TrainingError("adapter_unreadable", f"{adapter_path.name} and {config_path.name} name other modules")
    return model


def save_weights(model: Any, base: BaseModel, path: Path, rate_setting: str = "training.learning_rate") -> None:
    """In f16: what llama.cpp will hold is then what torch checks it against. `rate_setting`: what to lower.

    Raises: TrainingError `loss_not_finite`.
    """
    import torch
    from safetensors.torch import save

    weights = {name: weight.to("cpu", torch.float16).contiguous() for name, weight in adapter_weights(model).items()}
    if not all(weight.isfinite().all() for weight in weights.values()):
        raise TrainingError("loss_not_finite", f"the trained weights are not finite in f16; lower {rate_setting}")
    path.parent.mkdir(parents=True, exist_ok=True)
    # One key only: safetensors writes several in a random order, and equal trainings shall be equal bytes.
    path.write_bytes(save(weights, metadata={BASE_SHA256_KEY: base.sha256}))


def save_adapter(model: Any, base: BaseModel, out_dir: Path) -> tuple[Path, Path]:
    """Weights, and PEFT's config beside them. Raises: TrainingError `loss_not_finite`."""
    adapter_path, config_path = out_dir / "adapter_model.safetensors", out_dir / "adapter_config.json"
    save_weights(model, base, adapter_path)
    config = model.peft_config["default"].to_dict()
    config["target_modules"] = sorted(config["target_modules"])
    config["inference_mode"] = True
    # Not the folder it was loaded from: an adapter is the same on every machine.
    config["base_model_name_or_path"] = base.name
    config_path.write_text(json.dumps(config, indent=2, sort_keys=True, default=str), encoding="utf-8")
    return adapter_path, config_path


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute with this many threads, and put back what was set."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
