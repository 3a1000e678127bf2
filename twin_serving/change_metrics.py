"""What the API shows of changes that have not reached their stores: how many, for how long, and how many were given up.

Belongs here: those figures, asked at each scrape.
Does not belong here: counting them (`lpm_kernel/sync/lag.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from lpm_kernel.errors import TwinError
from lpm_kernel.sync.lag import Backlog

_LOG = logging.getLogger(__name__)


class Backlogs(Collector):
    """Of all processes together, for it is in the tables; left out while these do not answer, which is no zero."""

    def __init__(self, backlogs: Callable[[], Sequence[Backlog]]) -> None:
        self._backlogs = backlogs

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: registering would otherwise ask the tables."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            found = self._backlogs()
        except TwinError as error:
            _LOG.warning("changes that wait could not be counted: %s", error)
            return
        undone = GaugeMetricFamily("twin_changes_undone", "Changes that have not reached their target", labels=["target"])
        words = "For how long the oldest of them has waited; 0: none waits"
        oldest = GaugeMetricFamily("twin_changes_oldest_age_seconds", words, labels=["target"])
        given_up = GaugeMetricFamily("twin_changes_given_up", "Changes that only a person can put back", labels=["target"])
        for item in found:
            undone.add_metric([item.target], item.undone)
            oldest.add_metric([item.target], item.oldest_s)
            given_up.add_metric([item.target], item.given_up)
        yield from (undone, oldest, given_up)
