"""Which alerts a failed run is, on a real sensor with a real run; and those of votes that do not close."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from lpm_kernel.errors import LlmError
from lpm_kernel.settings import RetrySettings, load_settings
from lpm_kernel.stores.breaker import Breakers
from tests.stores.test_webhook import Listener
from twin_assets.alerts import FailedStep, alerts_of, build_failure_alerts
from twin_assets.dao_sensor import DueVote, alerts_of_stuck
from twin_assets.failures import dagster_failures
from twin_assets.partitions import users

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WORDS = "My cat is called Pilchard"


def test_a_run_is_an_alert_a_step_and_one_without_a_step_is_lost() -> None:
    steps = [FailedStep("chunks", "INGESTION_ERROR", "no_documents"), FailedStep("topics", "STORE_ERROR", "blob_store")]
    assert [(alert.stage, alert.code) for alert in alerts_of(steps, "1", "twin_job", "r", NOON)] == [
        ("chunks", "no_documents"),
        ("topics", "blob_store"),
    ]
    (lost,) = alerts_of([], "1", "twin_job", "r", NOON)
    assert (lost.stage, lost.category, lost.code) == ("twin_job", "INTERNAL_ERROR", "run_lost")


def test_a_vote_that_is_still_due_after_a_run_for_it_is_an_alert_and_one_that_just_became_due_is_none() -> None:
    due = [DueVote("p-1", "1", NOON), DueVote("p-2", "1", NOON, tries=2, rest_s=5.0)]
    (alert,) = alerts_of_stuck(due, NOON)
    assert (alert.kind, alert.subject, alert.category, alert.code, alert.count) == (
        *("vote_failed", "p-2", "VOTE_ERROR", "vote_still_due"),
        2,
    )


@dg.op
def quotes() -> None:
    raise RuntimeError(WORDS)


@dg.op
def declines() -> None:
    with dagster_failures(0, RetrySettings(max_retries=0, delay_s=0.0)):
        raise LlmError("writer_closed", f"the key is wrong, and the text was {WORDS}", retryable=False)


@dg.job
def failing_job() -> None:
    quotes()
    declines()


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    with Listener() as listener:
        monkeypatch.setenv("ALERT_WEBHOOK_URL", listener.url)
        monkeypatch.setenv("ALERT_WEBHOOK_SECRET", "s3cret")
        monkeypatch.setenv("TWIN_HOME", "/nowhere")
        monkeypatch.delenv("REDIS_URL", raising=False)
        yield listener


def test_a_failed_run_is_told_by_who_where_and_which_code_once_and_in_no_words_of_its_own(listener: Listener) -> None:
    sensor = build_failure_alerts(load_settings())
    stores = SimpleNamespace(stores=SimpleNamespace(breakers=Breakers()))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(users.name or "", ["ada"])

        def fail() -> Any:
            run = failing_job.execute_in_process(instance=instance, raise_on_error=False, tags={"dagster/partition": "ada"})
            (record,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
            assert record.dagster_event is not None
            context = dg.build_run_status_sensor_context(
                "failure_alerts", record.dagster_event, instance, run.dagster_run, resources={"stores": stores}
            ).for_run_failure()
            return sensor(context)

        assert fail() is None
        assert fail() is None, "within the hour it is the same; and a reason to skip would end the tick"
    told = {(body["subject"], body["stage"], body["category"], body["code"]) for _, _, _, body in listener.heard}
    assert told == {
        ("ada", "quotes", "INTERNAL_ERROR", "RuntimeError"),
        ("ada", "declines", "LLM_ERROR", "writer_closed"),
    }
    assert len(listener.heard) == 2
    assert WORDS not in str(listener.heard)


def test_what_nobody_took_is_told_by_a_later_tick_and_not_twice(listener: Listener) -> None:
    """A webhook that was away for a moment: each alert was skipped, one a minute, and never told again."""
    sensor = build_failure_alerts(load_settings())
    with dg.DagsterInstance.ephemeral() as instance:

        def tick(cursor: str) -> str:
            stores = SimpleNamespace(stores=SimpleNamespace(breakers=Breakers()))
            context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"stores": stores})
            return sensor.evaluate_tick(context).cursor or ""

        def fail(user_id: str) -> None:
            failing_job.execute_in_process(instance=instance, raise_on_error=False, tags={"dagster/partition": user_id})

        before = tick("")
        fail("ada")
        fail("bob")
        listener.statuses = [200, 503, 503]
        with pytest.raises(dg.DagsterError, match="1 alerts of run"):
            tick(before)
        after = tick(before)
        assert after != before
        assert tick(after) == after
    asked = [(body["subject"], body["stage"]) for _, _, _, body in listener.heard]
    first, second = asked[0], asked[1]
    assert {first, second} == {("ada", "quotes"), ("ada", "declines")}
    assert asked[:4] == [first, second, second, second], "each is tried twice at a time"
    assert sorted(asked[4:]) == [("bob", "declines"), ("bob", "quotes")]


def test_what_the_webhook_refuses_keeps_nothing_waiting(listener: Listener) -> None:
    sensor = build_failure_alerts(load_settings())
    stores = SimpleNamespace(stores=SimpleNamespace(breakers=Breakers()))
    with dg.DagsterInstance.ephemeral() as instance:
        before = sensor.evaluate_tick(
            dg.build_sensor_context(instance=instance, cursor="", resources={"stores": stores})
        ).cursor
        failing_job.execute_in_process(instance=instance, raise_on_error=False, tags={"dagster/partition": "ada"})
        listener.statuses = [400, 400]
        context = dg.build_sensor_context(instance=instance, cursor=before, resources={"stores": stores})
        assert sensor.evaluate_tick(context).cursor != before
    assert len(listener.heard) == 2
