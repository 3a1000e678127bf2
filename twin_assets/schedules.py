"""Schedules: what the clock brings.

Belongs here: a schedule, and the small job it runs.
Does not belong here: what happens in the outside (`sensors.py`) and what a change carries on (`automation.py`).
"""

from datetime import UTC, datetime

import dagster as dg

from lpm_kernel.recall.retention import purge_users
from twin_assets.partitions import users
from twin_assets.resources import StoresResource

NIGHTLY = "15 3 * * *"
"""In UTC, as the days on which memories expire."""


@dg.op
def purge_memories(context: dg.OpExecutionContext, stores: StoresResource) -> None:
    """Memories that were to be recalled until yesterday are removed for good, user by user, each under a lock of its own and in
    batches, so that no chat waits for a whole purge. The run fails at its end when a user's could not be purged."""
    user_ids = sorted(context.instance.get_dynamic_partitions(users.name or ""))
    report = purge_users(stores.stores.memories, user_ids, datetime.now(UTC).date(), context.log.info)
    context.add_output_metadata(
        {
            "users": len(user_ids),
            "memories_purged": sum(report.purged.values()),
            "users_with_expired_memories": sum(count > 0 for count in report.purged.values()),
            "users_failed": len(report.failed),
        }
    )
    if report.failed:
        raise dg.Failure(
            f"memories of {len(report.failed)} of {len(user_ids)} users were not purged; the next night tries again",
            metadata={"failed": dg.MetadataValue.json(report.failed)},
            allow_retries=False,
        )


@dg.job
def purge_memories_job() -> None:
    """Removes expired memories of every user for good. Run it by hand where a night is too long."""
    purge_memories()


nightly_purge = dg.ScheduleDefinition(
    name="nightly_purge",
    job=purge_memories_job,
    cron_schedule=NIGHTLY,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
