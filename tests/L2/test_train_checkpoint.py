"""A training that is cut off goes on where it was: killed in earnest, stopped by a person, its newest checkpoint damaged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from lpm_kernel.artefacts import encode_record, encode_records
from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.records import CurvePoint
from lpm_kernel.L2.release import rows_hash
from lpm_kernel.L2.stages import TrainRequest, checkpoint_steps, run_training
from lpm_kernel.L2.train import train_adapter
from lpm_kernel.L2.train_checkpoint import (
    BlobCheckpoints,
    TrainState,
    decode_checkpoint,
    encode_checkpoint,
    find_checkpoint,
    forget_checkpoints,
)
from lpm_kernel.layout import asset_key, checkpoint_key, checkpoint_prefix
from lpm_kernel.stores.blobs import TenantBlobs
from tests.fakes import MemoryBlobs, no_progress
from tests.folder_blobs import FolderBlobs

from .conftest import training_rows

if TYPE_CHECKING:
    from lpm_kernel.L2.base_model import BaseModel
    from lpm_kernel.settings import TrainingSettings

Store = TypeVar("Store", MemoryBlobs, FolderBlobs)

STATE = TrainState(
    step=3,
    pass_tokens=192,
    loss_curve=(2.5,),
    curve=(CurvePoint(2, 2.5, 3.0, 100.0, 1e-3), CurvePoint(3, 2.25, None, 101.5, 5e-4)),
    best_step=2,
    best_eval_loss=3.0,
)

CHILD = """
import os, signal, sys
from pathlib import Path
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.stages import TrainRequest, run_training
from lpm_kernel.artefacts import decode_record
from tests.folder_blobs import FolderBlobs

request = decode_record(Path(sys.argv[1]).read_bytes(), TrainRequest)
base = BaseModel("tiny", sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))

def report(share, words):
    if "step 5 of" in words:
        os.kill(os.getpid(), signal.SIGKILL)

