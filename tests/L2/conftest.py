"""What the tests of the model chain share: the real base, prepared once a machine; a tiny one; trained and made-up adapters.

Belongs here: fixtures that are dear to make, and the rows they are made from.
Does not belong here: assertions.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from lpm_kernel.L2.base_model import BaseModel, default_cache_dir, find_weights, prepare_base
from lpm_kernel.L2.gguf import convert_adapter
from lpm_kernel.L2.gguf_header import read_gguf_header
from lpm_kernel.L2.llama import LlamaCpp
from lpm_kernel.L2.prompt import twin_messages
from lpm_kernel.L2.records import TrainingRow
from lpm_kernel.L2.train import TARGETS, TrainResult, train_adapter
from lpm_kernel.records import Message, User
from lpm_kernel.stores.llm import AdapterFile
from tests.fakes import no_progress
from tests.samples import make_row

from .tiny_models import FACTS, prepare_tiny, write_tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lpm_kernel.settings import ModelSettings, Settings, TrainingSettings


@dataclass(frozen=True)
class Chain:
    """One adapter in all its forms."""

    adapter_path: Path
    config_path: Path
    gguf: AdapterFile


def asked(question: str, name: str = "Mabel") -> tuple[Message, ...]:
    return twin_messages(User("mabel", name), question)


def training_rows() -> list[TrainingRow]:
    return [
        make_row(f"row-{index}", (*asked(question), Message("assistant", answer)))
        for index, (question, answer) in enumerate(FACTS)
    ]


@pytest.fixture(scope="session")
def base(settings: Settings) -> BaseModel:
    return prepare_base(f16(settings), default_cache_dir(os.environ), no_progress)


@pytest.fixture(scope="session")
def brief_training(settings: Settings) -> TrainingSettings:
    return settings.training.model_copy(
        update={"rank": 4, "alpha": 8, "epochs": 2, "batch_rows": 2, "learning_rate": 2e-3, "threads": 1}
    )


@pytest.fixture(scope="session")
def trained(base: BaseModel, brief_training: TrainingSettings, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train_adapter(training_rows(), base, brief_training, tmp_path_factory.mktemp("trained"), no_progress)


@pytest.fixture(scope="session")
def mabel(base: BaseModel, trained: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The trained adapter."""
    return chain(trained.adapter_path, trained.config_path, base, tmp_path_factory.mktemp("mabel"))


@pytest.fixture(scope="session")
def stranger(base: BaseModel, trained: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """An adapter nobody trained: strong enough to change most answers."""
    from safetensors.numpy import load_file, save_file

    folder = tmp_path_factory.mktemp("stranger")
    chance = np.random.default_rng(5)
    weights = {
        name: (chance.standard_normal(values.shape) * 0.07).astype(np.float16)
        for name, values in sorted(load_file(trained.adapter_path).items())
    }
    save_file(weights, folder / "adapter_model.safetensors")
    return chain(folder / "adapter_model.safetensors", trained.config_path, base, folder)


@pytest.fixture(scope="session")
def engine(base: BaseModel) -> Iterator[LlamaCpp]:
    engine = LlamaCpp(base, slots=2, context_tokens=512)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of two layers with random weights and the real base's tokenizer: prepared in a second, says nothing sensible."""
    import gguf

    out = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    layers, hidden, feed, heads, kv_heads = 2, 64, 128, 4, 2
    shape = {"block_count": layers, "embedding_length": hidden, "feed_forward_length": feed}
    shape |= {"attention.head_count": heads, "attention.head_count_kv": kv_heads, "rope.dimension_count": hidden // heads}
    header = read_gguf_header(find_weights("SmolLM2-135M-Instruct"))
    writer = gguf.GGUFWriter(out, "llama")
    for key, found in header.values.items():
        if key not in ("general.architecture", "general.file_type"):
            value = shape.get(key.removeprefix("llama."), found.value)
            item_type = None if found.item_type is None else gguf.GGUFValueType(found.item_type)
            writer.add_key_value(key, value, gguf.GGUFValueType(found.type), sub_type=item_type)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    chance = np.random.default_rng(3)
    vocabulary = len(header.values["tokenizer.ggml.tokens"].value)
    shapes = {"token_embd": (vocabulary, hidden), "output_norm": (hidden,)}
    for layer in range(layers):
        block = {"attn_norm": (hidden,), "ffn_norm": (hidden,), "attn_q": (hidden, hidden), "attn_output": (hidden, hidden)}
        block |= {"attn_k": (hidden // heads * kv_heads, hidden), "attn_v": (hidden // heads * kv_heads, hidden)}
        block |= {"ffn_gate": (feed, hidden), "ffn_up": (feed, hidden), "ffn_down": (hidden, feed)}
        shapes |= {f"blk.{layer}.{name}": size for name, size in block.items()}
    for name, size in shapes.items():
        values = np.ones(size) if len(size) == 1 else chance.standard_normal(size) * size[-1] ** -0.5
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


@pytest.fixture(scope="session")
def tiny_base(settings: Settings, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return prepare_base(f16(settings), tmp_path_factory.mktemp("tiny-cache"), no_progress, weights=tiny_weights)


@pytest.fixture(scope="session")
def tiny_qwen(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A Qwen2 of two layers with random weights, biases and a tokenizer of its own: prepared in a second."""
    folder = tmp_path_factory.mktemp("tiny-qwen")
    return prepare_tiny(settings, write_tiny_model(folder / "hf", "qwen2"), folder / "cache")


@pytest.fixture(scope="session")
def tiny_bases(settings: Settings, tiny_qwen: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseModel]:
    """One of each architecture, of the same size."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    llama = prepare_tiny(settings, write_tiny_model(folder / "hf", "llama"), folder / "cache")
    return {"qwen2": tiny_qwen, "llama": llama}


def f16(settings: Settings) -> ModelSettings:
    return settings.models.model_copy(update={"base_quantisation": "f16"})


def chain(adapter_path: Path, config_path: Path, base: BaseModel, folder: Path) -> Chain:
    out = folder / "adapter.gguf"
    convert_adapter(adapter_path, config_path, base, out)
    return Chain(adapter_path, config_path, as_adapter_file(out, base.sha256))


def as_adapter_file(path: Path, base_sha256: str) -> AdapterFile:
    return AdapterFile(path, hashlib.sha256(path.read_bytes()).hexdigest(), base_sha256)


def lora_weights(rank: int, shape: dict, scale: float = 0.1, seed: int = 1) -> dict[str, np.ndarray]:
    """Random LoRA matrices by PEFT's names for a model of this config."""
    chance = np.random.default_rng(seed)
    hidden, feed = shape["hidden_size"], shape["intermediate_size"]
    narrow = hidden // shape["num_attention_heads"] * shape["num_key_value_heads"]
    sizes = {"q_proj": (hidden, hidden), "k_proj": (narrow, hidden), "v_proj": (narrow, hidden), "o_proj": (hidden, hidden)}
    sizes |= {"gate_proj": (feed, hidden), "up_proj": (feed, hidden), "down_proj": (hidden, feed)}
    weights = {}
    for layer in range(shape["num_hidden_layers"]):
        for target in TARGETS:
            part = "self_attn" if target in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
            rows, columns = sizes[target]
            module = f"base_model.model.model.layers.{layer}.{part}.{target}"
            weights[f"{module}.lora_A.weight"] = (chance.standard_normal((rank, columns)) * scale).astype(np.float32)
            weights[f"{module}.lora_B.weight"] = (chance.standard_normal((rows, rank)) * scale).astype(np.float32)
    return weights
