"""What the routes of the DAO share in one process: the service, its clock, its listeners, its figures, and plans under way.

Belongs here: opening these over the stores, and closing them in order.
Does not belong here: what each does.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import anyio

from lpm_kernel.dao.service import Dao, open_dao
from lpm_kernel.stores.dao_ledger import count_proposals
from lpm_kernel.stores.webhook import open_notice_webhook
from twin_serving.dao_metrics import DaoMetrics
from twin_serving.dao_plans import PlanWorker
from twin_serving.dao_stream import DashboardFeed, Listeners
from twin_serving.dao_twin_voter import TwinVoter
from twin_serving.dao_worker import DaoWorker

if TYPE_CHECKING:
    from lpm_kernel.dao.audit import AuditReport
    from lpm_kernel.dao.service import Cast
    from lpm_kernel.stores.llm import Llm
    from lpm_kernel.stores.open import Stores

AUDIT_KEPT_S = 2.0


class DaoSide:
    def __init__(self, stores: Stores, llm: Callable[[], Llm]) -> None:
        self.dao = open_dao(stores)
        self.metrics = DaoMetrics(lambda: count_open(self.dao))
        self.listeners = Listeners(stores.settings.dao.stream_listeners, self.metrics.listening)
        self.feed = DashboardFeed(self.dao, self.listeners)
        self.twins = TwinVoter(stores, self.dao, llm, self.count, lambda: self.worker.is_ending)
        self.worker = DaoWorker(stores, self.dao, self.metrics, stores.settings.dao.worker_poll_s, self.twins.duty)
        self.worker.tells(open_notice_webhook(stores.settings, breakers=stores.breakers))
        self.plans = PlanWorker(stores, self.dao, llm)
        self.auditing = anyio.CapacityLimiter(1)
        self._audited: tuple[AuditReport, datetime] | None = None

    def count(self, cast: Cast) -> None:
        if not cast.repeated:
            self.metrics.cast(cast.ballot.cast_by)
            if cast.resolution is not None:
                self.metrics.resolved(cast.resolution)

    def audit(self) -> tuple[AuditReport, datetime]:
        """The whole ledger, counted again, and when it was; those who ask within `AUDIT_KEPT_S` are told the same.

        Why kept: it reads everything there is, and whoever may ask may ask often. Call it under `auditing`. Raises: StoreError.
        """
        from lpm_kernel.dao.audit import audit

        at = self.dao.clock()
        if self._audited is None or not timedelta(0) <= at - self._audited[1] < timedelta(seconds=AUDIT_KEPT_S):
            self._audited = audit(self.dao), at
        return self._audited

    def start(self) -> None:
        self.worker.start()
        self.plans.start()

    def close(self) -> None:
        for each in (self.worker, self.plans):  # all at once: each may wait for what is under way
            each.stop()
        self.feed.close()
        self.plans.close()
        self.worker.close()


def count_open(dao: Dao) -> dict[str, int]:
    """Proposals that have not ended, by status. Raises: StoreError."""
    with dao.tables.operator_transaction() as connection:
        found = count_proposals(connection)
    return {status: found.get(status, 0) for status in ("draft", "open", "voting")}
