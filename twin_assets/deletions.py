"""Users who were deleted: finishing what broke off, and what Dagster itself remembers of them.

Belongs here: the sensor, the pure decision under it, and settling one deletion.
Does not belong here: emptying the stores (`lpm_kernel/erase.py`).

Dagster keeps a partition a user and, with each run, samples of what the stages made: a person's words. A run's record and its
events go with the user; one that is still under way ends by itself, since its user is unknown, and goes at a later tick.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from lpm_kernel.erase import delete_user, sweep_after_deletion
from lpm_kernel.errors import TwinError
from lpm_kernel.L2.engine import adapter_folder
from lpm_kernel.settings import Settings
from lpm_kernel.stores.deletions import UserDeletion, drop_deletion, list_deletions
from lpm_kernel.stores.open import Stores
from twin_assets.automation import sensor_status
from twin_assets.partitions import PARTITION_TAG, users
from twin_assets.resources import StoresResource

_LOG = logging.getLogger(__name__)
BROKE_OFF_AFTER = timedelta(minutes=2)
"""Nobody waits so long for an answer: whoever began that deletion has gone."""
NO_MORE_AFTER_S = 30.0
"""No deletion is begun so long after a tick began: a sensor that takes a minute is stopped, and its cursor is lost."""
RUNS_AT_ONCE = 500


def decide_deletions(deletions: Sequence[UserDeletion], now: datetime, after: str = "") -> list[UserDeletion]:
    """Those to go on with or to settle, in the order of their user ids from the one behind `after` on and round: some that fail
    each time keep no other waiting. One that began a moment ago is perhaps being done by whoever was asked."""
    in_turn = sorted(deletions, key=lambda item: (item.user_id <= after, item.user_id))
    return [item for item in in_turn if item.done_at is not None or now - item.begun_at >= BROKE_OFF_AFTER]


def settle_deletion(instance: dg.DagsterInstance, stores: Stores, deletion: UserDeletion, adapters: Path) -> bool:
    """Forget the runs and the partition of somebody who is gone, and what such a run may have left in the stores; False while a
    run of theirs is under way. Of an id that is in use again the partition stays, and the runs since. Idempotent."""
    assert deletion.done_at is not None
    user_id, over = deletion.user_id, True
    before = dg.RunsFilter(tags={PARTITION_TAG: user_id}, created_before=deletion.done_at)
    for record in instance.get_run_records(before, limit=RUNS_AT_ONCE):
        if record.dagster_run.is_finished:
            instance.delete_run(record.dagster_run.run_id)
        else:
            over = False
    if not over or instance.get_runs_count(before):
        return False
    if sweep_after_deletion(stores, user_id, adapters):
        instance.delete_dynamic_partition(users.name or "", user_id)
    with stores.tables.transaction(user_id) as connection:
        drop_deletion(connection, user_id, deletion.done_at)
    return True


def build_deletions_sensor(settings: Settings, adapters: Callable[[], Path] = adapter_folder) -> dg.SensorDefinition:
    @dg.sensor(
        name="deletions_sensor",
        minimum_interval_seconds=settings.automation.users_sensor_interval_s,
        default_status=sensor_status(settings, "deletions_sensor"),
    )
    def deletions_sensor(context: dg.SensorEvaluationContext, stores: StoresResource) -> dg.SkipReason:
        """Deletions of users: one that broke off is gone on with; of one that is done the runs and the partition go as well."""
        try:
            with stores.stores.tables.operator_transaction() as connection:
                due = decide_deletions(list_deletions(connection), datetime.now(UTC), context.cursor or "")
        except TwinError as error:
            return dg.SkipReason(f"the table of deletions cannot be read: {error}")
        told, began = list[str](), time.monotonic()
        for item in due:
            if time.monotonic() - began > NO_MORE_AFTER_S:
                told.append(f"{len(due) - len(told)} wait for the next tick")
                break
            if item.done_at is None:
                told.append(_try(lambda item=item: delete_user(stores.stores, item.user_id, adapters()), "gone on with"))
            else:
                told.append(
                    _try(lambda item=item: settle_deletion(context.instance, stores.stores, item, adapters()), "settled")
                )
            context.update_cursor(item.user_id)
        return dg.SkipReason("; ".join(told) or "nobody is being deleted")

    return deletions_sensor


def _try(step: Callable[[], object], done: str) -> str:
    """One that fails keeps no other waiting; the next tick tries it again."""
    try:
        return done if step() is not False else "a run is still under way"
    except TwinError as error:
        return str(error)
    except Exception as error:  # such as one of Dagster's own
        _LOG.error("a deletion is tried again at the next tick", exc_info=error)
        return f"failed with {type(error).__name__}; the log says where"
