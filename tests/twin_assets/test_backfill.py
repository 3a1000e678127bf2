"""Watching a backfill: its end, its retries, and a daemon that is gone. The real instance, with heartbeats written by hand."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._daemon.types import DaemonHeartbeat

from lpm_kernel.errors import EngineError, UserInputError
from tests.embedded.fixtures import EngineHome
from tests.twin_assets.conftest import Workshop
from twin_assets.backfill import (
    BACKFILL_TAG,
    FAILURE_TAG,
    QUEUE_DAEMON,
    STEP_FAILURE,
    daemon_lives,
    run_backfill,
    runs_under_way,
    watch_backfill,
)
from twin_assets.partitions import PARTITION_TAG

pytestmark = pytest.mark.slow

STATUS = dg.DagsterRunStatus
NUMBERS = itertools.count(1)


@dg.asset
def stage() -> None:
    pass


JOB = dg.Definitions(assets=[stage], jobs=[dg.define_asset_job("watched", "*")]).resolve_job_def("watched")


def nothing(words: str) -> None:
    pass


class Backfill:
    """A backfill of our own making in the instance: its record, its runs, and the daemon's heartbeat."""

    def __init__(self, instance: dg.DagsterInstance, backfill_id: str) -> None:
        self.instance, self.backfill_id = instance, backfill_id
        self.record = PartitionBackfill(backfill_id, BulkActionStatus.REQUESTED, False, {}, time.time())
        instance.add_backfill(self.record)

    def heartbeat(self, age_s: float) -> None:
        self.instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - age_s, QUEUE_DAEMON, "test", None))

    def run(self, user: str, status: dg.DagsterRunStatus, **tags: str) -> dg.DagsterRun:
        marks = {BACKFILL_TAG: self.backfill_id, PARTITION_TAG: user, **tags}
        return self.instance.create_run_for_job(JOB, status=status, tags=marks)

    def end(self, status: BulkActionStatus) -> None:
        self.instance.update_backfill(self.record.with_status(status))

    def watch(self, expected: int, say: Callable[[str], None] = nothing, grace_s: float = 0.3, **more: Any) -> bool:
        return watch_backfill(self.instance, [self.backfill_id], expected, say, poll_s=0.01, grace_s=grace_s, **more)


@pytest.fixture
def backfill(workshop: Workshop) -> Iterator[Backfill]:
    made = Backfill(workshop.instance, f"watched-{next(NUMBERS)}")
    made.heartbeat(0)
    yield made
    made.end(BulkActionStatus.CANCELED)
    made.heartbeat(1e6)
    for run in workshop.instance.get_runs(dg.RunsFilter(job_name="watched")):
        workshop.instance.delete_run(run.run_id)


@pytest.mark.parametrize(("age_s", "lives"), [(1, True), (45, True), (100, False), (1000, False)])
def test_a_daemon_lives_as_long_as_its_heartbeat_is_about_a_minute_old(backfill: Backfill, age_s: float, lives: bool) -> None:
    """Dagster's own tolerance is half an hour: a backfill was launched for a daemon that had ended twenty minutes before."""
    backfill.heartbeat(age_s)
    assert daemon_lives(backfill.instance) is lives


@pytest.mark.parametrize(("last", "passed"), [(STATUS.SUCCESS, True), (STATUS.FAILURE, False), (STATUS.CANCELED, False)])
def test_it_is_over_when_every_users_run_has_ended(backfill: Backfill, last: dg.DagsterRunStatus, passed: bool) -> None:
    backfill.run("1", STATUS.SUCCESS)
    backfill.run("2", last)
    assert backfill.watch(2) is passed


def test_a_daemon_that_ends_while_runs_wait_is_named_with_the_cure(backfill: Backfill) -> None:
    """The daemon was asked for once, at the beginning: when it ended later the command waited for ever."""
    backfill.run("1", STATUS.STARTED)
    backfill.heartbeat(300)
    with pytest.raises(EngineError, match="twin up") as raised:
        backfill.watch(1)
    assert raised.value.code == "daemon_missing"
    assert "1: started" in raised.value.message


