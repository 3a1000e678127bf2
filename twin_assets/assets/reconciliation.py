"""Reconciliation: every store compared with the tables, once an hour.

Belongs here: the asset, its check, its figures for the UI, and when a user is left alone.
Does not belong here: comparing and repairing (`lpm_kernel/reconcile`), and the clock (`reconciliation_schedule.py`).

One asset without partitions, whose run goes from user to user: its figures are those of all stores together, and a user whose
store is away must keep nobody else from being looked at.
"""

from collections.abc import Iterator
from functools import partial

import dagster as dg

from lpm_kernel.artefacts import encode_record
from lpm_kernel.L2.engine import adapter_folder
from lpm_kernel.reconcile.findings import out_of_step
from lpm_kernel.reconcile.report import COLUMNS, as_markdown, figures, row_of
from lpm_kernel.reconcile.run import reconcile_all
from lpm_kernel.records import sha256_hex
from twin_assets.failures import dagster_failures
from twin_assets.partitions import PARTITION_TAG
from twin_assets.purge_day import purged_on
from twin_assets.resources import StoresResource
from twin_assets.sensors import UNFINISHED
from twin_assets.tables import table

CHECK = "every_store_agrees"
SHOWN = 200


def run_under_way(instance: dg.DagsterInstance, user_id: str) -> str | None:
    """Which run of the user's own is queued or under way: it is about to change what would be compared."""
    runs = instance.get_runs(dg.RunsFilter(tags={PARTITION_TAG: user_id}, statuses=UNFINISHED), limit=1)
    return f"run {runs[0].run_id[:8]} of {runs[0].job_name} is under way" if runs else None


@dg.asset(
    group_name="consistency",
    code_version="1",
    kinds={"postgres", "s3"},
    owners=["team:twin"],
    io_manager_key="json",
    check_specs=[
        dg.AssetCheckSpec(
            CHECK, asset="reconciliation", description="Nothing is out of step that was not repaired or explained."
        )
    ],
)
def reconciliation(context: dg.AssetExecutionContext, stores: StoresResource) -> Iterator[object]:
    """How far blobs, vectors, memories and the graph agree with the tables, user by user: counts and content hashes compared,
    what can be explained repaired from the truth, what cannot be left alone and told. A user with a run under way is skipped.
    The report is written whatever was found; then the run fails where something is out of step that nobody could repair. No
    item of it is a word of anybody: they are keys, ids and hashes. Read by whoever looks after this installation."""
    port = stores.stores
    with dagster_failures(context.retry_number, port.settings.retries):
        busy, day = partial(run_under_way, context.instance), purged_on(context.instance)
        report = reconcile_all(port, adapter_folder(), busy, context.log.info, purged_on=day)
    told = figures(report)
    yield dg.Output(
        report,
        metadata={
            **told,
            "report": dg.MetadataValue.md(as_markdown(report)),
            "rows": table(COLUMNS, [row_of(finding) for finding in report.findings[:SHOWN]]),
            "skipped": dg.MetadataValue.json({user.user_id: user.skipped for user in report.users if user.skipped}),
            "held": dg.MetadataValue.json({user.user_id: user.counts for user in report.users[:SHOWN]}),
        },
        data_version=dg.DataVersion(sha256_hex(encode_record(report.findings))),
    )
    error = out_of_step(report.findings)
    yield dg.AssetCheckResult(
        check_name=CHECK,
        passed=error is None,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"reported": told["reported"], "repaired": told["repaired"], "stores_away": told["stores_away"]},
    )
    with dagster_failures(context.retry_number, port.settings.retries):
        if error is not None:
            raise error
