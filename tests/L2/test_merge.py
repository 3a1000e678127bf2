"""Merged models: the same answers as base and adapter, in a file that other programs load."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from lpm_kernel.errors import StoreError, TrainingError, UserInputError
from lpm_kernel.L2.adapter_files import file_sha256
from lpm_kernel.L2.base_files import BASE_SHA256_KEY
from lpm_kernel.L2.gguf_header import read_gguf_header
from lpm_kernel.L2.llama_native import Context, Weights, quantise_gguf
from lpm_kernel.L2.match import greedy_tokens_match
from lpm_kernel.L2.merge import ADAPTER_SHA256_KEY, export_model, keep_merged, merge_adapter
from lpm_kernel.layout import lora_config_key, lora_key
from lpm_kernel.stores.releases import promote_release
from tests.fakes import MemoryBlobs, no_progress
from tests.samples import make_release

from .conftest import lora_weights
from .tiny_models import PROMPTS

if TYPE_CHECKING:
    from pathlib import Path

    from lpm_kernel.L2.base_model import BaseModel
    from lpm_kernel.stores.open import Stores


def write_adapter(base: BaseModel, folder: Path, scale: float = 0.2) -> tuple[Path, Path]:
    from safetensors.numpy import save_file

    shape = json.loads((base.hf_dir / "config.json").read_text())
    weights = {name: values.astype(np.float16) for name, values in lora_weights(4, shape, scale).items()}
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "task_type": "CAUSAL_LM"}
    config["target_modules"] = sorted({name.split(".")[-3] for name in weights})
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "adapter.safetensors", metadata={BASE_SHA256_KEY: base.sha256})
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "adapter.safetensors", folder / "config.json"


def answers(path: Path) -> list[int]:
    """What llama.cpp says first to each prompt."""
    weights = Weights(path)
    context = Context(weights, 1, 128)
    try:
        said = []
        for prompt in PROMPTS:
            context.forget()
            said.append(context.extend(0, 0, weights.tokenize(prompt)))
        return said
    finally:
        context.close()
        weights.close()


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_a_merged_model_says_what_base_and_adapter_say(
    architecture: str, tiny_bases: dict[str, BaseModel], tmp_path: Path
) -> None:
    base = tiny_bases[architecture]
    adapter = write_adapter(base, tmp_path)
    merged = merge_adapter(base, *adapter, tmp_path, no_progress)
    report = greedy_tokens_match(*adapter, None, base, PROMPTS, 30, past_the_end=True, model_path=merged)
    assert report.holds, report
    assert not greedy_tokens_match(*adapter, None, base, PROMPTS, 30, past_the_end=True).holds, "the adapter has an effect"
    header = read_gguf_header(merged)
    assert header.text(ADAPTER_SHA256_KEY) == file_sha256(adapter[0])
    assert header.text(BASE_SHA256_KEY) == base.sha256


def test_quantised_forms_load_and_answer(tiny_qwen: BaseModel, tmp_path: Path) -> None:
    """Rows of 64 and 96 are too short for blocks of 256: llama.cpp then takes other kinds by itself."""
    merged = merge_adapter(tiny_qwen, *write_adapter(tiny_qwen, tmp_path), tmp_path, no_progress)
    exact = answers(merged)
    for form in ("q8_0", "q4_k_m"):
        out = tmp_path / f"{form}.gguf"
        quantise_gguf(merged, out, form, 1)
        assert out.stat().st_size < merged.stat().st_size
        said = answers(out)
        assert len(said) == len(exact)
        if form == "q8_0":
            assert sum(map(int.__eq__, said, exact)) >= 6
    with pytest.raises(TrainingError) as caught:
        quantise_gguf(tmp_path / "absent.gguf", tmp_path / "out.gguf", "q8_0", 1)
    assert caught.value.code == "model_not_quantised"


def test_an_adapter_that_does_not_fit_leaves_no_file(
    tiny_bases: dict[str, BaseModel], tiny_base: BaseModel, tmp_path: Path
) -> None:
    cases = {
        "adapter_base_differs": (tiny_bases["qwen2"], write_adapter(tiny_base, tmp_path / "other")),
        "adapter_not_finite": (tiny_bases["qwen2"], write_adapter(tiny_bases["qwen2"], tmp_path / "large", 400.0)),
    }
    for code, (base, adapter) in cases.items():
        with pytest.raises(TrainingError) as caught:
            merge_adapter(base, *adapter, tmp_path / "out", no_progress)
        assert caught.value.code == code
        assert list(tmp_path.glob("out/*")) == []


def test_kept_files_lie_under_their_hashes_in_their_tenant(tiny_qwen: BaseModel, tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    adapter_path, config_path = write_adapter(tiny_qwen, tmp_path)
    blobs.put_file(lora_key("1", "a" * 64), adapter_path)
    blobs.put_file(lora_config_key("1", "a" * 64), config_path)
    merged = keep_merged(blobs, "1", "a" * 64, tiny_qwen, 1, no_progress)
    assert [file.quantisation for file in merged.files] == ["q8_0", "q4_k_m"]
    for file in merged.files:
        assert file.key == f"tenant/1/merged/{'a' * 64}/{file.sha256}.gguf"
        blobs.get_file(file.key, tmp_path / "again.gguf")
        assert file_sha256(tmp_path / "again.gguf") == file.sha256
    assert keep_merged(blobs, "1", "a" * 64, tiny_qwen, 1, no_progress) == merged
    with pytest.raises(StoreError):
        keep_merged(blobs, "2", "a" * 64, tiny_qwen, 1, no_progress)


def test_the_live_releases_model_is_exported(stores: Stores, user_id: str, tiny_qwen: BaseModel, tmp_path: Path) -> None:
    def export(out: str) -> str:
        return export_model(stores.tables, stores.blobs, user_id, tiny_qwen, "q8_0", tmp_path / out, 1, no_progress)

    with pytest.raises(UserInputError) as unbuilt:
        export("none.gguf")
    assert unbuilt.value.code == "no_release"
    adapter_path, config_path = write_adapter(tiny_qwen, tmp_path / "adapter")
    sha256 = file_sha256(adapter_path)
    stores.blobs.put_file(lora_key(user_id, sha256), adapter_path)
    stores.blobs.put_file(lora_config_key(user_id, sha256), config_path)
    release = replace(make_release(user_id), adapter_sha256=sha256, base_sha256=tiny_qwen.sha256)
    with stores.tables.transaction(user_id) as connection:
        promote_release(connection, release)
    assert export("twin.gguf") == release.release_id
    assert read_gguf_header(tmp_path / "twin.gguf").text(ADAPTER_SHA256_KEY) == sha256
    with stores.tables.transaction(user_id) as connection:
        promote_release(connection, replace(release, release_id="release-2", base_sha256="6" * 64))
    with pytest.raises(TrainingError) as foreign:
        export("other.gguf")
    assert foreign.value.code == "adapter_base_differs"
    assert {path.name for path in tmp_path.iterdir()} == {"adapter", "twin.gguf"}
