from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.adapter_files import file_sha256
from lpm_kernel.L2.base_model import find_weights
from lpm_kernel.L2.skill import SHIPPED, find_skill, keep_skill, skill_folder, train_skill
from lpm_kernel.L2.skill_rows import NOTES
from lpm_kernel.L2.train import train_adapter
from tests.fakes import MemoryBlobs, no_progress

from .conftest import training_rows

if TYPE_CHECKING:
    from pathlib import Path

    from lpm_kernel.L2.base_model import BaseModel
    from lpm_kernel.settings import Settings, TrainingSettings


def test_the_one_that_the_project_brings_fits_its_base_its_settings_and_its_notes(
    base: BaseModel, settings: Settings, tmp_path: Path
) -> None:
    found = find_skill(base, settings.training, tmp_path)
    assert found.path.parent == SHIPPED
    assert found.skill.notes_sha256 == file_sha256(NOTES), "the notes were changed: `twin train-skill`, and keep what it makes"
    assert found.skill.base_sha256 == file_sha256(find_weights(base.name))
    assert (found.skill.draws, found.skill.seed) == (settings.skill.draws, settings.skill.seed)


def test_no_skill_of_another_shape_or_base_is_taken(base: BaseModel, settings: Settings, tmp_path: Path) -> None:
    """One of rank 8 would be refused by the trainer, late and by a message about matrices."""
    others = {"rank": 4, "alpha": 32, "targets": ("q_proj", "v_proj"), "first_layer": 10}
    for key, value in others.items():
        with pytest.raises(TrainingError) as caught:
            find_skill(base, settings.training.model_copy(update={key: value}), tmp_path)
        assert caught.value.code == "skill_missing"
    with pytest.raises(TrainingError, match="skill_missing"):
        find_skill(replace(base, sha256="0" * 64), settings.training, tmp_path)


def test_a_skill_made_here_is_found_begins_a_training_and_is_kept_once(
    tiny_base: BaseModel, settings: Settings, brief_training: TrainingSettings, tmp_path: Path
) -> None:
    rows = training_rows()
    made = train_skill(tiny_base, brief_training, settings.skill, tmp_path, no_progress, rows)
    found = find_skill(tiny_base, brief_training, tmp_path)
    assert found == made
    assert found.skill.rows == len(rows)
    assert (found.skill.rank, found.skill.trained_on) == (brief_training.rank, "cpu, float32")

    one_step = brief_training.model_copy(update={"epochs": 1, "batch_rows": len(rows), "learning_rate": 1e-6})
    alone = train_adapter(rows, tiny_base, one_step, tmp_path / "alone", no_progress)
    taught = train_adapter(rows, tiny_base, one_step, tmp_path / "taught", no_progress, start_adapter=found.path)
    assert taught.loss_curve[0] < alone.loss_curve[0]

    blobs = MemoryBlobs()
    assert keep_skill(blobs, found) == keep_skill(blobs, found)
    assert blobs.get(keep_skill(blobs, found).key) == found.path.read_bytes()


def test_a_damaged_skill_is_refused(
    tiny_base: BaseModel, settings: Settings, brief_training: TrainingSettings, tmp_path: Path
) -> None:
    made = train_skill(tiny_base, brief_training, settings.skill, tmp_path, no_progress, training_rows()[:2])
    made.path.write_bytes(made.path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(TrainingError, match="skill_unreadable"):
        find_skill(tiny_base, brief_training, tmp_path)
    record = skill_folder(tmp_path) / f"{tiny_base.name}-r{brief_training.rank}.json"
    record.write_text(json.dumps({"sha256": "x"}))
    with pytest.raises(TrainingError, match="skill_unreadable"):
        find_skill(tiny_base, brief_training, tmp_path)
