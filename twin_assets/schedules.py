"""Schedules: what the clock brings.

Belongs here: a schedule, and the small job it runs.
Does not belong here: what happens in the outside (`sensors.py`) and what a change carries on (`automation.py`).
"""

from datetime import UTC, datetime

import dagster as dg

from lpm_kernel.errors import TwinError
from lpm_kernel.L0.staging import sweep_every_staging
from lpm_kernel.recall.retention import purge_users
from lpm_kernel.recall.session_summaries import due_sessions, summarise_users
from lpm_kernel.settings import Settings
from lpm_kernel.stores.open import Stores
from twin_assets.automation import schedule_status
from twin_assets.failures import dagster_failures
from twin_assets.partitions import users
from twin_assets.purge_day import check_clock
from twin_assets.resources import StoresResource
from twin_assets.sensors import UNFINISHED

NIGHTLY = "15 3 * * *"
"""In UTC, as the days on which memories expire."""
EACH_QUARTER = "*/15 * * * *"


@dg.op
def purge_memories(context: dg.OpExecutionContext, stores: StoresResource) -> None:
    """Memories that were to be recalled until yesterday are removed for good, user by user, each under a lock of its own and in
    batches, so that no chat waits for a whole purge. The run fails at its end when a user's could not be purged, and before
    any goes where the clock is not to be trusted (`purge_day.py`)."""
    with dagster_failures(context.retry_number, stores.stores.settings.retries):
        today = check_clock(stores.stores.tables, context.instance, context.run)
    user_ids = sorted(context.instance.get_dynamic_partitions(users.name or ""))
    report = purge_users(stores.stores.memories, user_ids, today, context.log.info)
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


@dg.op
def sweep_uploads(context: dg.OpExecutionContext, stores: StoresResource) -> None:
    """Uploads that nobody finished are removed. Apart from the memories: neither is held up where the other cannot be done."""
    context.add_output_metadata({"users_with_staged_uploads": sweep_every_staging(stores.stores)})


@dg.job
def purge_memories_job() -> None:
    """Removes expired memories and unfinished uploads of every user for good. Run it by hand where a night is too long."""
    purge_memories()
    sweep_uploads()


def build_nightly_purge(settings: Settings) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name="nightly_purge",
        job=purge_memories_job,
        cron_schedule=NIGHTLY,
        execution_timezone="UTC",
        default_status=schedule_status(settings, "nightly_purge"),
    )


@dg.op
def summarise_sessions(context: dg.OpExecutionContext, stores: StoresResource) -> None:
    """Every session that rests, or has grown long, becomes one memory of its person, in place of the summary before it. The run
    fails at its end when a user's could not be summed up."""
    user_ids = sorted(context.instance.get_dynamic_partitions(users.name or ""))
    report = summarise_users(stores.stores, user_ids, datetime.now(UTC), context.log.info)
    context.add_output_metadata(
        {
            "users": len(user_ids),
            "sessions_summed": sum(report.summed.values()),
            "sessions_without_a_word_worth_it": sum(report.empty.values()),
            "users_failed": len(report.failed),
        }
    )
    if report.failed:
        raise dg.Failure(
            f"sessions of {len(report.failed)} of {len(user_ids)} users were not summed up; the next run tries again",
            metadata={"failed": dg.MetadataValue.json(report.failed)},
            allow_retries=False,
        )


@dg.job
def session_summaries_job() -> None:
    """Sums up the sessions that are due, of every user. Run it by hand where a quarter of an hour is too long."""
    summarise_sessions()


def build_session_summaries(settings: Settings) -> dg.ScheduleDefinition:
    @dg.schedule(
        name="session_summaries",
        job=session_summaries_job,
        cron_schedule=EACH_QUARTER,
        execution_timezone="UTC",
        default_status=schedule_status(settings, "session_summaries"),
    )
    def session_summaries(context: dg.ScheduleEvaluationContext, stores: StoresResource) -> dg.RunRequest | dg.SkipReason:
        """Talk that came to rest. Why here and not in the API: a session rests when nobody is there, the daemon is, and one
        process does it however many serve. A store that cannot be read is a skip, never "nothing rests"; so is a quarter whose
        predecessor is still at it."""
        return ask_for_summaries(stores.stores, context.instance, datetime.now(UTC))

    return session_summaries


def ask_for_summaries(stores: Stores, instance: dg.DagsterInstance, now: datetime) -> dg.RunRequest | dg.SkipReason:
    """A run as soon as one session of anybody is due, and none beside another, which would sum up the same sessions."""
    unfinished = dg.RunsFilter(job_name=session_summaries_job.name, statuses=UNFINISHED)
    if before := instance.get_runs(unfinished, limit=1):
        return dg.SkipReason(f"run {before[0].run_id[:8]} is still summing up")
    user_ids = instance.get_dynamic_partitions(users.name or "")
    try:
        if any(due_sessions(stores, user_id, now) for user_id in user_ids):
            return dg.RunRequest()
    except TwinError as error:
        return dg.SkipReason(f"the sessions cannot be read: {error}")
    return dg.SkipReason(f"no session of {len(user_ids)} users is due")
