"""A training as it stands between two steps: kept, found again, and gone when the adapter is there.

Belongs here: what a checkpoint holds and its one file (safetensors, the state as JSON in its header); which one to go on from.
Does not belong here: making the state and putting it back into model and optimizer (`train.py`).

One object a checkpoint, because a store writes one object whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lpm_kernel.artefacts import decode_record, encode_record
from lpm_kernel.errors import StoreError, TrainingError
from lpm_kernel.L2.records import CurvePoint
from lpm_kernel.layout import checkpoint_key, checkpoint_prefix
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.compute import Progress

if TYPE_CHECKING:
    import torch

KEPT = 2
"""The newest, and the one before it should the newest be damaged."""

STATE_KEY = "twin.training.state"


@dataclass(frozen=True, slots=True)
class TrainState:
    """Where a training stands. The order of the rows follows from seed and step, and so does the learning rate."""

    step: int
    pass_tokens: int
    """Halved once when memory ran out."""
    loss_curve: tuple[float, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    epoch_loss: float = 0.0
    epoch_answer_tokens: int = 0
    report_loss: float = 0.0
    report_answer_tokens: int = 0
    best_step: int | None = None
    best_eval_loss: float | None = None
    evals_without_gain: int = 0
    tokens: int = 0
    seconds: float = 0.0


class Checkpoints(Protocol):
    """Where the checkpoints of one training lie."""

    def steps(self) -> list[int]:
        """Ascending."""
        ...

    def load(self, step: int) -> bytes: ...

    def save(self, step: int, data: bytes) -> None:
        """Whole or not at all; of the older ones only the newest stays."""
        ...

    def drop_after(self, step: int) -> None:
        """Forget those of later steps: a training that goes on from here makes them anew."""
        ...


class BlobCheckpoints:
    """Under the user's prefix and the recipe: another recipe never finds them."""

    def __init__(self, own: TenantBlobs, user_id: str, recipe: str) -> None:
        self._own, self._user_id, self._recipe = own, user_id, recipe

    def steps(self) -> list[int]:
        keys = self._own.list_keys(checkpoint_prefix(self._user_id, self._recipe))
        return sorted(int(key.rpartition("/")[2].removesuffix(".safetensors")) for key in keys)

    def load(self, step: int) -> bytes:
        return self._own.get(checkpoint_key(self._user_id, self._recipe, step))

    def save(self, step: int, data: bytes) -> None:
        self._own.put(checkpoint_key(self._user_id, self._recipe, step), data)
        for old in self.steps()[:-KEPT]:
            self._own.delete(checkpoint_key(self._user_id, self._recipe, old))

    def drop_after(self, step: int) -> None:
        for later in self.steps():
            if later > step:
                self._own.delete(checkpoint_key(self._user_id, self._recipe, later))


def forget_checkpoints(own: TenantBlobs, user_id: str) -> None:
    """Of every recipe: a training of rows that changed meanwhile is never gone on with, and what it learned must not stay."""
    for key in list(own.list_keys(checkpoint_prefix(user_id))):
        own.delete(key)


def encode_checkpoint(state: TrainState, tensors: Mapping[str, torch.Tensor]) -> bytes:
    from safetensors.torch import save

    return save(dict(tensors), metadata={STATE_KEY: encode_record(state).decode()})


def decode_checkpoint(data: bytes) -> tuple[TrainState, dict[str, torch.Tensor]]:
    """Raises: TrainingError `checkpoint_unreadable`."""
    import json

    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        state = decode_record(header["__metadata__"][STATE_KEY].encode(), TrainState)
    except (SafetensorError, ValueError, KeyError, StoreError) as error:
        raise TrainingError("checkpoint_unreadable", f"a checkpoint of {len(data)} bytes cannot be read: {error}") from error
    return state, tensors


def find_checkpoint(
    checkpoints: Checkpoints, wanted: int | None, progress: Progress
) -> tuple[TrainState, dict[str, torch.Tensor]] | None:
    """The one to go on from: of the step that is wanted, else the newest that can be read; None where there is none.

    Raises: TrainingError `checkpoint_missing`, `checkpoint_unreadable` (of the wanted one); StoreError.
    """
    steps = checkpoints.steps()
    if wanted is not None:
        if wanted not in steps:
            raise no_checkpoint(wanted, steps)
        return decode_checkpoint(checkpoints.load(wanted))
    for step in reversed(steps):
        try:
            return decode_checkpoint(checkpoints.load(step))
        except TrainingError as error:
            progress(0.0, f"the checkpoint of step {step} is damaged and passed over ({error.code})")
    return None


def no_checkpoint(wanted: int, steps: list[int]) -> TrainingError:
    there = f"there are {', '.join(map(str, steps))}" if steps else "there is none: it has not begun, or is done"
    return TrainingError(
        "checkpoint_missing", f"no checkpoint at step {wanted} of the training with these rows and settings; {there}"
    )
