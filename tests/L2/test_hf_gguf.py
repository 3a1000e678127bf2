"""Models in Hugging Face's layout as GGUF: llama.cpp computes what transformers does, and splits text as tokenizers does."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.base_model import prepare_base
from lpm_kernel.L2.gguf import convert_adapter
from lpm_kernel.L2.gguf_header import read_gguf_header
from lpm_kernel.L2.gguf_tokenizer import CONTROL, UNUSED, USER_DEFINED
from lpm_kernel.L2.hf_gguf import write_gguf_from_hf
from lpm_kernel.L2.llama import LlamaCpp
from lpm_kernel.L2.llama_native import Weights
from lpm_kernel.L2.match import greedy_tokens_match
from lpm_kernel.L2.train import train_adapter
from tests.fakes import no_progress

from .conftest import asked, lora_weights, training_rows
from .test_base_model import TRICKY
from .tiny_models import PROMPTS, TOOL, prepare_tiny, write_tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from lpm_kernel.L2.base_model import BaseModel
    from lpm_kernel.settings import Settings, TrainingSettings

MODELS: dict[str, dict[str, Any]] = {
    "qwen2, untied": {"architecture": "qwen2", "tied": False},
    "qwen2, kept in f16": {"architecture": "qwen2", "dtype": "float16"},
    "llama, tied": {"architecture": "llama"},
    "llama, untied, with biases": {"architecture": "llama", "tied": False, "attention_bias": True},
    "llama, heads wider than their share": {"architecture": "llama", "head_dim": 32},
}


@pytest.mark.parametrize("kind", MODELS)
def test_llama_cpp_says_what_transformers_says(kind: str, settings: Settings, tmp_path: Path) -> None:
    base = prepare_tiny(settings, write_tiny_model(tmp_path / "hf", **MODELS[kind]), tmp_path / "cache")
    report = greedy_tokens_match(None, None, None, base, PROMPTS, 30, past_the_end=True)
    assert report.holds, report
    assert report.ties < 10


def test_qwen2_goes_from_training_to_serving(tiny_qwen: BaseModel, brief_training: TrainingSettings, tmp_path: Path) -> None:
    """Biases stay in the base, no row changes its place, and the adapter moves what is said."""
    result = train_adapter(training_rows(), tiny_qwen, brief_training, tmp_path, no_progress)
    assert convert_adapter(result.adapter_path, result.config_path, tiny_qwen, tmp_path / "adapter.gguf") == 28
    paths = (result.adapter_path, result.config_path, tmp_path / "adapter.gguf")
    report = greedy_tokens_match(*paths, tiny_qwen, PROMPTS, 30, past_the_end=True)
    assert report.holds, report
    bare = greedy_tokens_match(*paths[:2], None, tiny_qwen, PROMPTS, 30, past_the_end=True)
    assert not bare.holds, "the adapter has an effect"


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_a_strong_adapter_is_the_same_in_both_forms(
    architecture: str, tiny_bases: dict[str, BaseModel], tmp_path: Path
) -> None:
    """The order of q's and k's rows differs between the two architectures; one tensor in the wrong order must be noticed."""
    from safetensors.numpy import save_file

    base = tiny_bases[architecture]
    shape = json.loads((base.hf_dir / "config.json").read_text())
    weights = {name: values.astype(np.float16) for name, values in lora_weights(4, shape, 0.2).items()}
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "task_type": "CAUSAL_LM"}
    config["target_modules"] = sorted({name.split(".")[-3] for name in weights})
    (tmp_path / "config.json").write_text(json.dumps(config))

    def matches(converted: dict[str, np.ndarray]) -> bool:
        save_file(weights, tmp_path / "adapter.safetensors")
        save_file(converted, tmp_path / "converted.safetensors")
        convert_adapter(tmp_path / "converted.safetensors", tmp_path / "config.json", base, tmp_path / "adapter.gguf")
        paths = (tmp_path / "adapter.safetensors", tmp_path / "config.json", tmp_path / "adapter.gguf")
        return greedy_tokens_match(*paths, base, PROMPTS, 30, past_the_end=True).holds

    assert matches(weights)
    wrong = "base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight"
    assert not matches(
        {**weights, wrong: np.ascontiguousarray(weights[wrong].reshape(2, 2, 8, 4).swapaxes(1, 2).reshape(32, 4))}
    )


@pytest.mark.parametrize("rule", ["qwen2", "llama-bpe", "smollm"])
def test_torch_and_llama_split_tricky_text_by_each_rule_alike(rule: str, settings: Settings, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    base = prepare_tiny(settings, write_tiny_model(tmp_path / "hf", "llama", rule=rule), tmp_path / "cache")
    assert read_gguf_header(base.gguf_path).text("tokenizer.ggml.pre") == rule
    tokenizer = Tokenizer.from_file(str(base.hf_dir / "tokenizer.json"))
    weights = Weights(base.gguf_path)
    try:
        texts = (*TRICKY, f"call {TOOL}now", "I'Ve GOT 3 O'Clock\r\n\r\n  \n x", "e\u0301 is not é", "…—“quoted”  ")
        differing = [text for text in texts if tokenizer.encode(text, add_special_tokens=False).ids != weights.tokenize(text)]
        assert differing == []
        assert len(weights.tokenize(TOOL)) == len(weights.tokenize("<|im_end|>")) == 1
        assert weights.ends_answer(weights.tokenize("<|im_end|>")[0])
    finally:
        weights.close()


def test_the_head_tells_the_model_and_its_tokens(tiny_qwen: BaseModel) -> None:
    values = read_gguf_header(tiny_qwen.gguf_path).values
    told = {key: values[key].value for key in values}
    assert (told["general.architecture"], told["tokenizer.ggml.pre"]) == ("qwen2", "qwen2")
    assert (told["qwen2.attention.head_count"], told["qwen2.attention.head_count_kv"]) == (4, 2)
    assert told["qwen2.rope.freq_base"] == 10000.0
    tokens, kinds = (
        told["tokenizer.ggml.tokens"],
        dict(zip(told["tokenizer.ggml.tokens"], told["tokenizer.ggml.token_type"], strict=True)),
    )
    assert len(tokens) == told["qwen2.vocab_size"] == len(kinds)
    assert (kinds["<|im_end|>"], kinds[TOOL], kinds[tokens[-1]]) == (CONTROL, USER_DEFINED, UNUSED)
    assert tokens[told["tokenizer.ggml.eos_token_id"]] == "<|im_end|>"
    assert tokens[told["tokenizer.ggml.padding_token_id"]] == "<|endoftext|>"
    assert "im_start" in told["tokenizer.chat_template"]


def test_a_training_copy_becomes_the_gguf_it_was_made_from(tiny_base: BaseModel, tmp_path: Path) -> None:
    """Llama's rows change their order twice and are where they were."""
    write_gguf_from_hf(tiny_base.hf_dir, tmp_path / "again.gguf", "f16", tiny_base.sha256, no_progress)
    before, after = read_gguf_header(tiny_base.f16_gguf_path), read_gguf_header(tmp_path / "again.gguf")
    contents = [np.memmap(path, mode="r") for path in (tiny_base.f16_gguf_path, tmp_path / "again.gguf")]
    places = {place.name: place for place in after.tensors}
    assert set(places) == {place.name for place in before.tensors}
    for place in before.tensors:
        other = places[place.name]
        size_bytes = int(np.prod(place.shape)) * (4 if len(place.shape) == 1 else 2)
        assert (place.shape, place.type) == (other.shape, other.type)
        stored = contents[0][place.offset : place.offset + size_bytes]
        assert np.array_equal(stored, contents[1][other.offset : other.offset + size_bytes]), place.name
    same = [
        key for key in before.values if key.startswith(("tokenizer.", "llama.")) and key != "tokenizer.ggml.unknown_token_id"
    ]
    assert {key: before.values[key].value for key in same} == {key: after.values[key].value for key in same}


