"""The thread that moves votes on when their time has come, so that a deadline resolves without Dagster's sensor.

Belongs here: when it looks, and that it ends with the API.
Does not belong here: what is done then (`lpm_kernel/dao/clockwork.py`).
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from lpm_kernel.alerts import Alert, Alerts, open_alerts
from lpm_kernel.dao.service import Dao
from lpm_kernel.errors import TwinError, VoteError
from lpm_kernel.request_context import RequestContext, within_request

if TYPE_CHECKING:
    from lpm_kernel.stores.open import Stores
    from lpm_kernel.stores.webhook import Webhook
    from twin_serving.dao_metrics import DaoMetrics

_LOG = logging.getLogger(__name__)
CLOSE_S = 10.0


class DaoWorker:
    """A thread for each duty, so that a graph that is slow, or a twin that weighs, keeps no vote from its end. Several
    processes may each have them, and the sensor beside them: the ledger takes each step once. `twins`: lets some vote by
    themselves."""

    def __init__(
        self, stores: Stores, dao: Dao, metrics: DaoMetrics, poll_s: float, twins: Callable[[], object] | None = None
    ) -> None:
        self._stores, self._dao, self._metrics, self._poll_s, self._twins = stores, dao, metrics, poll_s, twins
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []
        self._told: str | None = None
        self._webhook: Webhook | None = None
        self._heard: str | None = None

    def tells(self, webhook: Webhook | None) -> None:
        """Who is told of votes that wait for somebody, from `start` on."""
        self._webhook = webhook

    def start(self, work: Callable[[], object] | None = None) -> None:
        """Does nothing where votes are left to the sensor: `poll_s` 0. `work`: in place of what they do."""
        if self._poll_s <= 0:
            return
        duties = {"dao-worker": work or self.turn, **({} if work else {"dao-to-graph": self.project})}
        if not work and self._webhook is not None:
            duties["dao-notices"] = self.tell
        if self._twins is not None:
            duties["dao-twins"] = self._twins
        for name, duty in duties.items():
            thread = threading.Thread(target=self._run, args=(duty,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Begin nothing more."""
        self._closed.set()

    @property
    def is_ending(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        self.stop()
        for thread in self._threads:
            thread.join(CLOSE_S)

    def turn(self) -> None:
        """Move on every vote that is due. Raises: StoreError where the ledger does not answer."""
        from lpm_kernel.dao.clockwork import turn_clock

        turn = turn_clock(self._dao, None)
        for resolution in turn.resolved:
            self._metrics.resolved(resolution)
        for proposal_id, code in turn.failed.items():
            _LOG.warning("proposal %s could not be moved on: %s", proposal_id, code)
            self._alerts.tell(Alert("vote_failed", proposal_id, "dao_worker", VoteError.category, code, datetime.now(UTC)))

    @cached_property
    def _alerts(self) -> Alerts:
        """Opened at the first failure. One for the life of the process: without Redis it is all that remembers."""
        return open_alerts(self._stores.settings, breakers=self._stores.breakers)

    def project(self) -> None:
        """Tell the graph what has happened since it was told last; of one that does not answer the log hears once."""
        from lpm_kernel.dao.projection import project_due

        try:
            project_due(self._dao, self._stores.graph)
            told = None
        except TwinError as error:
            told = self._told if error.code == "projection_waits" else error.code
        if told != self._told:
            self._told = told
            _LOG.warning("votes reach the graph: %s", "again" if told is None else told)

    def tell(self) -> None:
        """Tell the service of the settings what waits for somebody; of one that does not answer the log hears once."""
        from lpm_kernel.dao.notice_hook import tell_due

        if self._webhook is None:
            return
        try:
            tell_due(self._dao, self._webhook, self._stores.settings.retries)
            heard = None
        except TwinError as error:
            heard = self._heard if error.code == "projection_waits" else error.code
        if heard != self._heard:
            self._heard = heard
            _LOG.warning("the service that is told of votes hears: %s", "again" if heard is None else heard)

    def _run(self, duty: Callable[[], object]) -> None:
        while not self._closed.is_set():
            named = f"{threading.current_thread().name}-{uuid.uuid4().hex}"  # logs and stores tell one look from the next
            try:
                with within_request(RequestContext(named)):
                    duty()
            except TwinError as error:
                _LOG.warning("votes that are due could not be looked for: %s", error)
            except Exception as error:
                _LOG.error("the DAO's worker goes on after a failure", exc_info=error)
            self._closed.wait(self._poll_s)
