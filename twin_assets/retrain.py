"""`twin train`: one person's adapter trained again on request.

Belongs here: what is looked at before the run is launched, so that a wrong step is named at once.
Does not belong here: the run itself (`backfill.py` launches it) and training (`lpm_kernel/L2`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lpm_kernel.artefacts import decode_records, read_artefact
from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.base_model import BaseModel, prepare_base
from lpm_kernel.L2.engine import cache_folder
from lpm_kernel.L2.records import TrainingRow
from lpm_kernel.L2.stages import checkpoint_steps
from lpm_kernel.L2.train_checkpoint import no_checkpoint
from lpm_kernel.settings import Settings
from lpm_kernel.stores.blobs import Blobs
from lpm_kernel.stores.open import open_stores
from lpm_kernel.stores.users import get_user
from twin_assets.backfill import run_backfill
from twin_assets.training_runs import FRESH_TAG, RESUME_TAG, train_request


def run_training_job(
    settings: Settings,
    home: Path,
    user_id: str,
    say: Callable[[str], None],
    *,
    resume_from_step: int | None = None,
    fresh: bool = False,
) -> bool:
    """Launch `training_job` for this user and wait; True when it succeeded.

    Raises: UserInputError `twin_not_found`; TrainingError `no_training_rows`, `checkpoint_missing`; what `run_backfill` raises.
    """
    if resume_from_step is not None:
        stores = open_stores(settings)
        try:
            with stores.tables.transaction(user_id) as connection:
                get_user(connection, user_id)
            base = prepare_base(settings.models, cache_folder(), lambda share, words: None)
            check_step(settings, stores.blobs, base, user_id, resume_from_step)
        finally:
            stores.close()
    tags = {FRESH_TAG: "true"} if fresh else {}
    if resume_from_step is not None:
        tags[RESUME_TAG] = str(resume_from_step)
    return run_backfill(settings, home, user_id, say, job="training_job", tags=tags)


def check_step(settings: Settings, blobs: Blobs, base: BaseModel, user_id: str, step: int) -> None:
    """Raises: TrainingError `no_training_rows`, `checkpoint_missing` with the steps there are."""
    rows = read_artefact(blobs, user_id, "training_rows", "jsonl", lambda data: decode_records(data, TrainingRow))
    if rows is None:
        raise TrainingError(
            "no_training_rows", f"user {user_id} has no training rows yet: `twin backfill {user_id}` makes them"
        )
    steps = checkpoint_steps(train_request(user_id, rows, settings, blobs), blobs, base)
    if step not in steps:
        raise no_checkpoint(step, steps)
