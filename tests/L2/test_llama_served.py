"""llama.cpp behind the serving engine: a place is free within a token of leaving, a retired adapter lives to its last token."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lpm_kernel.errors import LlmError
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.llama import LlamaCpp
from lpm_kernel.serving_release import check_adapter
from lpm_kernel.settings import Settings
from lpm_kernel.stores.llm import AdapterFile
from tests.paced_llm import wait_until
from twin_serving.engine.engine import ServingEngine
from twin_serving.engine.metrics import render_metrics

from .conftest import asked, chain, lora_weights


@pytest.fixture
def engine(tiny_qwen: BaseModel, settings: Settings) -> Iterator[ServingEngine]:
    models = settings.models.model_copy(update={"slots": 1})
    llama = LlamaCpp(tiny_qwen, slots=1, context_tokens=1024)
    engine = ServingEngine(llama, settings.model_copy(update={"models": models}))
    yield engine
    engine.close()


@pytest.fixture
def adapter(tiny_qwen: BaseModel, tmp_path: Path) -> AdapterFile:
    from safetensors.numpy import save_file

    shape = json.loads((tiny_qwen.hf_dir / "config.json").read_text())
    save_file(lora_weights(4, shape, scale=0.3), tmp_path / "adapter.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    return chain(tmp_path / "adapter.safetensors", tmp_path / "config.json", tiny_qwen, tmp_path).gguf


def hear(stream: Iterator[str], heard: list[str], codes: list[str]) -> None:
    try:
        for piece in stream:
            heard.append(piece)
    except LlmError as error:
        codes.append(error.code)


def test_the_one_place_is_free_within_a_token_after_its_listener_left(engine: ServingEngine) -> None:
    whole = "".join(engine.stream(asked("Hello?"), tenant="ravi", max_tokens=4))
    codes: list[str] = []
    shortest = 900
    for _ in range(5):
        stream = engine.stream(asked("Tell me all."), tenant="mabel", max_tokens=900)
        heard: list[str] = []
        reader = threading.Thread(target=hear, args=(stream, heard, codes))
        reader.start()
        wait_until(lambda heard=heard: bool(heard), 60)
        stream.close()  # type: ignore[attr-defined]
        assert "".join(engine.stream(asked("Hello?"), tenant="ravi", max_tokens=4)) == whole
        reader.join(60)
        assert not reader.is_alive()
        shortest = min(shortest, len(heard))
    assert set(codes) == {"listener_left"}, "one that came to its end before it was left has no code: not all five"
    assert shortest < 800


def test_an_adapter_that_is_retired_under_way_answers_to_the_end_and_is_freed_then(
    engine: ServingEngine, adapter: AdapterFile
) -> None:
    assert engine.adapters is not None
    whole = "".join(engine.stream(asked("Hello?"), tenant="mabel", adapter=adapter, max_tokens=20))
    stream = engine.stream(asked("Hello?"), tenant="mabel", adapter=adapter, max_tokens=20)
    first = next(stream)
    engine.adapters.retire(adapter.sha256)
    assert adapter.sha256 in engine.adapters
    assert first + "".join(stream) == whole
    assert adapter.sha256 not in engine.adapters
    assert "".join(engine.stream(asked("Hello?"), tenant="mabel", adapter=adapter, max_tokens=20)) == whole


def test_what_the_cache_counts_is_shown(engine: ServingEngine, adapter: AdapterFile) -> None:
    for _ in range(2):
        list(engine.stream(asked("Hello?"), tenant="mabel", adapter=adapter, max_tokens=2))
    shown = render_metrics(engine).decode()
    for line in (
        'twin_adapter_requests_total{result="miss"} 1.0',
        'twin_adapter_requests_total{result="hit"} 1.0',
        "twin_adapter_hit_ratio 0.5",
        "twin_adapters_loaded 1.0",
        f"twin_adapter_bytes {float(adapter.path.stat().st_size)}",
        "twin_adapter_load_seconds_count 1.0",
        'twin_adapter_load_seconds_bucket{le="+Inf"} 1.0',
    ):
        assert line in shown.splitlines(), line


def found(engine: ServingEngine) -> tuple[int, int]:
    """Hits and misses."""
    assert engine.adapters is not None
    figures = engine.adapters.figures()
    return figures.hits, figures.misses


def test_a_chat_counts_once_though_it_looks_at_its_adapter_before_it_answers(
    engine: ServingEngine, adapter: AdapterFile
) -> None:
    """Each chat was counted as three; with every adapter loaded anew, the share of those in memory was shown as two thirds."""
    assert engine.adapters is not None

    def chat() -> None:
        check_adapter(engine, "mabel", adapter)
        list(engine.stream(asked("Hello?"), tenant="mabel", adapter=adapter, max_tokens=2))

    chat()
    assert found(engine) == (0, 1)
    chat()
    assert found(engine) == (1, 1)
    engine.adapters.retire(adapter.sha256)
    chat()
    assert found(engine) == (1, 2)
    check_adapter(engine, "mabel", adapter)
    assert found(engine) == (1, 2), "nothing was answered"


def test_an_adapter_that_was_loaded_ahead_is_found_there(engine: ServingEngine, adapter: AdapterFile) -> None:
    engine.warm("mabel", adapter)
    list(engine.stream(asked("Hello?"), tenant="mabel", adapter=adapter, max_tokens=2))
    assert found(engine) == (1, 0)
