"""Runs that a hard kill leaves behind, on the real instance in PostgreSQL, with a stage of the real pool in a real process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.events import EngineEventData
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from tests.embedded.fixtures import EngineHome
from tests.twin_assets.conftest import Workshop
from twin_assets import dead_runs
from twin_assets.dead_runs import end_dead_runs
from twin_assets.home import bring_up
from twin_assets.instance import POOLS

pytestmark = pytest.mark.slow

STAGE = """
import sys, time
import dagster as dg

@dg.asset(pool="training")
def slow_stage():
    print("begun", flush=True)
    time.sleep(float(sys.argv[1]))

job = dg.Definitions(assets=[slow_stage], jobs=[dg.define_asset_job("slow_job", "*")]).resolve_job_def("slow_job")
if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        print("succeeded" if job.execute_in_process(instance=instance).success else "failed", flush=True)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "slow_stage.py"
    path.write_text(STAGE)
    return path


@contextlib.contextmanager
def run_in_a_process(script: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """A run in a process of its own, which is in its stage when the block begins; whatever is left of it is killed."""
    command = [sys.executable, str(script), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def queued(workshop: Workshop, script: Path) -> Iterator[str]:
    """The id of a queued run that needs the same pool; no daemon runs here that could start it."""
    names: dict[str, object] = {"__name__": "slow_stage"}
    exec(compile(script.read_text(), str(script), "exec"), names)
    job = names["job"]
    assert isinstance(job, dg.JobDefinition)
    location = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1, location_name="nobody")
    run = workshop.instance.create_run_for_job(
        job,
        status=dg.DagsterRunStatus.QUEUED,
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(location, "nothing"), "slow_job"),
        job_code_origin=JobPythonOrigin(
            "slow_job", RepositoryPythonOrigin(sys.executable, ModuleCodePointer("nothing", "defs"))
        ),
    )
    try:
        yield run.run_id
    finally:
        for left in workshop.instance.get_runs(dg.RunsFilter(job_name="slow_job")):
            workshop.instance.delete_run(left.run_id)


def newest(workshop: Workshop) -> dg.DagsterRun:
    """The newest run of the slow job that is not the queued one."""
    started = [status for status in dg.DagsterRunStatus if status is not dg.DagsterRunStatus.QUEUED]
    return workshop.instance.get_runs(dg.RunsFilter(job_name="slow_job", statuses=started), limit=1)[0]


def let_pass(workshop: Workshop) -> list[str]:
    """The runs that Dagster's queue would start now, by its own rules."""
    instance = workshop.instance
    assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
    queue = QueuedRunCoordinatorDaemon(interval_seconds=1)
    runs = queue._get_runs_to_dequeue(instance, instance.get_concurrency_config(), fixed_iteration_time=None)
    return [run.run_id for run in runs]


def start(engine_home: EngineHome, workshop: Workshop) -> list[str]:
    said: list[str] = []
    bring_up(engine_home.path, workshop.settings, services=False, say=said.append)
    return [line for line in said if "killed" in line]


def test_a_run_killed_in_a_stage_is_reported_at_the_next_start_and_its_pool_goes_on(
    engine_home: EngineHome, workshop: Workshop, script: Path, queued: str
) -> None:
    """One `kill -9` during training blocked training for good: the run stayed STARTED, its slot was freed by nobody, and the
    next run of the pool waited for it for ever on a spinning core."""
    with run_in_a_process(script, 600) as process:
        dead = newest(workshop)
        assert dead.status is dg.DagsterRunStatus.STARTED
        assert start(engine_home, workshop) == [], "its process lives"
        assert let_pass(workshop) == [], "the pool is taken"
        process.kill()
        process.wait()
    assert newest(workshop).status is dg.DagsterRunStatus.STARTED, "nobody has noticed"
    assert let_pass(workshop) == []

    (line,) = start(engine_home, workshop)
    assert dead.run_id[:8] in line
    assert newest(workshop).status is dg.DagsterRunStatus.FAILURE
    assert let_pass(workshop) == [queued], "a queued run stays queued, and is next"
    assert start(engine_home, workshop) == []
    with run_in_a_process(script, 0) as process:
        assert process.communicate(timeout=60)[0] == "succeeded\n"


