"""The skill adapter: the base taught once, about nobody, to answer from shown lines; where every user's training begins.

Belongs here: which skill adapter fits a base and the training settings, and training one.
Does not belong here: the rows it is taught by (`skill_rows.py`) and a user's training (`stages.py`).

One lies in `data/skill`, with its recipe beside it; for another base or shape `twin train-skill` makes one in TWIN_CACHE.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.adapter_files import file_sha256
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.records import TrainingRow
from lpm_kernel.L2.skill_rows import NOTES, draw_skill_rows, read_notes
from lpm_kernel.L2.stages import SharedAdapter
from lpm_kernel.L2.train import train_adapter
from lpm_kernel.layout import shared_key
from lpm_kernel.settings import SkillSettings, TrainingSettings
from lpm_kernel.stores.blobs import Blobs
from lpm_kernel.stores.compute import Progress

SHIPPED = NOTES.parent


@dataclass(frozen=True, slots=True)
class Skill:
    """A LoRA adapter (safetensors, PEFT's names) and what it was made from."""

    sha256: str
    base: str
    base_sha256: str
    rank: int
    alpha: int
    targets: tuple[str, ...]
    notes_sha256: str
    """Of the notes it was taught by."""
    draws: int
    rows: int
    seed: int
    batch_rows: int
    learning_rate: float
    trained_on: str
    first_layer: int = 0
    """Layers under this one have no matrices."""


@dataclass(frozen=True, slots=True)
class SkillFile:
    skill: Skill
    path: Path


def find_skill(base: BaseModel, training: TrainingSettings, cache_dir: Path) -> SkillFile:
    """The skill adapter of this base and shape: one made here, else the one that the project brings.

    Raises: TrainingError `skill_missing`, `skill_unreadable`.
    """
    for folder in (skill_folder(cache_dir), SHIPPED):
        record, path = _places(folder, base, training.rank)
        if not record.exists():
            continue
        try:
            told = json.loads(record.read_text(encoding="utf-8"))
            skill = Skill(**{**told, "targets": tuple(told["targets"])})
            whole = file_sha256(path) == skill.sha256
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TrainingError(
                "skill_unreadable", f"cannot read {record}: {error}; make it anew with `twin train-skill`"
            ) from error
        if not whole:
            raise TrainingError(
                "skill_unreadable", f"{path} is not what {record.name} says: make it anew with `twin train-skill`"
            )
        told_of = skill.base_sha256, skill.alpha, set(skill.targets), skill.first_layer
        if told_of == (base.sha256, training.alpha, set(training.targets), training.first_layer):
            return SkillFile(skill, path)
    raise TrainingError(
        "skill_missing",
        f"there is no skill adapter for {base.name} of rank {training.rank}, alpha {training.alpha}, these targets and "
        f"first_layer {training.first_layer}: make one with `twin train-skill`, or let training begin from nothing with "
        "skill.start: false",
    )


def have_skill(
    base: BaseModel, training: TrainingSettings, skill: SkillSettings, cache_dir: Path, progress: Progress
) -> SkillFile:
    """The one that fits, trained first where there is none."""
    try:
        return find_skill(base, training, cache_dir)
    except TrainingError as error:
        if error.code != "skill_missing":
            raise
        return train_skill(base, training, skill, cache_dir, progress)


def train_skill(
    base: BaseModel,
    training: TrainingSettings,
    skill: SkillSettings,
    cache_dir: Path,
    progress: Progress,
    rows: Sequence[TrainingRow] | None = None,
) -> SkillFile:
    """Teach the base by `skill.draws` draws of rows, each shown once, and keep the adapter under TWIN_CACHE.

    Raises: what `train_adapter` raises; TrainingError `skill_notes_invalid`.
    """
    if rows is None:
        pages = read_notes()
        rows = [row for draw in range(skill.draws) for row in draw_skill_rows(pages, skill.seed * 100 + draw)]
    record, path = _places(skill_folder(cache_dir), base, training.rank)
    path.parent.mkdir(parents=True, exist_ok=True)
    taught = training.model_copy(
        update={"epochs": 1, "batch_rows": skill.batch_rows, "learning_rate": skill.learning_rate, "seed": skill.seed}
    )
    result = train_adapter(rows, base, taught, path.parent / f"making-{path.stem}", progress)
    sha256 = file_sha256(result.adapter_path)
    made = Skill(
        sha256=sha256,
        base=base.name,
        base_sha256=base.sha256,
        rank=training.rank,
        alpha=training.alpha,
        targets=tuple(training.targets),
        notes_sha256=file_sha256(NOTES),
        draws=skill.draws,
        rows=len(rows),
        seed=skill.seed,
        batch_rows=skill.batch_rows,
        learning_rate=skill.learning_rate,
        trained_on=f"{result.device}, {result.dtype}",
        first_layer=training.first_layer,
    )
    result.adapter_path.replace(path)
    shutil.rmtree(result.config_path.parent)
    making = record.with_name(f".making-{record.name}")
    making.write_text(json.dumps(asdict(made), indent=2), encoding="utf-8")
    making.replace(record)
    return SkillFile(made, path)


def keep_skill(blobs: Blobs, found: SkillFile) -> SharedAdapter:
    """Put it where every place of training can fetch it. Idempotent."""
    key = shared_key(f"shared/skill/{found.skill.sha256}.safetensors")
    if not blobs.exists(key):
        blobs.put_file(key, found.path)
    return SharedAdapter(key, found.skill.sha256)


def skill_folder(cache_dir: Path) -> Path:
    return cache_dir / "skill"


def _places(folder: Path, base: BaseModel, rank: int) -> tuple[Path, Path]:
    stem = f"{base.name}-r{rank}"
    return folder / f"{stem}.json", folder / f"{stem}.safetensors"
