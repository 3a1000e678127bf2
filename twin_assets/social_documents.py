"""Days and threads that have rested become documents, whether or not Telegram and X answer.

Belongs here: the job, its sensor, and the pure decision under that.
Does not belong here: making them (`lpm_kernel/social/documents.py`), and reading either network (`assets/social.py`).

Why apart from the look at groups: what was taken in of a file, or before a network went away, has no reason to wait for it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from lpm_kernel.errors import TwinError
from lpm_kernel.L2.engine import adapter_folder
from lpm_kernel.settings import Settings
from lpm_kernel.social.documents import make_every_document
from lpm_kernel.social.report import made_figures
from lpm_kernel.stores.social_documents import users_with_due
from twin_assets.automation import sensor_status
from twin_assets.resources import StoresResource
from twin_assets.sensors import UNFINISHED

JOB = "social_documents_job"


@dg.op
def make_due_documents(context: dg.OpExecutionContext, stores: StoresResource) -> None:
    """Everybody's days and threads that have rested, and whatever was withdrawn: what `raw_documents` then takes up like
    uploads. A user who cannot be served is named and keeps nobody else waiting."""
    made, failed = make_every_document(stores.stores, adapter_folder(), datetime.now(UTC))
    left_out = {"users left out": dg.MetadataValue.json(failed), "refused because": dg.MetadataValue.json(made.refused)}
    context.add_output_metadata({**made_figures(made), **left_out})


@dg.job(name=JOB)
def social_documents_job() -> None:
    """Makes documents of what was said on Telegram and X and has rested. It asks neither of them."""
    make_due_documents()


def decide_documents(waiting: Sequence[str], under_way: bool) -> str | None:
    """None where a run is to make documents; else why not."""
    if not waiting:
        return "no day and no thread has rested since it changed"
    return "the run of the last look is not over" if under_way else None


def build_social_documents(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="social_documents",
        job=social_documents_job,
        minimum_interval_seconds=settings.social.poll_interval_s,
        default_status=sensor_status(settings, "social_documents"),
    )
    def social_documents(context: dg.SensorEvaluationContext, stores: StoresResource) -> dg.RunRequest | dg.SkipReason:
        """Days and threads that are due to become documents, each `social.poll_interval_s`. A table that cannot be read is a
        skip, never "nothing is due"."""
        rested = datetime.now(UTC) - timedelta(hours=settings.social.rest_hours)
        try:
            with stores.stores.tables.operator_transaction() as connection:
                waiting = users_with_due(connection, rested)
        except TwinError as error:
            return dg.SkipReason(f"what was said cannot be read: {error}")
        under_way = context.instance.get_runs_count(dg.RunsFilter(job_name=JOB, statuses=UNFINISHED)) > 0
        why_not = decide_documents(waiting, under_way)
        return dg.RunRequest(tags={"twin/users": str(len(waiting))}) if why_not is None else dg.SkipReason(why_not)

    return social_documents