def test_a_slot_that_a_dead_run_held_before_pools_were_held_by_runs_is_freed(
    workshop: Workshop, script: Path, queued: str
) -> None:
    """A home that was made when each stage took its own slot may still have one that nobody will ever free."""
    storage = workshop.instance.event_log_storage
    with run_in_a_process(script, 600):
        run = newest(workshop)
        assert storage.claim_concurrency_slot(POOLS[0], run.run_id, "slow_stage").is_claimed
        end_dead_runs(workshop.instance, daemon_lives=False)
        assert storage.get_concurrency_info(POOLS[0]).active_run_ids == {run.run_id}, "its process lives"
    end_dead_runs(workshop.instance, daemon_lives=False)
    assert storage.get_concurrency_info(POOLS[0]).active_run_ids == set()


def test_a_run_that_a_living_daemon_is_starting_is_left_to_it(
    workshop: Workshop, queued: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = workshop.instance
    instance.report_dagster_event(
        dg.DagsterEvent(event_type_value=dg.DagsterEventType.PIPELINE_STARTING.value, job_name="slow_job"), run_id=queued
    )
    assert end_dead_runs(instance, daemon_lives=True) == []
    assert end_dead_runs(instance, daemon_lives=False) == [], "a demo's own process may be about to write itself down"
    monkeypatch.setattr(dead_runs, "YOUNG_S", 0.0)
    assert end_dead_runs(instance, daemon_lives=False) == [queued]


def test_a_run_that_was_being_cancelled_counts_as_cancelled(workshop: Workshop, script: Path, queued: str) -> None:
    """As a failure without a failed stage it would be run again, against the wish of the person who cancelled it."""
    with run_in_a_process(script, 600):
        run = newest(workshop)
        workshop.instance.report_run_canceling(run)
    assert end_dead_runs(workshop.instance, daemon_lives=False) == [run.run_id]
    assert newest(workshop).status is dg.DagsterRunStatus.CANCELED


@pytest.mark.parametrize(("noted_s_ago", "dead"), [(0.0, False), (1e9, True)])
def test_a_process_that_only_inherited_the_number_is_not_taken_for_the_run(
    workshop: Workshop, queued: str, noted_s_ago: float, dead: bool
) -> None:
    """After a restart the number of a dead run's process may be anybody's: here it is this test's own."""
    instance = workshop.instance
    started = dg.DagsterEvent(event_type_value=dg.DagsterEventType.PIPELINE_START.value, job_name="slow_job")
    note = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.ENGINE_EVENT.value,
        job_name="slow_job",
        event_specific_data=EngineEventData.in_process(os.getpid()),
    )
    instance.report_dagster_event(started, run_id=queued)
    instance.report_dagster_event(note, run_id=queued, timestamp=time.time() - noted_s_ago)
    assert end_dead_runs(instance, daemon_lives=True) == ([queued] if dead else [])


def test_a_sensor_ends_what_died_with_the_daemon_that_the_supervisor_has_started_anew(workshop: Workshop, script: Path) -> None:
    """Only `twin up` looked: a run whose process and code server were killed together held its place until somebody gave it."""
    sensor = dead_runs.build_dead_runs_sensor(workshop.settings)
    with run_in_a_process(script, 600) as process:
        run = newest(workshop)
        with dg.build_sensor_context(instance=workshop.instance) as context:
            assert "living process" in str(sensor(context))
            process.kill()
            process.wait()
            assert run.run_id in str(sensor(context))
    assert newest(workshop).status is dg.DagsterRunStatus.FAILURE


def test_the_pools_have_their_limit_before_the_first_run_is_queued(workshop: Workshop, engine_home: EngineHome) -> None:
    """The queue gave a new pool its limit only after it had let the first runs pass: two of them, on a new home, trained at
    the same time."""
    start(engine_home, workshop)
    limits = {limit.name: limit.limit for limit in workshop.instance.event_log_storage.get_pool_limits()}
    assert limits == dict.fromkeys(POOLS, 1)
