"""A model in Hugging Face's layout as GGUF, for the architectures llama and qwen2.

Belongs here: keys of the model, names and row order of its tensors, reading safetensors one tensor at a time.
Does not belong here: the tokenizer's keys (`gguf_tokenizer.py`), the file's own form (`gguf_writer.py`), adapters (`gguf.py`).

llama.cpp turns pairs of neighbouring rows of q and k in the llama architecture, torch those half a head apart; in qwen2 both
turn the same. qwen2 has biases on q, k and v. Without an `output.weight` llama.cpp takes the embedding for it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpm_kernel.L2.base_files import LAYER_TENSORS, halves_to_interleaved
from lpm_kernel.L2.gguf_header import HeaderValue
from lpm_kernel.L2.gguf_tokenizer import FLOAT32, STRING, UINT32, tokenizer_values
from lpm_kernel.L2.gguf_writer import Quantisation, write_model_gguf
from lpm_kernel.stores.compute import Progress

if TYPE_CHECKING:
    import numpy as np

ARCHITECTURES = ("llama", "qwen2")
GGUF_QUANTISATION_VERSION = 2
NUMPY_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}

Change = Callable[[str, "np.ndarray"], "np.ndarray"]
"""Gets a tensor by torch's name in float32 and gives it back, changed or not, in the same shape."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def write_gguf_from_hf(
    hf_dir: Path,
    out: Path,
    quantisation: Quantisation,
    base_sha256: str,
    progress: Progress,
    *,
    more: Mapping[str, str] | None = None,
    change: Change | None = None,
) -> None:
    """Write config, tokenizer and weights as one GGUF; `more` are further text keys, `change` sees each tensor on its way.

    Raises: TrainingError `tokenizer_unknown`; ValueError, KeyError and OSError for another architecture or damaged files.
    """
    config = json.loads((hf_dir / "config.json").read_text(encoding="utf-8"))
    values = _model_values(config) | tokenizer_values(hf_dir, config["vocab_size"])
    values |= {key: HeaderValue(text, STRING) for key, text in (more or {}).items()}
    stored = read_places(hf_dir)
    names = _names(config, stored)
    shapes = {gguf_name: stored[torch_name].shape for torch_name, gguf_name in names.items()}
    if shapes["token_embd.weight"][0] != config["vocab_size"]:
        raise ValueError(f"the embedding has {shapes['token_embd.weight'][0]} rows, config.json says {config['vocab_size']}")
    tensors = _tensors(config, stored, names, change)
    write_model_gguf(out, values, shapes, tensors, quantisation, base_sha256, progress)


def read_places(hf_dir: Path) -> dict[str, StoredTensor]:
    """Every tensor of the folder's safetensors files, whole or in shards, by torch's name."""
    index = hf_dir / "model.safetensors.index.json"
    files = ["model.safetensors"]
    if index.is_file():
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    places: dict[str, StoredTensor] = {}
    for name in files:
        with (hf_dir / name).open("rb") as file:
            length_bytes = file.read(8)
            if len(length_bytes) < 8:
                raise ValueError(f"{name} is no safetensors file")
            (length,) = struct.unpack("<Q", length_bytes)
            head = json.loads(file.read(length))
        for tensor, found in head.items():
            if tensor != "__metadata__":
                start, end = found["data_offsets"]
                at = 8 + length
                places[tensor] = StoredTensor(hf_dir / name, found["dtype"], tuple(found["shape"]), at + start, at + end)
    return places


def read_tensor(place: StoredTensor) -> np.ndarray:
    """In float32. Why not safetensors' own reader: into numpy it cannot read bf16."""
    import numpy as np

    stored = np.memmap(place.path, mode="r")[place.start : place.end]
    if stored.size != place.end - place.start:
        raise ValueError(f"{place.path.name} ends in the midst of a tensor")
    values = stored.view(NUMPY_TYPES[place.dtype]).reshape(place.shape)
    if place.dtype == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