def test_a_heartbeat_that_is_late_for_a_moment_ends_nothing(backfill: Backfill) -> None:
    backfill.run("1", STATUS.STARTED)
    backfill.heartbeat(300)
    timer = threading.Timer(0.3, backfill.run, ("1", STATUS.SUCCESS))
    timer.start()
    assert backfill.watch(1, grace_s=60)
    timer.join()


def test_a_crashed_run_is_over_whatever_its_mark_promises(backfill: Backfill) -> None:
    """Dagster refuses to run again what belongs to a backfill that was launched whole, and leaves the run's mark as it was."""
    backfill.run("1", STATUS.FAILURE, **{"dagster/will_retry": "true"})
    assert not backfill.watch(1)


def test_a_crashed_run_is_launched_again_at_once_while_others_still_wait(backfill: Backfill) -> None:
    """It was left until all others had ended and the command was given again: the user had waited for 704 seconds."""
    backfill.run("1", STATUS.FAILURE)
    backfill.run("2", STATUS.NOT_STARTED)
    asked: list[str] = []

    def again(user: str) -> str:
        asked.append(user)
        more = Backfill(backfill.instance, f"{backfill.backfill_id}-again-{len(asked)}")
        more.run(user, STATUS.FAILURE if len(asked) == 1 else STATUS.SUCCESS)
        if len(asked) == 2:
            backfill.run("2", STATUS.SUCCESS)
        return more.backfill_id

    assert backfill.watch(2, again=again, max_again=3)
    assert asked == ["1", "1"]


def test_a_run_that_crashes_each_time_is_given_up(backfill: Backfill) -> None:
    backfill.run("1", STATUS.FAILURE)

    def again(user: str) -> str:
        backfill.run(user, STATUS.FAILURE)
        return backfill.backfill_id

    assert not backfill.watch(1, again=again, max_again=2)
    assert backfill.instance.get_runs_count(dg.RunsFilter(tags={BACKFILL_TAG: backfill.backfill_id})) == 3


def test_a_failed_stage_is_not_a_crash(backfill: Backfill) -> None:
    """It has had its tries within the run."""
    backfill.run("1", STATUS.FAILURE, **{FAILURE_TAG: STEP_FAILURE})
    assert not backfill.watch(1, again=lambda user: pytest.fail("was launched again"), max_again=3)


def test_a_run_that_waits_already_is_taken_over_and_waited_for(backfill: Backfill) -> None:
    """The runs of a command that was killed go on: the same command again queued everybody a second time."""
    other = Backfill(backfill.instance, f"{backfill.backfill_id}-killed")
    waits, goes, done = (
        other.run(user, status)
        for user, status in zip("345", (STATUS.NOT_STARTED, STATUS.STARTED, STATUS.SUCCESS), strict=True)
    )
    users = ["3", "4", "5"]
    assert runs_under_way(backfill.instance, "watched", users, begun=False) == {"3": waits.run_id}
    assert runs_under_way(backfill.instance, "watched", users, begun=True) == {"3": waits.run_id, "4": goes.run_id}
    assert runs_under_way(backfill.instance, "another", users, begun=True) == {}
    assert backfill.watch(1, taken_over=[done.run_id])


@pytest.mark.parametrize("status", [BulkActionStatus.CANCELED, BulkActionStatus.FAILED])
def test_a_backfill_that_ended_before_all_its_runs_were_made_is_not_waited_for(
    backfill: Backfill, status: BulkActionStatus
) -> None:
    """The command waited for the second user's run for ever."""
    backfill.run("1", STATUS.SUCCESS)
    backfill.end(status)
    assert not backfill.watch(2)


def test_unknown_users_and_a_missing_daemon_are_refused_before_anything_is_launched(
    engine_home: EngineHome, workshop: Workshop, backfill: Backfill
) -> None:
    with pytest.raises(UserInputError, match="nobody-here"):
        run_backfill(workshop.settings, engine_home.path, "nobody-here", nothing)
    workshop.instance.add_dynamic_partitions("users", ["backfill-1"])
    backfill.heartbeat(300)
    with pytest.raises(EngineError, match="twin up") as raised:
        run_backfill(workshop.settings, engine_home.path, "backfill-1", nothing)
    assert raised.value.code == "daemon_missing"
    assert backfill.instance.get_runs_count(dg.RunsFilter(tags={PARTITION_TAG: "backfill-1"})) == 0
