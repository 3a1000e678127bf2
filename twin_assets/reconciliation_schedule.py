"""When stores are compared: once an hour, and never twice at once.

Belongs here: the schedule, its job, and the decision whether to ask for a run.
Does not belong here: what a run does (`assets/reconciliation.py`).
"""

import dagster as dg

from lpm_kernel.settings import Settings
from twin_assets.automation import schedule_status
from twin_assets.sensors import UNFINISHED

HOURLY = "52 * * * *"
"""Away from the times at which others begin."""

reconciliation_job = dg.define_asset_job(
    "reconciliation_job",
    selection=dg.AssetSelection.groups("consistency"),
    description="Compares every store with the tables, user by user, and repairs what can be explained.",
)


def build_reconciliation_schedule(settings: Settings) -> dg.ScheduleDefinition:
    @dg.schedule(
        name="reconciliation",
        job=reconciliation_job,
        cron_schedule=HOURLY,
        execution_timezone="UTC",
        default_status=schedule_status(settings, "reconciliation"),
    )
    def reconciliation(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        """Each hour every store is compared with the tables. An hour whose predecessor is still at it is left out."""
        return ask_for_comparison(context.instance)

    return reconciliation


def ask_for_comparison(instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    before = instance.get_runs(dg.RunsFilter(job_name=reconciliation_job.name, statuses=UNFINISHED), limit=1)
    return dg.SkipReason(f"run {before[0].run_id[:8]} is still comparing") if before else dg.RunRequest()
