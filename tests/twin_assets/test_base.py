"""The shared base as an asset, and the checks that compare llama.cpp with torch: they pass on what is sound, and only on it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pytest
import yaml
from safetensors.numpy import save

from lpm_kernel.L2.adapter_files import file_sha256
from lpm_kernel.L2.base_model import BaseModel, prepare_base
from lpm_kernel.L2.gguf import convert_adapter
from lpm_kernel.L2.records import Adapter, GgufAdapter
from lpm_kernel.records import Message
from lpm_kernel.settings import Settings, load_settings, settings_path
from tests.fakes import no_progress
from tests.L2.conftest import lora_weights
from tests.L2.tiny_models import FACTS, write_tiny_model
from tests.samples import make_row
from tests.twin_assets.workbench import USER, Workbench
from twin_assets import checks
from twin_assets.assets.base import base_model

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "task_type": "CAUSAL_LM"}


@pytest.fixture
def tiny_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings and environment under which the base is a tiny Qwen2 of a local folder."""
    content = yaml.safe_load(settings_path({}).read_text())
    content["models"].update({"base": "Qwen2.5-0.5B-Instruct", "base_quantisation": "q8_0"})
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("TWIN_SETTINGS", str(tmp_path / "settings.yaml"))
    monkeypatch.setenv("TWIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TWIN_BASE_DIR", str(write_tiny_model(tmp_path / "model", "qwen2")))
    return load_settings()


def test_the_base_is_made_ready_told_and_compared(tiny_settings: Settings) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        runs = [
            dg.materialize([base_model, checks.base_gguf_matches_weights], instance=instance, raise_on_error=False)
            for _ in range(2)
        ]
    told = []
    for run in runs:
        assert run.success
        (event,) = run.asset_materializations_for_node("base_model")
        told.append({key: value.value for key, value in event.metadata.items()})
        (result,) = run.get_asset_check_evaluations()
        assert result.passed
        assert result.metadata["tokens"].value == 220
    assert told[0] == told[1]
    assert (told[0]["architecture"], told[0]["revision"]) == ("qwen2", "a local folder")
    assert told[0]["served_file"] == "base-q8_0.gguf"
    assert 0 < told[0]["served_size_bytes"] < told[0]["f16_size_bytes"]


def test_a_base_that_is_not_there_fails_with_its_code(
    tiny_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWIN_BASE_DIR", str(tmp_path / "absent"))
    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.materialize([base_model], instance=instance, raise_on_error=False)
    (event,) = run.get_step_failure_events()
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    assert failure.metadata["code"].value == "base_weights_missing"


def test_a_gguf_adapter_with_a_tensor_in_another_order_is_found(
    tiny_settings: Settings, bench: Workbench, tmp_path: Path
) -> None:
    bench.settings = tiny_settings
    base = prepare_base(tiny_settings.models, tmp_path / "cache", no_progress)
    weights = adapter_weights(base)
    rows = [
        make_row(
            f"row-{number}", (Message("system", "You are Mabel."), Message("user", question), Message("assistant", answer))
        )
        for number, (question, answer) in enumerate(FACTS)
    ]

    def matches(converted: dict[str, np.ndarray]) -> bool:
        adapter, gguf = keep(bench, base, weights, converted, tmp_path)
        return bench.passes(checks.gguf_matches_adapter, gguf_adapter=gguf, lora_adapter=adapter, training_rows=rows)

    assert matches(weights)
    name = "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"
    assert not matches({**weights, name: np.ascontiguousarray(weights[name][::-1])})


def adapter_weights(base: BaseModel) -> dict[str, np.ndarray]:
    shape: dict[str, Any] = json.loads((base.hf_dir / "config.json").read_text())
    return {name: values.astype(np.float16) for name, values in lora_weights(4, shape, 0.2).items()}


def keep(
    bench: Workbench, base: BaseModel, weights: dict[str, np.ndarray], converted: dict[str, np.ndarray], folder: Path
) -> tuple[Adapter, GgufAdapter]:
    """Store an adapter, and beside it a GGUF that was made of `converted`."""
    config = CONFIG | {"target_modules": sorted({name.split(".")[-3] for name in weights})}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "converted.safetensors").write_bytes(save(converted))
    tensors = convert_adapter(folder / "converted.safetensors", folder / "config.json", base, folder / "adapter.gguf")
    keys = [f"tenant/{USER}/lora/a.{end}" for end in ("safetensors", "config.json", "gguf")]
    bench.blobs.put(keys[0], save(weights))
    bench.blobs.put(keys[1], (folder / "config.json").read_bytes())
    bench.blobs.put(keys[2], (folder / "adapter.gguf").read_bytes())
    adapter = Adapter("a", keys[0], keys[1], 1, base.sha256, "r", 4, 8, (), 1, 7, (1.0,), 1.0, 1.0)
    return adapter, GgufAdapter(file_sha256(folder / "adapter.gguf"), keys[2], 1, "a", base.sha256, tensors)
