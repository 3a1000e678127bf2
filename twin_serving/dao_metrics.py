"""What the API counts of the DAO: open proposals, ballots by who cast them, resolutions, listeners.

Belongs here: those figures, in a registry that joins the API's own.
Does not belong here: figures of requests (`metrics.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from lpm_kernel.dao.records import CastBy, Resolution
from lpm_kernel.errors import TwinError

_LOG = logging.getLogger(__name__)


class DaoMetrics:
    """Counters are of this process: what another has resolved, the sensor say, is in the ledger and not here."""

    def __init__(self, count_open: Callable[[], dict[str, int]]) -> None:
        self.registry = own = CollectorRegistry()
        self._ballots = Counter("twin_dao_ballots", "Ballots cast through this process", ["cast_by"], registry=own)
        self._resolutions = Counter(
            "twin_dao_resolutions", "Votes that this process ended", ["outcome", "closed_by"], registry=own
        )
        self._listeners = Gauge("twin_dao_stream_listeners", "Open streams of the dashboard and of plans", registry=own)
        for cast_by in ("human", "twin"):
            self._ballots.labels(cast_by)
        own.register(OpenProposals(count_open))

    def listening(self, listeners: int) -> None:
        self._listeners.set(listeners)

    def cast(self, cast_by: CastBy) -> None:
        self._ballots.labels(cast_by).inc()

    def resolved(self, resolution: Resolution) -> None:
        self._resolutions.labels(resolution.outcome, resolution.closed_by).inc()


class OpenProposals(Collector):
    """Asked at each scrape; left out while the ledger does not answer, which is no zero."""

    def __init__(self, count: Callable[[], dict[str, int]]) -> None:
        self._count = count

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: registering would otherwise ask the ledger."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            counts = self._count()
        except TwinError as error:
            _LOG.warning("open proposals could not be counted: %s", error)
            return
        family = GaugeMetricFamily("twin_dao_proposals", "Proposals that have not ended", labels=["status"])
        for status, count in sorted(counts.items()):
            family.add_metric([status], count)
        yield family