def _model_values(config: Mapping[str, Any]) -> dict[str, HeaderValue]:
    architecture = config["model_type"]
    if architecture not in ARCHITECTURES:
        raise ValueError(f"the architecture is {architecture}, not one of {', '.join(ARCHITECTURES)}")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    odd = [key for key in ("use_sliding_window", "mlp_bias") if config.get(key)]
    odd += ["hidden_act"] if config["hidden_act"] != "silu" else []
    odd += ["rope"] if rope.get("rope_type", rope.get("type", "default")) != "default" else []
    if odd:
        raise ValueError(f"config.json sets {', '.join(odd)} as no base does that is known here")
    heads = config["num_attention_heads"]
    head_width = config.get("head_dim") or config["hidden_size"] // heads
    counts = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": heads,
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": head_width,
        "attention.value_length": head_width,
        "rope.dimension_count": head_width,
        "vocab_size": config["vocab_size"],
    }
    theta = rope["rope_theta"] if "rope_theta" in rope else config["rope_theta"]
    return {
        "general.architecture": HeaderValue(architecture, STRING),
        "general.type": HeaderValue("model", STRING),
        **{f"{architecture}.{key}": HeaderValue(count, UINT32) for key, count in counts.items()},
        f"{architecture}.rope.freq_base": HeaderValue(float(theta), FLOAT32),
        f"{architecture}.attention.layer_norm_rms_epsilon": HeaderValue(float(config["rms_norm_eps"]), FLOAT32),
        "general.quantization_version": HeaderValue(GGUF_QUANTISATION_VERSION, UINT32),
    }


def _names(config: Mapping[str, Any], stored: Mapping[str, StoredTensor]) -> dict[str, str]:
    """torch's name -> GGUF's, in the file's order, of every tensor there is.

    Raises: ValueError when one is missing, or is none of such a model: left out, it would be missed by nobody.
    """
    names = {"model.embed_tokens.weight": "token_embd.weight"}
    for layer in range(config["num_hidden_layers"]):
        for short, long in LAYER_TENSORS.items():
            names[f"model.layers.{layer}.{long}.weight"] = f"blk.{layer}.{short}.weight"
            if f"model.layers.{layer}.{long}.bias" in stored:
                names[f"model.layers.{layer}.{long}.bias"] = f"blk.{layer}.{short}.bias"
    names["model.norm.weight"] = "output_norm.weight"
    tied = config.get("tie_word_embeddings")
    if "lm_head.weight" in stored and not tied:
        names["lm_head.weight"] = "output.weight"
    missing = [name for name in names if name not in stored]
    if "lm_head.weight" not in stored and tied is False:
        missing.append("lm_head.weight")
    foreign = [name for name in stored if name not in names and name != "lm_head.weight"]
    if missing or foreign:
        raise ValueError(f"the weights lack {missing[:3]} and hold {foreign[:3]}, which no such model has")
    return names


def _tensors(
    config: Mapping[str, Any], stored: Mapping[str, StoredTensor], names: Mapping[str, str], change: Change | None
) -> Iterator[tuple[str, np.ndarray]]:
    """Each in float32; matrices rounded to f16 first, so that every file made from them agrees."""
    import numpy as np

    for torch_name, gguf_name in names.items():
        values = read_tensor(stored[torch_name])
        if change is not None:
            values = change(torch_name, values)
        if config["model_type"] == "llama" and ".self_attn.q_proj." in torch_name:
            values = halves_to_interleaved(values, config["num_attention_heads"])
        elif config["model_type"] == "llama" and ".self_attn.k_proj." in torch_name:
            values = halves_to_interleaved(values, config["num_key_value_heads"])
        if values.ndim > 1:
            with np.errstate(over="ignore"):
                values = values.astype(np.float16).astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError(f"tensor {torch_name} holds values that are not finite in f16")
        yield gguf_name, np.ascontiguousarray(values)
