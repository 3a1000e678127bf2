"""Alerts of runs that failed: the sensor that hears of them.

Belongs here: which alerts a failed run is.
Does not belong here: telling them (`lpm_kernel/alerts.py`), and what is kept of a failure (`dead_letters.py`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from lpm_kernel.alerts import Alert, open_alerts
from lpm_kernel.errors import StoreError
from lpm_kernel.settings import Settings
from lpm_kernel.stores.addresses import connection_environment
from lpm_kernel.stores.once import Once
from twin_assets.automation import sensor_status
from twin_assets.dead_letters import UNFORESEEN
from twin_assets.failures import NotHeardYet
from twin_assets.partitions import PARTITION_TAG
from twin_assets.resources import StoresResource

RUN_LOST = "run_lost"
TOLD_FOR = timedelta(days=1)
"""How old a run may be whose alert nobody took, for it to be told once more: then its dead letter has to do."""


@dataclass(frozen=True, slots=True)
class FailedStep:
    """A step that failed for good, with what its error said of itself."""

    stage: str
    category: str
    code: str


def alerts_of(steps: Sequence[FailedStep], user_id: str, job: str, run_id: str, at: datetime) -> list[Alert]:
    """One for each step that failed; where none did the process of the run is gone."""
    found = steps or [FailedStep(job, UNFORESEEN, RUN_LOST)]
    return [Alert("run_failed", user_id, step.stage, step.category, step.code, at, run_id) for step in found]


def failed_step(event: dg.DagsterEvent) -> FailedStep:
    """Its error's own metadata; of one that nobody foresaw the type, never the words."""
    failure = event.step_failure_data
    told = failure.user_failure_data.metadata if failure.user_failure_data else {}
    kind = (failure.error.cause or failure.error).cls_name if failure.error else None
    category = str(told["category"].value) if "category" in told else UNFORESEEN
    code = str(told["code"].value) if "code" in told else kind or "failed"
    return FailedStep(str(event.step_key), category, code)


def build_failure_alerts(settings: Settings) -> dg.SensorDefinition:
    said: list[Once] = []

    @dg.run_failure_sensor(
        name="failure_alerts",
        minimum_interval_seconds=settings.automation.catch_up_sensor_interval_s,
        default_status=sensor_status(settings, "failure_alerts"),
    )
    def failure_alerts(context: dg.RunFailureSensorContext, stores: StoresResource) -> None:
        """Runs that failed: a line in the log and a signed message to `ALERT_WEBHOOK_URL`, one an hour for the same stage, code
        and user. What nobody took is told again each minute, for a day; the failures behind it wait."""
        run = context.dagster_run
        if not said:  # one for the life of the code server: without Redis it is all that remembers
            said.append(Once(connection_environment().get(settings.stores.redis_url)))
        alerts = open_alerts(settings, breakers=stores.stores.breakers, once=said[0])
        steps = [failed_step(event) for event in context.get_step_failure_events()]
        of_run = alerts_of(steps, run.tags.get(PARTITION_TAG, ""), run.job_name, run.run_id, datetime.now(UTC))
        record = context.instance.get_run_record_by_id(run.run_id)
        ended = record and (record.end_time or record.create_timestamp.timestamp())
        old = ended is None or time.time() - ended > TOLD_FOR.total_seconds()
        untold: list[StoreError] = []
        for alert in of_run:
            try:
                alerts.deliver(alert)
            except StoreError as error:
                context.log.warning(f"the alert of run {run.run_id[:8]}, {alert.stage}, was not delivered: {error}")
                untold.append(error)
        if not old and any(error.retryable for error in untold):
            raise NotHeardYet(f"{len(untold)} alerts of run {run.run_id[:8]} were not delivered: {untold[0]}")

    return failure_alerts
