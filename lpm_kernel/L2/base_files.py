"""The files made once from the shipped weights: the shared GGUF base and the training copy torch reads.

Belongs here: dequantising, naming and ordering of tensors, the tokenizer in the form of the `tokenizers` package.
Does not belong here: where the files are kept, and who may make them when (`base_model.py`).

Both carry the same f16 values, so that torch in fp32 and llama.cpp on f16 compute the same greedy answers.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.gguf_header import GgufHeader, TensorPlace, read_gguf_header
from lpm_kernel.L2.gguf_writer import BASE_SHA256_KEY, Quantisation, write_model_gguf
from lpm_kernel.stores.compute import Progress

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "BASE_SHA256_KEY",
    "LAYER_TENSORS",
    "halves_to_interleaved",
    "interleaved_to_halves",
    "write_base_gguf",
    "write_training_copy",
]

PRE_TOKENIZER = "smollm"
CONTROL_TOKEN = 3

LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_base_gguf(source: Path, out: Path, quantisation: Quantisation, base_sha256: str, progress: Progress) -> None:
    """Rewrite a GGUF with every matrix in f16 or q8_0, keys and tokenizer kept; one tensor in memory at a time."""
    header = read_gguf_header(source)
    shapes = {place.name: place.shape for place in header.tensors}
    tensors = ((place.name, values) for place, values in _tensors(source, header))
    write_model_gguf(out, header.values, shapes, tensors, quantisation, base_sha256, progress)


def write_training_copy(f16_gguf: Path, out_dir: Path, name: str) -> None:
    """Write config, tokenizer and weights in Hugging Face's layout, from the f16 GGUF of a llama model with tied embeddings.

    Why float32 on disk for f16 values: torch then maps the file and copies nothing (0.4 s, shared between processes).
    """
    header = read_gguf_header(f16_gguf)
    config = _config(header, name)
    (out_dir / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    _write_tokenizer(header, out_dir)

    contents: dict[str, dict] = {}
    end = 0
    for place in header.tensors:
        start, end = end, end + 4 * math.prod(place.shape)
        contents[_torch_name(place.name)] = {"dtype": "F32", "shape": place.shape, "data_offsets": [start, end]}
    # safetensors: the length of a JSON header, the header, the tensors. Its own writer wants all of them in memory at once.
    head = json.dumps({"__metadata__": {"format": "pt"}, **contents}).encode()
    head += b" " * (-len(head) % 8)
    with (out_dir / "model.safetensors").open("wb") as out:
        out.write(struct.pack("<Q", len(head)) + head)
        for torch_name, (_, values) in zip(contents, _tensors(f16_gguf, header), strict=True):
            if torch_name.endswith("q_proj.weight"):
                values = interleaved_to_halves(values, config["num_attention_heads"])
            elif torch_name.endswith("k_proj.weight"):
                values = interleaved_to_halves(values, config["num_key_value_heads"])
            out.write(values.tobytes())


def interleaved_to_halves(rows: np.ndarray, heads: int) -> np.ndarray:
    """Order the output rows of q or k as torch's rotary embedding wants them; the inverse of `halves_to_interleaved`."""
    per_head = rows.shape[0] // heads
    return rows.reshape(heads, per_head // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def halves_to_interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """Order the output rows of q or k as llama.cpp's rotary embedding of the llama architecture wants them."""
    per_head = rows.shape[0] // heads
    return rows.reshape(heads, 2, per_head // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _tensors(path: Path, header: GgufHeader) -> Iterator[tuple[TensorPlace, np.ndarray]]:
    """Each tensor in float32; matrices rounded to f16 first, so that every file made from them agrees."""
    import gguf
    import numpy as np

    content = np.memmap(path, mode="r")
    for place in header.tensors:
        kind = gguf.GGMLQuantizationType(place.type)
        block_items, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        row_bytes = place.shape[-1] // block_items * block_bytes
        size_bytes = math.prod(place.shape[:-1]) * row_bytes
        stored = content[place.offset : place.offset + size_bytes]
        if stored.size != size_bytes:
            raise ValueError(f"tensor {place.name} runs past the end of {path.name}")
        values = gguf.quants.dequantize(stored.reshape(-1, row_bytes), kind).reshape(place.shape)
        if len(place.shape) > 1:
            values = values.astype(np.float16).astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError(f"tensor {place.name} holds values that are not finite in f16")
        yield place, values


def _torch_name(gguf_name: str) -> str:
    if gguf_name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if gguf_name == "output_norm.weight":
        return "model.norm.weight"
    block, number, part, suffix = gguf_name.split(".")
    if block != "blk" or suffix != "weight" or part not in LAYER_TENSORS:
        raise ValueError(f"tensor {gguf_name} is none of a llama model with tied embeddings")
    return f"model.layers.{number}.{LAYER_TENSORS[part]}.weight"


def _config(header: GgufHeader, name: str) -> dict:
    def of(key: str) -> int | float:
        return header.values[key].value

    if header.text("general.architecture") != "llama":
        raise ValueError(f"the architecture is {header.text('general.architecture')}, not llama")
    theta = of("llama.rope.freq_base")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "_name_or_path": name,
        "vocab_size": of("llama.vocab_size"),
        "hidden_size": of("llama.embedding_length"),
        "intermediate_size": of("llama.feed_forward_length"),
        "num_hidden_layers": of("llama.block_count"),
        "num_attention_heads": of("llama.attention.head_count"),
        "num_key_value_heads": of("llama.attention.head_count_kv"),
        "max_position_embeddings": of("llama.context_length"),
        "rms_norm_eps": of("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": of("tokenizer.ggml.bos_token_id"),
        "eos_token_id": of("tokenizer.ggml.eos_token_id"),
        "pad_token_id": of("tokenizer.ggml.padding_token_id"),
        "dtype": "float32",
    }


def _write_tokenizer(header: GgufHeader, out_dir: Path) -> None:
    """Byte-level BPE with single digits, which is what llama.cpp's `smollm` splitting rule says."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    found = header.text("tokenizer.ggml.pre")
    if header.text("tokenizer.ggml.model") != "gpt2" or found != PRE_TOKENIZER:
        raise TrainingError("tokenizer_unknown", f"the base splits text by {found!r}; only {PRE_TOKENIZER!r} is known here")
    tokens: list[str] = header.values["tokenizer.ggml.tokens"].value
    kinds: list[int] = header.values["tokenizer.ggml.token_type"].value
    merges = [tuple(pair.split(" ", 1)) for pair in header.values["tokenizer.ggml.merges"].value]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    split = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(out_dir / "tokenizer.json"))
    names = {
        role: tokens[header.values[f"tokenizer.ggml.{key}_token_id"].value]
        for role, key in (("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding"))
    }
    about = {
        **names,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": header.values["llama.context_length"].value,
        "clean_up_tokenization_spaces": False,
        "chat_template": header.text("tokenizer.chat_template"),
    }
    (out_dir / "tokenizer_config.json").write_text(json.dumps(about, indent=2), encoding="utf-8")
