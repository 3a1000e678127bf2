"""Runs whose process is gone: what a hard kill leaves behind in Dagster's tables.

Belongs here: finding them, and reporting them as ended, so that nothing waits for them any longer.
Does not belong here: runs whose process lives, and queued runs, which have none yet.

Why: a run's own process reports its end, and for a run of the daemon the code server does when that process dies. A kill that
takes both, or an in-process run such as the demo's, leaves a run that is `STARTED` for ever: it keeps its place among the
concurrent runs and in its pools, and automation takes the stages of that user to be in progress. `twin up` looks for them, and
a sensor each minute: the supervisor starts a killed daemon anew without any command.
"""

from __future__ import annotations

import time

import dagster as dg
import psutil

from lpm_kernel.embedded.orphans import is_alive
from lpm_kernel.settings import Settings
from twin_assets.automation import sensor_status
from twin_assets.jobs import twin_job

ACTIVE = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
MESSAGE = "The process of this run is gone: it was killed, or the machine went down."
CLOCK_SLACK_S = 60.0
"""A clock that was set forward makes a process look younger than what it wrote down."""

LOOK_EACH_S = 60
YOUNG_S = 60.0
"""A run is marked as started a moment before its process writes itself down."""


def end_dead_runs(instance: dg.DagsterInstance, *, daemon_lives: bool) -> list[str]:
    """Report every run as ended whose process is gone, and free the pool slots of all ended runs. Returns those runs' ids.

    A run without a process so far is dead when no daemon lives that could be starting it. One that was being cancelled counts
    as cancelled: as a failure it would be run again.
    Idempotent.
    """
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=ACTIVE)):
        lives = _process_lives(instance, run.run_id)
        if lives or (lives is None and (daemon_lives or _is_young(instance, run.run_id))):
            continue
        # it may have come to its end between the two looks
        current = instance.get_run_by_id(run.run_id)
        if current is None or current.is_finished:
            continue
        if current.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(current, MESSAGE)
        else:
            instance.report_run_failed(current, MESSAGE)
        ended.append(run.run_id)
    _free_slots(instance)
    return ended


def build_dead_runs_sensor(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="dead_runs",
        minimum_interval_seconds=LOOK_EACH_S,
        default_status=sensor_status(settings, "dead_runs"),
        job=twin_job,  # it asks for no run; Dagster wants to know of which job one would be
    )
    def dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        """Runs whose process was killed together with the one that watches it end here, and are then run again like any
        that crashed."""
        ended = end_dead_runs(context.instance, daemon_lives=True)
        return dg.SkipReason(f"ended: {', '.join(ended)}" if ended else "every run under way has a living process")

    return dead_runs


def _process_lives(instance: dg.DagsterInstance, run_id: str) -> bool | None:
    """Whether a process that wrote itself down for this run still lives; None when none has."""
    lives = None
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        noted = event.engine_event_data.metadata.get("pid") if event else None
        if noted is None:
            continue
        lives = False
        try:
            process = psutil.Process(int(str(noted.value)))
            # a process that is younger than the note has only inherited the number
            if is_alive(process) and process.create_time() <= entry.timestamp + CLOCK_SLACK_S:
                return True
        except (psutil.NoSuchProcess, ValueError):
            continue
    return lives


def _is_young(instance: dg.DagsterInstance, run_id: str) -> bool:
    record = instance.get_run_record_by_id(run_id)
    return record is not None and time.time() - record.create_timestamp.timestamp() < YOUNG_S


def _free_slots(instance: dg.DagsterInstance) -> None:
    storage = instance.event_log_storage
    for run_id in storage.get_concurrency_run_ids():
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            storage.free_concurrency_slots_for_run(run_id)