def test_q8_0_of_a_folder_is_served(settings: Settings, tiny_qwen: BaseModel) -> None:
    models = settings.models.model_copy(update={"base": "Qwen2.5-0.5B-Instruct", "base_quantisation": "q8_0"})
    cache = tiny_qwen.hf_dir.parent.parent
    base = prepare_base(models, cache, no_progress, weights=(tiny_qwen.hf_dir / "model.safetensors").resolve().parent)
    assert base.f16_gguf_path == tiny_qwen.gguf_path != base.gguf_path
    assert base.gguf_path.stat().st_size < 0.8 * tiny_qwen.gguf_path.stat().st_size
    engine = LlamaCpp(base, slots=1, context_tokens=512)
    try:
        assert engine.answer_batch([asked("Where is the key?")], tenant="1", max_tokens=8)
    finally:
        engine.close()


def test_training_sees_text_as_serving_does(tiny_qwen: BaseModel) -> None:
    """Qwen's tokenizer composes letters and accents first, which llama.cpp does not; so training must not either."""
    source = (tiny_qwen.hf_dir / "model.safetensors").resolve().parent
    assert json.loads((source / "tokenizer.json").read_text())["normalizer"] == {"type": "NFC"}
    assert json.loads((tiny_qwen.hf_dir / "tokenizer.json").read_text())["normalizer"] is None
    assert (tiny_qwen.hf_dir / "model.safetensors").is_symlink()


