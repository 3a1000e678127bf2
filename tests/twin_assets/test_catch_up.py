"""Unfinished work: whom the catch-up sensor asks for, over plain values and over real runs in a real instance."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import dagster as dg
import pytest

from lpm_kernel.errors import StoreError, TrainingError, TwinError
from lpm_kernel.L2.release import UnbuiltContent
from lpm_kernel.settings import load_settings
from twin_assets import sensors
from twin_assets.failures import dagster_failures
from twin_assets.partitions import PARTITION_TAG, users
from twin_assets.sensors import CATCH_UP_TAG, REST_S, Unbuilt, build_catch_up_sensor, decide_catch_up

MAX_TRIES = 3


def unbuilt(rest_s: float, tries: int = 0, *, needs_a_person: bool = False) -> Unbuilt:
    return Unbuilt("ada", "c1", rest_s, tries, needs_a_person)


@pytest.mark.parametrize(
    ("item", "due"),
    [
        (unbuilt(REST_S), True),
        (unbuilt(REST_S - 1), False),
        (unbuilt(REST_S, tries=1), False),
        (unbuilt(REST_S * 4, tries=1), True),
        (unbuilt(1e9, tries=MAX_TRIES), False),
        (unbuilt(1e9, needs_a_person=True), False),
        (unbuilt(float("inf")), True),
    ],
)
def test_a_run_is_due_after_a_rest_that_grows_with_each_try_and_not_for_ever(item: Unbuilt, due: bool) -> None:
    assert bool(decide_catch_up([item], MAX_TRIES)) is due


def test_each_try_has_a_run_key_of_its_own() -> None:
    keys = {decide_catch_up([unbuilt(1e9, tries=tries)], MAX_TRIES)[0][2] for tries in range(MAX_TRIES)}
    assert len(keys) == MAX_TRIES


class Stage:
    """How the only stage of the job ends."""

    error: BaseException | None = None
    sound = True


@dg.asset(partitions_def=users)
def build() -> None:
    with dagster_failures(MAX_TRIES, load_settings().retries):
        if Stage.error is not None:
            raise Stage.error


with warnings.catch_warnings():
    warnings.simplefilter("ignore", dg.PreviewWarning)

    @dg.asset_check(asset=build, blocking=True, partitions_def=users)
    def build_is_sound() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=Stage.sound)


@dg.asset(partitions_def=users, deps=[build])
def after() -> None:
    pass


JOB = dg.Definitions(
    assets=[build, after], asset_checks=[build_is_sound], jobs=[dg.define_asset_job("twin", "*")]
).resolve_job_def("twin")


class State:
    """Stands where the stores resource stands: what is unbuilt, or a database that is away."""

    def __init__(self) -> None:
        self.unbuilt: UnbuiltContent | None = UnbuiltContent("c1", waiting=False)
        self.away = False
        self.unreadable: set[str] = set()
        self.stores = SimpleNamespace(tables=self)

    @contextmanager
    def transaction(self, user_id: str) -> Iterator[UnbuiltContent | None]:
        if self.away:
            raise StoreError("tables_unavailable", "PostgreSQL did not answer")
        if user_id in self.unreadable:
            raise StoreError("tables_refused", "of another form", retryable=False)
        yield self.unbuilt


class Watched:
    def __init__(self, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
        self.instance, self.state, self.clock_s = instance, State(), 0.0
        monkeypatch.setattr(sensors, "find_unbuilt", lambda connection, user_id: connection)
        now = time.time
        monkeypatch.setattr(sensors, "time", SimpleNamespace(time=lambda: now() + self.clock_s))
        self.sensor = build_catch_up_sensor(load_settings())
        instance.add_dynamic_partitions("users", ["ada"])

    def run(self, error: BaseException | None = None, *, sound: bool = True, **tags: str) -> dg.ExecuteInProcessResult:
        Stage.error, Stage.sound = error, sound
        return JOB.execute_in_process(instance=self.instance, partition_key="ada", raise_on_error=False, tags=tags)

    def asked_for(self) -> list[str]:
        found = self.sensor(dg.build_sensor_context(instance=self.instance, resources={"stores": self.state}))
        if isinstance(found, dg.SkipReason):
            return []
        assert isinstance(found, dg.SensorResult)
        return [request.partition_key or "" for request in found.run_requests or []]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Watched(instance, monkeypatch)


@pytest.mark.parametrize(
    ("error", "sound", "again"),
    [
        (StoreError("blobs_unavailable", "the S3 server did not answer"), True, True),
        (OSError(28, "No space left on device"), True, True),
        (TrainingError("no_training_rows", "there is nothing to ask about"), True, False),
        (None, False, False),
    ],
)
def test_work_that_failed_is_done_again_where_that_can_help(
    watched: Watched, error: TwinError | None, sound: bool, again: bool
) -> None:
    """A store that was away longer than the retries left a user without a twin until the next upload."""
    assert not watched.run(error, sound=sound).success
    assert watched.asked_for() == [], "automation may be about to act"
    watched.clock_s = REST_S + 1
    assert watched.asked_for() == (["ada"] if again else [])


def test_a_cancelled_run_is_a_wish_and_a_killed_one_is_not(watched: Watched) -> None:
    """A demo that was stopped by Ctrl-C or a kill was never finished: its stages count as a change that somebody handles."""
    watched.clock_s = REST_S + 1
    run = watched.instance.create_run_for_job(JOB, status=dg.DagsterRunStatus.STARTED, tags={PARTITION_TAG: "ada"})
    assert watched.asked_for() == [], "it is under way"
    watched.instance.report_run_failed(run, "its process is gone")
    assert watched.asked_for() == ["ada"]
    run = watched.instance.create_run_for_job(JOB, status=dg.DagsterRunStatus.CANCELING, tags={PARTITION_TAG: "ada"})
    watched.instance.report_run_canceled(run)
    assert watched.asked_for() == []


def test_tries_are_counted_by_what_they_were_to_build(watched: Watched) -> None:
    for _ in range(load_settings().retries.max_retries):
        watched.run(OSError(), **{CATCH_UP_TAG: "c1"})
    watched.clock_s = 1e9
    assert watched.asked_for() == []
    watched.state.unbuilt = UnbuiltContent("c2", waiting=False)
    assert watched.asked_for() == ["ada"]


def test_a_user_who_is_built_or_whom_the_uploads_sensor_is_about_to_see_is_left_alone(watched: Watched) -> None:
    watched.clock_s = 1e9
    watched.state.unbuilt = UnbuiltContent("c1", waiting=True)
    assert watched.asked_for() == []
    watched.state.unbuilt = None
    assert watched.asked_for() == []


def test_one_whose_record_cannot_be_read_keeps_nobody_else_from_being_built(watched: Watched) -> None:
    """The first of them ended the tick, and every tick after it."""
    watched.clock_s = 1e9
    watched.instance.add_dynamic_partitions("users", ["abe"])
    watched.state.unreadable = {"abe"}
    assert watched.asked_for() == ["ada"]
    watched.state.unbuilt = None
    found = watched.sensor(dg.build_sensor_context(instance=watched.instance, resources={"stores": watched.state}))
    assert isinstance(found, dg.SkipReason)
    assert "abe" in (found.skip_message or "")


def test_a_database_that_is_away_is_a_skip_that_says_so(watched: Watched) -> None:
    watched.state.away = True
    found = watched.sensor(dg.build_sensor_context(instance=watched.instance, resources={"stores": watched.state}))
    assert isinstance(found, dg.SkipReason)
    assert "tables_unavailable" in (found.skip_message or "")
