from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.base_files import BASE_SHA256_KEY, halves_to_interleaved
from lpm_kernel.L2.gguf import convert_adapter
from lpm_kernel.L2.gguf_adapter import read_adapter
from lpm_kernel.L2.gguf_header import read_gguf_header

from .conftest import lora_weights

if TYPE_CHECKING:
    from pathlib import Path

    from lpm_kernel.L2.base_model import BaseModel

    from .conftest import Chain

PLAIN: dict[str, Any] = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none"}


@pytest.fixture
def shape(tiny_base: BaseModel) -> dict[str, Any]:
    return json.loads((tiny_base.hf_dir / "config.json").read_text())


def convert(
    base: BaseModel, folder: Path, weights: dict[str, np.ndarray], metadata: dict[str, str] | None = None, **config: Any
) -> Path:
    from safetensors.numpy import save_file

    save_file(weights, folder / "adapter.safetensors", metadata=metadata)
    (folder / "config.json").write_text(json.dumps({**PLAIN, **config}))
    out = folder / "adapter.gguf"
    assert convert_adapter(folder / "adapter.safetensors", folder / "config.json", base, out) == len(weights)
    return out


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    content = np.memmap(path, mode="r")
    found = {}
    for place in read_gguf_header(path).tensors:
        size_bytes = 2 * int(np.prod(place.shape))
        found[place.name] = content[place.offset : place.offset + size_bytes].view(np.float16).reshape(place.shape)
    return found


def test_an_adapter_knows_its_base_and_its_scale(tiny_base: BaseModel, shape: dict, tmp_path: Path) -> None:
    out = convert(tiny_base, tmp_path, lora_weights(4, shape))
    assert read_adapter(out).base_sha256 == tiny_base.sha256
    values = read_gguf_header(out).values
    assert (values["adapter.type"].value, values["adapter.lora.alpha"].value) == ("lora", 8.0)


def test_rank_stabilised_scaling_is_said_in_the_scale(tiny_base: BaseModel, shape: dict, tmp_path: Path) -> None:
    out = convert(tiny_base, tmp_path, lora_weights(4, shape), use_rslora=True)
    assert read_gguf_header(out).values["adapter.lora.alpha"].value == 16.0


def test_llama_has_the_output_rows_of_q_and_k_in_another_order(tiny_base: BaseModel, shape: dict, tmp_path: Path) -> None:
    weights = lora_weights(4, shape)
    found = tensors_of(convert(tiny_base, tmp_path, weights))
    module = "base_model.model.model.layers.1.self_attn"

    def f16(name: str) -> np.ndarray:
        return weights[f"{module}.{name}.weight"].astype(np.float16)

    assert np.array_equal(found["blk.1.attn_q.weight.lora_b"], halves_to_interleaved(f16("q_proj.lora_B"), 4))
    assert np.array_equal(found["blk.1.attn_k.weight.lora_b"], halves_to_interleaved(f16("k_proj.lora_B"), 2))
    assert np.array_equal(found["blk.1.attn_q.weight.lora_a"], f16("q_proj.lora_A"))
    assert np.array_equal(found["blk.1.attn_v.weight.lora_b"], f16("v_proj.lora_B"))


def test_qwen2_keeps_the_rows_as_they_are(tiny_base: BaseModel, shape: dict, tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text(json.dumps({**shape, "model_type": "qwen2"}))
    weights = lora_weights(4, shape)
    found = tensors_of(convert(replace(tiny_base, hf_dir=tmp_path / "hf"), tmp_path, weights))
    expected = weights["base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"].astype(np.float16)
    assert np.array_equal(found["blk.0.attn_q.weight.lora_b"], expected)


def test_the_same_adapter_gives_the_same_bytes(tiny_base: BaseModel, shape: dict, tmp_path: Path) -> None:
    first = convert(tiny_base, tmp_path, lora_weights(4, shape)).read_bytes()
    assert convert(tiny_base, tmp_path, lora_weights(4, shape)).read_bytes() == first


@pytest.mark.parametrize(
    "config",
    [
        {"use_dora": True},
        {"bias": "all"},
        {"modules_to_save": ["lm_head"]},
        {"rank_pattern": {"q_proj": 8}},
        {"alpha_pattern": {"q_proj": 8}},
        {"peft_type": "ADALORA"},
    ],
    ids=lambda config: next(iter(config)),
)
def test_what_gguf_cannot_say_is_refused(tiny_base: BaseModel, shape: dict, tmp_path: Path, config: dict) -> None:
    with pytest.raises(TrainingError) as caught:
        convert(tiny_base, tmp_path, lora_weights(4, shape), **config)
    assert caught.value.code == "adapter_not_expressible"
    assert not (tmp_path / "adapter.gguf").exists()


def test_damaged_adapters_are_refused_and_leave_no_file(tiny_base: BaseModel, shape: dict, tmp_path: Path) -> None:
    whole = lora_weights(4, shape)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    embedding = {"base_model.model.model.embed_tokens.lora_embedding_A": np.zeros((4, 8), np.float32)}
    cases: dict[str, tuple[dict[str, np.ndarray], str]] = {
        "not finite": ({**whole, name: np.full_like(whole[name], np.inf)}, "adapter_not_finite"),
        "too large for f16": ({**whole, name: np.full_like(whole[name], 1e6)}, "adapter_not_finite"),
        "one matrix of two": ({key: value for key, value in whole.items() if key != name}, "adapter_unreadable"),
        "another rank": (lora_weights(8, shape), "adapter_unreadable"),
        "nothing": ({}, "adapter_unreadable"),
        "an embedding": ({**whole, **embedding}, "adapter_not_expressible"),
    }
    for weights, code in cases.values():
        with pytest.raises(TrainingError) as caught:
            convert(tiny_base, tmp_path, weights)
        assert caught.value.code == code
    assert not [path for path in tmp_path.iterdir() if "gguf" in path.name]


def test_an_adapter_of_another_base_is_not_converted(tiny_base: BaseModel, mabel: Chain, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        convert_adapter(mabel.adapter_path, mabel.config_path, tiny_base, tmp_path / "out.gguf")
    assert caught.value.code == "adapter_base_differs"
    assert not (tmp_path / "out.gguf").exists()


def test_a_file_that_names_no_base_is_no_adapter(tiny_base: BaseModel, shape: dict, tmp_path: Path) -> None:
    whole = convert(tiny_base, tmp_path, lora_weights(4, shape)).read_bytes()
    assert BASE_SHA256_KEY.encode() in whole
    unnamed = whole.replace(BASE_SHA256_KEY.encode(), BASE_SHA256_KEY.upper().encode())
    for number, content in enumerate((b"", b"junk" * 50, whole[:200], unnamed)):
        path = tmp_path / f"{number}.gguf"
        path.write_bytes(content)
        with pytest.raises(TrainingError) as caught:
            read_adapter(path)
        assert caught.value.code == "adapter_unreadable"
    for path in (tmp_path / "absent.gguf", tiny_base.gguf_path):
        with pytest.raises(TrainingError, match="convert it again"):
            read_adapter(path)
