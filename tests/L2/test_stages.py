"""The heavy stages as requests: the same recipe is not trained twice, and other rows than were asked for are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lpm_kernel.artefacts import encode_records
from lpm_kernel.errors import TrainingError, TwinError
from lpm_kernel.L2 import stages
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.records import Adapter, TrainingRow
from lpm_kernel.L2.release import rows_hash
from lpm_kernel.L2.stages import ConvertRequest, SharedAdapter, TrainRequest, run_conversion, run_training
from lpm_kernel.L2.train import TrainResult
from lpm_kernel.layout import asset_key
from lpm_kernel.records import sha256_hex
from lpm_kernel.settings import Settings
from tests.fakes import MemoryBlobs, no_progress

from .conftest import training_rows

ROWS = [replace(row, checksum=f"sum of {row.row_id}") for row in training_rows()]
NEW = replace(ROWS[0], row_id="new", checksum="sum of new")
BASE = BaseModel("tiny", "b" * 64, Path("base.gguf"), Path("hf"))


class CountingTrainer:
    """Stands for the training loop, which has its own tests: writes two small files and counts how often it was asked."""

    def __init__(self) -> None:
        self.trainings = 0
        self.rows: list[str] = []
        self.options: dict[str, Any] = {}
        self.began_with: bytes | None = None

    def __call__(self, rows: Any, base: BaseModel, training: Any, out_dir: Path, progress: Any, **options: Any) -> TrainResult:
        self.trainings += 1
        self.rows, self.options = [row.row_id for row in rows], options
        self.began_with = options["start_adapter"].read_bytes() if options["start_adapter"] else None
        out_dir.mkdir(parents=True, exist_ok=True)
        told = f"weights of {self.rows}, seed {training.seed}, after {self.began_with}"
        (out_dir / "a.safetensors").write_bytes(told.encode())
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
    lay_down(blobs, ROWS)
    return blobs


def lay_down(blobs: MemoryBlobs, rows: list[TrainingRow]) -> None:
    blobs.put(asset_key("1", "training_rows", "jsonl"), encode_records(rows))


def request_of(settings: Settings, **changes: Any) -> TrainRequest:
    return TrainRequest("1", rows_hash(ROWS), settings.training.model_copy(update=changes))


def going_on(settings: Settings, rows: list[TrainingRow], last: Adapter, **changes: Any) -> TrainRequest:
    return replace(request_of(settings, replay_share=0.25, **changes), rows_sha256=rows_hash(rows), start_from=last)


def test_an_adapter_is_kept_under_its_own_hash_with_how_it_came_to_be(
    settings: Settings, blobs: MemoryBlobs, trainer: CountingTrainer
) -> None:
    adapter = run_training(request_of(settings), blobs, BASE, no_progress)
    stored = blobs.get(adapter.key)
    assert adapter.sha256 == sha256_hex(stored)
    assert adapter.size_bytes == len(stored)
    assert blobs.get(adapter.config_key) == b"{}"
    assert (adapter.base_sha256, adapter.rows_sha256) == ("b" * 64, rows_hash(ROWS))
    assert adapter.loss_curve == (1.5, 0.5)


def test_the_same_recipe_is_trained_once_and_any_other_anew(
    settings: Settings, blobs: MemoryBlobs, trainer: CountingTrainer
) -> None:
    first = run_training(request_of(settings), blobs, BASE, no_progress)
    assert run_training(request_of(settings, threads=1), blobs, BASE, no_progress) == first
    assert run_training(request_of(settings, checkpoint_every_steps=1), blobs, BASE, no_progress) == first
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
    lay_down(blobs, ROWS[1:])
    with pytest.raises(TrainingError) as caught:
        run_training(request_of(settings), blobs, BASE, no_progress)
    assert caught.value.code == "rows_changed"
    assert trainer.trainings == 0


def test_held_out_rows_are_measured_never_trained_on_and_belong_to_the_recipe(
    settings: Settings, blobs: MemoryBlobs, trainer: CountingTrainer
) -> None:
    held_out = [replace(ROWS[0], row_id=f"held-{n}", checksum=f"held-{n}", split="held_out") for n in range(4)]
    lay_down(blobs, [*ROWS, *held_out])
    first = run_training(request_of(settings, eval_rows=2), blobs, BASE, no_progress)
    assert [row.row_id for row in trainer.options["held_out"]] == ["held-0", "held-2"]
    assert trainer.rows == [row.row_id for row in ROWS]
    lay_down(blobs, [*ROWS, *held_out[1:]])
    run_training(request_of(settings, eval_rows=2), blobs, BASE, no_progress)
    assert trainer.trainings == 2, "other measurements may choose other weights"
    run_training(request_of(settings, eval_rows=2, eval_every_steps=0), blobs, BASE, no_progress)
    assert trainer.options["held_out"] == []
    assert first.rows_trained == len(ROWS)


def test_a_fresh_training_repeats_what_was_made(settings: Settings, blobs: MemoryBlobs, trainer: CountingTrainer) -> None:
    first = run_training(request_of(settings), blobs, BASE, no_progress)
    assert run_training(replace(request_of(settings), fresh=True), blobs, BASE, no_progress) == first
    assert trainer.trainings == 2


def test_the_next_try_of_a_fresh_training_that_broke_off_trains_too(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, blobs: MemoryBlobs, trainer: CountingTrainer
) -> None:
    """It asks for no fresh one, so that it goes on from checkpoints, and was given the old adapter."""
    run_training(request_of(settings), blobs, BASE, no_progress)

    def break_off(*_: Any, **__: Any) -> TrainResult:
        raise TrainingError("out_of_memory", "told to", retryable=True)

    monkeypatch.setattr(stages, "train_adapter", break_off)
    with pytest.raises(TrainingError):
        run_training(replace(request_of(settings), fresh=True), blobs, BASE, no_progress)
    monkeypatch.setattr(stages, "train_adapter", trainer)
    run_training(request_of(settings), blobs, BASE, no_progress)
    assert trainer.trainings == 2


def test_only_new_rows_and_a_share_of_the_known_are_learned_from_the_last_adapter(
    settings: Settings, blobs: MemoryBlobs, trainer: CountingTrainer
) -> None:
    last = run_training(request_of(settings), blobs, BASE, no_progress)
    rows = [*ROWS, NEW]
    lay_down(blobs, rows)
    made = run_training(going_on(settings, rows, last), blobs, BASE, no_progress)
    assert trainer.rows[0] == "new"
    assert len(trainer.rows) == 3, "one row in four of eight is trained again"
    assert trainer.began_with == blobs.get(last.key)
    assert (made.parent_sha256, made.rows_trained, made.rows_replayed) == (last.sha256, 3, 2)
    assert run_training(going_on(settings, rows, last), blobs, BASE, no_progress) == made
    assert trainer.trainings == 2, "the start belongs to the recipe"
    run_training(replace(going_on(settings, rows, last), start_from=None), blobs, BASE, no_progress)
    assert (trainer.trainings, len(trainer.rows)) == (3, 9)


def test_an_adapter_remembers_what_its_parents_have_learned(
    settings: Settings, blobs: MemoryBlobs, trainer: CountingTrainer
) -> None:
    last = run_training(request_of(settings), blobs, BASE, no_progress)
    rows = [*ROWS, NEW]
    lay_down(blobs, rows)
    made = run_training(going_on(settings, rows, last), blobs, BASE, no_progress)
    turned = rows[::-1]
    lay_down(blobs, turned)
    again = run_training(going_on(settings, turned, made), blobs, BASE, no_progress)
    assert trainer.trainings == 2, "nothing is new"
    assert again == replace(made, rows_sha256=rows_hash(turned))


def test_after_a_row_has_gone_training_begins_at_the_start(
    settings: Settings, blobs: MemoryBlobs, trainer: CountingTrainer
) -> None:
    """Weights cannot unlearn: what was deleted would stay in an adapter that goes on from one that knew it."""
    last = run_training(request_of(settings), blobs, BASE, no_progress)
    rows = [*ROWS[1:], NEW]
    lay_down(blobs, rows)
    made = run_training(going_on(settings, rows, last), blobs, BASE, no_progress)
    assert trainer.rows == [row.row_id for row in rows]
    assert trainer.began_with is None
    assert made.parent_sha256 is None


@pytest.mark.parametrize("changes", [{"learning_rate": 0.01}, {"rank": 2}, {"targets": ("q_proj",)}, {"epochs": 9}])
def test_other_settings_begin_at_the_start(
    settings: Settings, blobs: MemoryBlobs, trainer: CountingTrainer, changes: dict[str, Any]
) -> None:
    last = run_training(request_of(settings), blobs, BASE, no_progress)
    lay_down(blobs, [*ROWS, NEW])
    made = run_training(going_on(settings, [*ROWS, NEW], last, **changes), blobs, BASE, no_progress)
    assert (made.parent_sha256, trainer.began_with) == (None, None)


def test_a_last_adapter_whose_files_are_gone_is_not_gone_on_from(
    settings: Settings, blobs: MemoryBlobs, trainer: CountingTrainer
) -> None:
    last = run_training(request_of(settings), blobs, BASE, no_progress)
    lay_down(blobs, [*ROWS, NEW])
    blobs.delete(last.learned_key)
    assert run_training(going_on(settings, [*ROWS, NEW], last), blobs, BASE, no_progress).parent_sha256 is None


def test_a_shared_adapter_may_be_what_all_begin_with_and_nobodys_else(
    settings: Settings, blobs: MemoryBlobs, trainer: CountingTrainer
) -> None:
    plain = run_training(request_of(settings), blobs, BASE, no_progress)
    blobs.put("shared/skill.safetensors", b"skill")
    skilled = replace(request_of(settings), warm_start=SharedAdapter("shared/skill.safetensors", sha256_hex(b"skill")))
    assert run_training(skilled, blobs, BASE, no_progress) != plain
    assert trainer.began_with == b"skill"
    for key, sha256, code in (
        ("shared/skill.safetensors", "0" * 64, "start_adapter_damaged"),
        ("tenant/2/lora/x.safetensors", plain.sha256, "foreign_key"),
        ("shared/../tenant/2/lora/x.safetensors", plain.sha256, "foreign_key"),
    ):
        with pytest.raises(TwinError) as caught:
            run_training(replace(skilled, warm_start=SharedAdapter(key, sha256), fresh=True), blobs, BASE, no_progress)
        assert caught.value.code == code


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