BROKEN: dict[str, tuple[str, Any]] = {
    "another architecture": ("base_weights_unreadable", lambda config, tokenizer: config.update(model_type="gpt2")),
    "scaled positions": (
        "base_weights_unreadable",
        lambda config, tokenizer: config.update(rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 4}),
    ),
    "a sliding window": ("base_weights_unreadable", lambda config, tokenizer: config.update(use_sliding_window=True)),
    "more layers than weights": ("base_weights_unreadable", lambda config, tokenizer: config.update(num_hidden_layers=3)),
    "fewer layers than weights": ("base_weights_unreadable", lambda config, tokenizer: config.update(num_hidden_layers=1)),
    "no head that is its own": ("base_weights_unreadable", lambda config, tokenizer: config.update(tie_word_embeddings=False)),
    "fewer rows than tokens": ("base_weights_unreadable", lambda config, tokenizer: config.update(vocab_size=300)),
    "another split": ("tokenizer_unknown", lambda config, tokenizer: tokenizer.update(pre_tokenizer={"type": "Whitespace"})),
    "lower case": ("tokenizer_unknown", lambda config, tokenizer: tokenizer.update(normalizer={"type": "Lowercase"})),
    "whole words first": ("tokenizer_unknown", lambda config, tokenizer: tokenizer["model"].update(ignore_merges=True)),
    "no chat": ("tokenizer_unknown", lambda config, tokenizer: tokenizer["added_tokens"][1].update(content="<turn>")),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_llama_cpp_would_misread_is_refused(kind: str, settings: Settings, tiny_qwen: BaseModel, tmp_path: Path) -> None:
    code, change = BROKEN[kind]
    source = (tiny_qwen.hf_dir / "model.safetensors").resolve().parent
    shutil.copytree(source, tmp_path / "hf")
    config, tokenizer = (json.loads((source / name).read_text()) for name in ("config.json", "tokenizer.json"))
    change(config, tokenizer)
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config))
    (tmp_path / "hf" / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(TrainingError) as caught:
        prepare_tiny(settings, tmp_path / "hf", tmp_path / "cache")
    assert caught.value.code == code
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_weights_that_are_cut_short_are_refused(settings: Settings, tiny_qwen: BaseModel, tmp_path: Path) -> None:
    source = (tiny_qwen.hf_dir / "model.safetensors").resolve().parent
    whole = (source / "model.safetensors").read_bytes()
    for number, content in enumerate((b"", b"junk", whole[:-100])):
        folder = tmp_path / str(number)
        shutil.copytree(source, folder)
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(TrainingError) as caught:
            prepare_tiny(settings, folder, tmp_path / "cache")
        assert caught.value.code == "base_weights_unreadable"


def test_weights_in_shards_are_one_model(settings: Settings, tiny_qwen: BaseModel, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    source = (tiny_qwen.hf_dir / "model.safetensors").resolve().parent
    shutil.copytree(source, tmp_path / "hf", ignore=shutil.ignore_patterns("model.safetensors"))
    weights = load_file(source / "model.safetensors")
    shards = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(sorted(weights))}
    for shard in set(shards.values()):
        save_file({name: weights[name] for name in weights if shards[name] == shard}, tmp_path / "hf" / shard)
    (tmp_path / "hf" / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    base = prepare_tiny(settings, tmp_path / "hf", tmp_path / "cache")
    assert base.sha256 != tiny_qwen.sha256
    report = greedy_tokens_match(None, None, None, base, PROMPTS[:2], 8, model_path=tiny_qwen.gguf_path)
    assert report.agreeing + report.ties == report.tokens
