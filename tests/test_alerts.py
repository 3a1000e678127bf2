"""Alerts: told once an hour, signed, and without a word of anybody's."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import uuid
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lpm_kernel.alerts import Alert, Alerts, message_of, open_alerts
from lpm_kernel.settings import RetrySettings, load_settings
from lpm_kernel.stores import once
from lpm_kernel.stores.once import Once
from lpm_kernel.stores.webhook import SIGNATURE, Webhook
from tests.embedded.fixtures import EngineHome
from tests.stores.test_webhook import Listener

AT_ONCE = RetrySettings(max_retries=0, delay_s=0.0)
ALERT = Alert("run_failed", "ada", "chunks", "INGESTION_ERROR", "pdf_unreadable", datetime(2026, 3, 1, tzinfo=UTC), "run-1")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_same_failure_is_told_once_an_hour_and_another_one_at_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with Listener() as listener:
        alerts = Alerts(Webhook(listener.url, "secret", 5), Once(None, clock), 3600, AT_ONCE)
        assert [alerts.tell(ALERT), alerts.tell(replace(ALERT, run_id="run-2"))] == [True, False]
        assert alerts.tell(replace(ALERT, code="type_unknown"))
        assert alerts.tell(replace(ALERT, subject="bob"))
        clock.now = 3601
        assert alerts.tell(ALERT)
    assert len(listener.heard) == 4
    assert len([line for line in caplog.messages if line.startswith("alert: run_failed: chunks of")]) == 4


def test_it_is_signed_as_a_release_is(caplog: pytest.LogCaptureFixture) -> None:
    with Listener() as listener:
        assert Alerts(Webhook(listener.url, "secret", 5), Once(None), 3600, AT_ONCE).tell(ALERT)
    ((_, _, headers, body),) = listener.heard
    assert body == message_of(ALERT)
    sent = json.dumps(body, separators=(",", ":")).encode()
    assert headers[SIGNATURE] == "sha256=" + hmac.new(b"secret", sent, hashlib.sha256).hexdigest()
    assert set(body) == {"kind", "subject", "stage", "category", "code", "run_id", "count", "at"}


def test_one_that_nobody_took_raises_nothing_and_is_told_at_the_next_occasion() -> None:
    with Listener(503) as listener:
        alerts = Alerts(Webhook(listener.url, None, 5), Once(None), 3600, AT_ONCE)
        assert [alerts.tell(ALERT), alerts.tell(ALERT), alerts.tell(ALERT)] == [False, True, False]


def test_without_an_address_the_log_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert open_alerts(load_settings(), {"TWIN_HOME": "/nowhere"}).tell(ALERT)
    assert "alert: run_failed: chunks of ada: INGESTION_ERROR pdf_unreadable, run run-1" in caplog.text


def test_the_variables_that_the_settings_name_say_where_to(caplog: pytest.LogCaptureFixture) -> None:
    with Listener() as listener:
        environ = {"TWIN_HOME": "/nowhere", "ALERT_WEBHOOK_URL": listener.url, "ALERT_WEBHOOK_SECRET": "s"}
        assert open_alerts(load_settings(), environ).tell(ALERT)
    assert SIGNATURE in listener.heard[0][2]


def test_of_two_processes_one_tells(engine_home: EngineHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "TIMEOUT_S", 20.0)
    key = uuid.uuid4().hex
    one, two = Once(engine_home.redis_url), Once(engine_home.redis_url)
    assert [one.first(key, 60), two.first(key, 60), one.first(key, 60)] == [True, False, False]
    one.forget(key)
    assert two.first(key, 60)


def test_without_redis_each_process_remembers_for_itself(free_port: int) -> None:
    alone = Once(f"redis://127.0.0.1:{free_port}/0")
    assert [alone.first("a", 60), alone.first("a", 60), alone.first("b", 60)] == [True, False, True]
