"""Alerts: telling a person that something failed for good, once an hour for the same thing.

Belongs here: what is told, that it is told once, and what becomes of an alert that nobody took.
Does not belong here: what has failed (`twin_assets/alerts.py`, `twin_serving/dao_worker.py`).

An alert says who, where and which code. It carries no message: that of an error nobody foresaw may quote a person.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from lpm_kernel.errors import StoreError
from lpm_kernel.settings import RetrySettings, Settings
from lpm_kernel.stores.addresses import connection_environment
from lpm_kernel.stores.breaker import Breakers
from lpm_kernel.stores.once import Once
from lpm_kernel.stores.webhook import Webhook, open_alert_webhook

AlertKind = Literal["run_failed", "vote_failed", "partitions_behind"]
BRIEFLY = RetrySettings(max_retries=1, delay_s=0.5)
"""Whoever tells is a sensor or a thread that others wait for."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Alert:
    """`subject`: whose, of which vote, or the hash of all that is meant; empty where it is nobody's. `run_id`: where more is to
    be read."""

    kind: AlertKind
    subject: str
    stage: str
    category: str
    code: str
    at: datetime
    run_id: str = ""
    count: int = 1

    @property
    def key(self) -> str:
        """Two of one key within the hour are one alert."""
        return f"{self.kind}/{self.subject}/{self.stage}/{self.code}"


class Alerts:
    """To the log always, and to the webhook where there is one."""

    def __init__(self, webhook: Webhook | None, once: Once, every_s: int, retries: RetrySettings = BRIEFLY) -> None:
        self._webhook, self._once, self._every_s, self._retries = webhook, once, every_s, retries

    def tell(self, alert: Alert, every_s: int | None = None) -> bool:
        """Whether somebody was told now: once each `every_s` seconds, where not given each `automation.alert_every_s`.

        One that the webhook did not take stands in the log, and is told at the next occasion. Raises nothing: what failed must
        not fail a second time by its alert.
        """
        try:
            return self.deliver(alert, every_s)
        except StoreError as error:
            log.warning("the alert was not delivered: %s", error)
            return False

    def deliver(self, alert: Alert, every_s: int | None = None) -> bool:
        """As `tell`, for who comes back with what was not taken. Raises: StoreError of the webhook; it is untold then."""
        if not self._once.first(alert.key, self._every_s if every_s is None else every_s):
            return False
        where = f" of {alert.subject}" if alert.subject else ""
        log.error(
            "alert: %s: %s%s: %s %s, run %s",
            alert.kind,
            alert.stage,
            where,
            alert.category,
            alert.code,
            alert.run_id[:8] or "-",
        )
        if self._webhook is None:
            return True
        try:
            self._webhook.post(message_of(alert), self._retries)
        except StoreError:
            self._once.forget(alert.key)
            raise
        return True


def message_of(alert: Alert) -> dict[str, Any]:
    return {
        "kind": alert.kind,
        "subject": alert.subject,
        "stage": alert.stage,
        "category": alert.category,
        "code": alert.code,
        "run_id": alert.run_id,
        "count": alert.count,
        "at": alert.at.isoformat(),
    }


def open_alerts(
    settings: Settings,
    environ: Mapping[str, str] | None = None,
    breakers: Breakers | None = None,
    once: Once | None = None,
) -> Alerts:
    """`once`: what this process has said so far, where it is to outlive these."""
    redis_url = connection_environment(environ).get(settings.stores.redis_url)
    return Alerts(open_alert_webhook(settings, environ, breakers), once or Once(redis_url), settings.automation.alert_every_s)