run_training(request, FolderBlobs(Path(sys.argv[5])), base, report)
"""


@pytest.fixture(scope="module")
def training(brief_training: TrainingSettings) -> TrainingSettings:
    """Sixteen steps, a checkpoint and a measurement every second."""
    changes = {"epochs": 4, "checkpoint_every_steps": 2, "eval_every_steps": 2, "patience": 0}
    return brief_training.model_copy(update=changes)


def request_of(training: TrainingSettings, **options: object) -> TrainRequest:
    return TrainRequest("1", rows_hash(training_rows()), training, **options)  # type: ignore[arg-type]


def with_rows(blobs: Store) -> Store:
    blobs.put(asset_key("1", "training_rows", "jsonl"), encode_records(training_rows()))
    return blobs


def steps_of(blobs: MemoryBlobs | FolderBlobs) -> list[int]:
    return [int(Path(key).stem) for key in blobs.list_keys(checkpoint_prefix("1"))]


class Stop(Exception):
    pass


def stop_at(step: int):
    def progress(share: float, words: str) -> None:
        if f"step {step} of" in words:
            raise Stop

    return progress


@pytest.fixture(scope="module")
def uninterrupted(tiny_base: BaseModel, training: TrainingSettings, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return train_adapter(training_rows(), tiny_base, training, folder, no_progress).adapter_path.read_bytes()


def test_a_killed_training_goes_on_and_ends_in_the_same_bytes(
    tiny_base: BaseModel, training: TrainingSettings, uninterrupted: bytes, tmp_path: Path
) -> None:
    blobs = with_rows(FolderBlobs(tmp_path / "blobs"))
    request = request_of(training)
    (tmp_path / "request.json").write_bytes(encode_record(request))
    arguments = [tmp_path / "request.json", tiny_base.sha256, tiny_base.gguf_path, tiny_base.hf_dir, tmp_path / "blobs"]
    child = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, arguments)], env=os.environ, capture_output=True, text=True, check=False
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert steps_of(blobs) == [2, 4]
    told: list[str] = []
    adapter = run_training(request, blobs, tiny_base, lambda share, words: told.append(words))
    assert adapter.resumed_from_step == 4
    assert "going on after step 4 of 16" in told
    assert blobs.get(adapter.key) == uninterrupted
    assert (adapter.steps, len(adapter.loss_curve)) == (16, 4)
    assert [point.step for point in adapter.curve] == list(range(1, 17))
    assert steps_of(blobs) == [], "what a training has learned on the way does not outlive it"


def test_stopping_between_steps_leaves_whole_checkpoints_and_each_can_be_gone_on_from(
    tiny_base: BaseModel, training: TrainingSettings, uninterrupted: bytes
) -> None:
    blobs = with_rows(MemoryBlobs())
    with pytest.raises(Stop):
        run_training(request_of(training), blobs, tiny_base, stop_at(7))
    assert checkpoint_steps(request_of(training), blobs, tiny_base) == [4, 6]
    with pytest.raises(TrainingError, match="there are 4, 6") as caught:
        run_training(request_of(training, resume_from_step=5), blobs, tiny_base, no_progress)
    assert caught.value.code == "checkpoint_missing"
    adapter = run_training(request_of(training, resume_from_step=4), blobs, tiny_base, no_progress)
    assert adapter.resumed_from_step == 4
    assert blobs.get(adapter.key) == uninterrupted
    with pytest.raises(TrainingError, match="there is none"):
        run_training(request_of(training, resume_from_step=4), blobs, tiny_base, no_progress)
    fresh = run_training(request_of(training, fresh=True), blobs, tiny_base, no_progress)
    assert (fresh.sha256, fresh.resumed_from_step) == (adapter.sha256, None)


def test_another_recipe_never_goes_on_from_these_checkpoints(tiny_base: BaseModel, training: TrainingSettings) -> None:
    blobs = with_rows(MemoryBlobs())
    with pytest.raises(Stop):
        run_training(request_of(training), blobs, tiny_base, stop_at(3))
    other = training.model_copy(update={"seed": 99, "epochs": 1})
    assert run_training(request_of(other), blobs, tiny_base, no_progress).resumed_from_step is None
    assert steps_of(blobs) == [], "a training of rows that changed is never gone on with"


def test_a_damaged_newest_checkpoint_is_passed_over_and_said(own: TenantBlobs, checkpoints: BlobCheckpoints) -> None:
    checkpoints.save(3, encode_checkpoint(STATE, tensors()))
    own.put(checkpoint_key("1", "recipe", 6), b"\x10\x00\x00\x00\x00\x00\x00\x00half of it")
    told: list[str] = []
    found = find_checkpoint(checkpoints, None, lambda share, words: told.append(words))
    assert found is not None
    assert found[0] == STATE
    assert told == ["the checkpoint of step 6 is damaged and passed over (checkpoint_unreadable)"]
    with pytest.raises(TrainingError) as caught:
        find_checkpoint(checkpoints, 6, no_progress)
    assert caught.value.code == "checkpoint_unreadable"


def test_a_checkpoint_comes_back_as_it_was(checkpoints: BlobCheckpoints) -> None:
    import torch

    state, found = decode_checkpoint(encode_checkpoint(STATE, tensors()))
    assert state == STATE
    assert found.keys() == tensors().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors().items())


def test_the_newest_two_stay_and_a_return_to_an_older_one_forgets_the_later(
    own: TenantBlobs, checkpoints: BlobCheckpoints
) -> None:
    assert find_checkpoint(checkpoints, None, no_progress) is None
    for step in (9, 10, 11):
        checkpoints.save(step, b"")
    assert checkpoints.steps() == [10, 11]
    checkpoints.drop_after(10)
    assert checkpoints.steps() == [10]
    BlobCheckpoints(own, "1", "other").save(1, b"")
    forget_checkpoints(own, "1")
    assert list(own.list_keys()) == []


def tensors():
    import torch

    return {"weight/a": torch.arange(6.0).reshape(2, 3), "random_state": torch.arange(4, dtype=torch.uint8)}


@pytest.fixture
def own() -> TenantBlobs:
    return TenantBlobs(MemoryBlobs(), "1")


@pytest.fixture
def checkpoints(own: TenantBlobs) -> BlobCheckpoints:
    return BlobCheckpoints(own, "1", "recipe")
