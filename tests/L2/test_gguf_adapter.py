"""Files that pose as adapters: each is refused by its head, before llama.cpp sees it, which ends the process at some."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpm_kernel.errors import LlmError, TrainingError
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.gguf_adapter import read_adapter
from lpm_kernel.L2.llama_adapters import LlamaAdapters
from lpm_kernel.L2.llama_native import Weights
from tests.gguf_adapters import MODULE, matrices, write_adapter

from .conftest import as_adapter_file

HIDDEN = 64
"""Of the tiny base."""

SOUND = matrices(HIDDEN, HIDDEN)
A, B = SOUND


@pytest.fixture(scope="module")
def library(tiny_base: BaseModel) -> Iterator[LlamaAdapters]:
    weights = Weights(tiny_base.gguf_path)
    yield LlamaAdapters(weights)
    weights.close()


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_a_sound_one_is_taken_and_loads(library: LlamaAdapters, tiny_base: BaseModel, tmp_path: Path, kind: Any) -> None:
    path = write_adapter(tmp_path / "a.gguf", matrices(HIDDEN, HIDDEN, kind=kind), tiny_base.sha256)
    adapter = as_adapter_file(path, tiny_base.sha256)
    assert library.check(adapter, tiny_base.sha256) == path.stat().st_size
    library.free(library.load(adapter))


@pytest.mark.parametrize(
    "tensors",
    [
        *(matrices(HIDDEN, HIDDEN, kind=kind) for kind in (np.int32, np.int8, np.float64)),
        {A: np.ones((2, 2, HIDDEN), np.float32), B: np.ones((2, HIDDEN, 2), np.float32)},
        {A: np.ones(HIDDEN, np.float32), B: np.ones(HIDDEN, np.float32)},
        {A: SOUND[A]},
        {A: SOUND[A], B: np.ones((HIDDEN, 3), np.float16)},
        {**SOUND, MODULE: np.ones((HIDDEN, HIDDEN), np.float16)},
        {},
    ],
    ids=["i32", "i8", "f64", "3-D", "1-D", "one alone", "unlike ranks", "a whole matrix", "none"],
)
def test_tensors_that_no_lora_has_are_refused(
    library: LlamaAdapters, tiny_base: BaseModel, tmp_path: Path, tensors: dict[str, np.ndarray]
) -> None:
    """One person's imported adapter of whole numbers ended the process with every other person's chat in it."""
    path = write_adapter(tmp_path / "a.gguf", tensors, tiny_base.sha256)
    assert refusal(library, path, tiny_base) == "adapter_refused"


@pytest.mark.parametrize(
    "tensors",
    [
        matrices(HIDDEN, 2 * HIDDEN),
        {name.replace("blk.0", "blk.9"): tensor for name, tensor in SOUND.items()},
        {name.replace("attn_q", "attn_norm"): tensor for name, tensor in matrices(1, HIDDEN).items()},
    ],
    ids=["another shape", "a layer too many", "a vector of the base"],
)
def test_matrices_that_fit_nothing_of_the_base_are_refused(
    library: LlamaAdapters, tiny_base: BaseModel, tmp_path: Path, tensors: dict[str, np.ndarray]
) -> None:
    path = write_adapter(tmp_path / "a.gguf", tensors, tiny_base.sha256)
    assert "fit nothing of this base" in refused_because(library, path, tiny_base).message


@pytest.mark.parametrize(
    "keys",
    [
        {"general__alignment": 0},
        {"general__alignment": 48},
        {"general__alignment": "many"},
        {"general__alignment": 32},
        {"adapter__lora__alpha": "strong"},
        {"adapter__type": 7},
        {"tokenizer__model": "x"},
    ],
    ids=str,
)
def test_keys_that_no_adapter_has_are_refused(tmp_path: Path, keys: dict[str, Any]) -> None:
    """An alignment of nought was divided by, and whoever asked that twin got a 500."""
    path = write_adapter(tmp_path / "a.gguf", matrices(), **keys)
    with pytest.raises(TrainingError) as caught:
        read_adapter(path)
    assert caught.value.code == "adapter_unreadable"


def test_one_that_ends_before_its_last_tensor_is_refused(tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a.gguf", matrices(400, 400))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(TrainingError, match="ends before"):
        read_adapter(path)


def refused_because(library: LlamaAdapters, path: Path, base: BaseModel) -> LlmError:
    with pytest.raises(LlmError) as caught:
        library.check(as_adapter_file(path, base.sha256), base.sha256)
    assert not caught.value.retryable
    return caught.value


def refusal(library: LlamaAdapters, path: Path, base: BaseModel) -> str:
    return refused_because(library, path, base).code
