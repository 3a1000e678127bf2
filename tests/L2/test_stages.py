"""The heavy stages as requests: the same recipe is not trained twice, and other rows than were asked for are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lpm_kernel.artefacts import encode_records
from lpm_kernel.errors import TrainingError
from lpm_kernel.L2 import stages
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.records import Adapter
from lpm_kernel.L2.release import rows_hash
from lpm_kernel.L2.stages import ConvertRequest, TrainRequest, run_conversion, run_training
from lpm_kernel.L2.train import TrainResult
from lpm_kernel.layout import asset_key
from lpm_kernel.records import sha256_hex
from lpm_kernel.settings import Settings
from tests.fakes import MemoryBlobs, no_progress

from .conftest import training_rows

BASE = BaseModel("tiny", "b" * 64, Path("base.gguf"), Path("hf"))


class CountingTrainer:
    """Stands for the training loop, which has its own tests: writes two small files and counts how often it was asked."""

    def __init__(self) -> None:
        self.trainings = 0

    def __call__(self, rows: Any, base: BaseModel, training: Any, out_dir: Path, progress: Any) -> TrainResult:
        self.trainings += 1
        out_dir.mkdir(parents=True, exist_ok=True)
        (out_dir / "a.safetensors").write_bytes(f"weights of {len(rows)} rows, seed {training.seed}".encode())
        (out_dir / "c.json").write_bytes(b"{}")
        return TrainResult(out_dir / "a.safetensors", out_dir / "c.json", 2, (1.5, 0.5), 1.0, 100.0, ("q_proj",))


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> CountingTrainer:
    trainer = CountingTrainer()
    monkeypatch.setattr(stages, "train_adapter", trainer)
    return trainer


@pytest.fixture
def blobs() -> MemoryBlobs:
    blobs = MemoryBlobs()
    blobs.put(asset_key("1", "training_rows", "jsonl"), encode_records(training_rows()))
    return blobs


def request_of(settings: Settings, **changes: Any) -> TrainRequest:
    return TrainRequest("1", rows_hash(training_rows()), settings.training.model_copy(update=changes))


def test_an_adapter_is_kept_under_its_own_hash_with_how_it_came_to_be(
    settings: Settings, blobs: MemoryBlobs, trainer: CountingTrainer
) -> None:
    adapter = run_training(request_of(settings), blobs, BASE, no_progress)
    stored = blobs.get(adapter.key)
    assert adapter.sha256 == sha256_hex(stored)
    assert adapter.size_bytes == len(stored)
    assert blobs.get(adapter.config_key) == b"{}"
    assert (adapter.base_sha256, adapter.rows_sha256) == ("b" * 64, rows_hash(training_rows()))
    assert adapter.loss_curve == (1.5, 0.5)


def test_the_same_recipe_is_trained_once_and_any_other_anew(
    settings: Settings, blobs: MemoryBlobs, trainer: CountingTrainer
) -> None:
    first = run_training(request_of(settings), blobs, BASE, no_progress)
    assert run_training(request_of(settings, threads=1), blobs, BASE, no_progress) == first
    assert trainer.trainings == 1, "the number of threads changes no weight"
    assert run_training(request_of(settings, seed=8), blobs, BASE, no_progress) != first
    assert trainer.trainings == 2


def test_an_adapter_whose_file_is_gone_is_trained_again(
    settings: Settings, blobs: MemoryBlobs, trainer: CountingTrainer
) -> None:
    first = run_training(request_of(settings), blobs, BASE, no_progress)
    blobs.delete(first.key)
    assert run_training(request_of(settings), blobs, BASE, no_progress).sha256 == first.sha256
    assert trainer.trainings == 2
    assert blobs.exists(first.key)


def test_other_rows_than_were_asked_for_are_not_trained_on(
    settings: Settings, blobs: MemoryBlobs, trainer: CountingTrainer
) -> None:
    """The file of rows may be written anew between the request and the training."""
    blobs.put(asset_key("1", "training_rows", "jsonl"), encode_records(training_rows()[1:]))
    with pytest.raises(TrainingError) as caught:
        run_training(request_of(settings), blobs, BASE, no_progress)
    assert caught.value.code == "rows_changed"
    assert trainer.trainings == 0


def test_a_conversion_names_the_adapter_it_was_made_from(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, blobs: MemoryBlobs, trainer: CountingTrainer
) -> None:
    def convert(adapter: Path, config: Path, base: BaseModel, out: Path) -> int:
        out.write_bytes(b"GGUF of " + adapter.read_bytes() + config.read_bytes())
        return 3

    monkeypatch.setattr(stages, "convert_adapter", convert)
    adapter: Adapter = run_training(request_of(settings), blobs, BASE, no_progress)
    made = run_conversion(ConvertRequest("1", adapter), blobs, BASE, no_progress)
    stored = blobs.get(made.key)
    assert stored == b"GGUF of " + blobs.get(adapter.key) + b"{}"
    assert (made.sha256, made.size_bytes, made.tensors) == (sha256_hex(stored), len(stored), 3)
    assert (made.adapter_sha256, made.base_sha256) == (adapter.sha256, "b" * 64)
