"""Changes on their way to the stores, seen from Dagster: how far behind these are, and a run where nobody else catches up.

Belongs here: the job, its schedule, and the pure decision under that.
Does not belong here: the work (`lpm_kernel/sync/worker.py`); where an API runs, its threads do it first.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from lpm_kernel.errors import TwinError
from lpm_kernel.settings import Settings
from lpm_kernel.sync.lag import Backlog, list_backlogs
from lpm_kernel.sync.worker import work_due_changes
from twin_assets.automation import schedule_status
from twin_assets.resources import StoresResource

EACH_FIVE_MINUTES = "*/5 * * * *"
LATE_S = 120.0
"""An API has looked many times by then, and the first try of whoever asked is over."""
AT_MOST_S = 240.0
"""Of one run: the next goes on."""


@dg.op
def work_off_changes(context: dg.OpExecutionContext, stores: StoresResource) -> None:
    """Everybody's changes that are due are brought to vectors, memories, graph and blobs, each queue in order. Its figures tell
    how far each store is behind PostgreSQL afterwards, and what was given up (`twin dead-letters`)."""
    began = time.monotonic()

    def is_late() -> bool:
        return time.monotonic() - began > AT_MOST_S

    tried = work_due_changes(stores.stores, stopped=is_late)
    backlogs = list_backlogs(stores.stores.tables, datetime.now(UTC))
    context.add_output_metadata({"tried": tried, **figures_of(backlogs)})


@dg.job
def changes_job() -> None:
    """Brings changes that wait to their stores, and shows how far these are behind. Run it by hand where no API runs."""
    work_off_changes()


def figures_of(backlogs: Sequence[Backlog]) -> dict[str, float]:
    """Numbers that the UI plots over time."""
    figures: dict[str, float] = {}
    for item in backlogs:
        name = item.target.replace("/", "_")
        figures |= {f"{name}_undone": item.undone, f"{name}_oldest_s": round(item.oldest_s, 1)}
        if "/" not in item.target:
            figures[f"{name}_given_up"] = item.given_up
    return figures


def late_targets(backlogs: Sequence[Backlog]) -> list[str]:
    """Those whose changes nobody has brought in time. What the ledger has yet to tell is told by the DAO's own clock."""
    return [item.target for item in backlogs if "/" not in item.target and item.oldest_s > LATE_S]


def build_changes_schedule(settings: Settings) -> dg.ScheduleDefinition:
    @dg.schedule(
        name="changes",
        job=changes_job,
        cron_schedule=EACH_FIVE_MINUTES,
        execution_timezone="UTC",
        default_status=schedule_status(settings, "changes"),
    )
    def changes(context: dg.ScheduleEvaluationContext, stores: StoresResource) -> dg.RunRequest | dg.SkipReason:
        """Changes that have waited for longer than an API leaves them, as where none runs. An outbox that cannot be read is a
        skip, never "nothing waits"."""
        try:
            backlogs = list_backlogs(stores.stores.tables, datetime.now(UTC))
        except TwinError as error:
            return dg.SkipReason(f"the outbox cannot be read: {error}")
        if late := late_targets(backlogs):
            return dg.RunRequest(tags={"twin/late": ",".join(late)})
        waiting = sum(item.undone for item in backlogs)
        return dg.SkipReason(f"{waiting} changes wait, none of them for longer than {LATE_S:.0f} s")

    return changes
