"""The thread that moves votes on when their time has come, so that a deadline resolves without Dagster's sensor.

Belongs here: when it looks, and that it ends with the API.
Does not belong here: what is done then (`lpm_kernel/dao/clockwork.py`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lpm_kernel.dao.service import Dao
from lpm_kernel.errors import TwinError

if TYPE_CHECKING:
    from lpm_kernel.dao.clockwork import Turn
    from lpm_kernel.stores.open import Stores
    from twin_serving.dao_metrics import DaoMetrics

_LOG = logging.getLogger(__name__)
CLOSE_S = 10.0
PROJECT_AGAIN_S = 30.0
"""Between two tries at a graph that does not answer: each may wait for it."""


class DaoWorker:
    """One thread; several processes may each have one, and the sensor beside them: the ledger takes each step once."""

    def __init__(self, stores: Stores, dao: Dao, metrics: DaoMetrics) -> None:
        self._stores, self._dao, self._metrics = stores, dao, metrics
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._graph_from = 0.0
        self._told: str | None = None

    def start(self, work: Callable[[], object] | None = None) -> None:
        """Does nothing where the settings leave votes to the sensor. `work`: in place of one turn of the clock."""
        if self._dao.settings.worker_poll_s > 0:
            self._thread = threading.Thread(target=self._run, args=(work or self.turn,), name="dao-worker", daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """Look now: something was written."""
        self._wake.set()

    def close(self) -> None:
        self._closed.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def turn(self) -> Turn:
        """Raises: StoreError where the ledger does not answer."""
        from lpm_kernel.dao.clockwork import turn_clock

        graph = self._stores.graph if time.monotonic() >= self._graph_from else None
        turn = turn_clock(self._dao, graph)
        for resolution in turn.resolved:
            self._metrics.resolved(resolution)
        for proposal_id, code in turn.failed.items():
            _LOG.warning("proposal %s could not be moved on: %s", proposal_id, code)
        if turn.not_projected is not None:
            self._graph_from = time.monotonic() + PROJECT_AGAIN_S
        if graph is not None and turn.not_projected != self._told:
            self._told = turn.not_projected
            _LOG.warning("votes reach the graph: %s", "again" if self._told is None else self._told)
        return turn

    def _run(self, work: Callable[[], object]) -> None:
        while not self._closed.is_set():
            self._wake.clear()
            try:
                work()
            except TwinError as error:
                _LOG.warning("votes that are due could not be looked for: %s", error)
            except Exception as error:
                _LOG.error("the DAO's worker goes on after a failure", exc_info=error)
            self._wake.wait(self._dao.settings.worker_poll_s)
