"""What the engine counts, in Prometheus' form, in a registry of its own.

Belongs here: every series of the engine. None has a user in it: who chats how much is nobody's business, and would be one
series each.
Does not belong here: the route that shows it, and series of other parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from lpm_kernel.L2.adapter_cache import LOAD_BOUNDS_S, AdapterCache
from lpm_kernel.serving_release import REFUSALS
from twin_serving.engine.admission import Admission

if TYPE_CHECKING:
    from twin_serving.engine.engine import ServingEngine

FIRST_PIECE_BOUNDS_S = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0)
QUEUE_BOUNDS_S = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class EngineMetrics:
    """Counters of one engine. For many threads."""

    def __init__(self, admission: Admission, adapters: AdapterCache | None) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Reader(admission, adapters))
        registry = self.registry
        self._pieces = Counter(
            "twin_engine_tokens", "Pieces of answers: tokens, but where a character takes several of them", registry=registry
        )
        self._answers = Counter(
            "twin_engine_answers", "Answers by how they ended: done, left, or an error's code", ["outcome"], registry=registry
        )
        self._first = Histogram(
            "twin_engine_first_token_seconds", "From asking to the first piece", buckets=FIRST_PIECE_BOUNDS_S, registry=registry
        )
        self._queue = Histogram(
            "twin_engine_queue_seconds", "From joining the queue to the turn", buckets=QUEUE_BOUNDS_S, registry=registry
        )
        self._swaps = Counter("twin_engine_release_swaps", "New releases whose adapter was made ready", registry=registry)
        self._failed_swaps = Counter(
            "twin_engine_release_failures", "New releases whose adapter was not", ["code"], registry=registry
        )
        self._failed_polls = Counter(
            "twin_engine_release_poll_failures", "Looks for new releases that failed", registry=registry
        )

    def watch(self, asked_at: float, clock: Callable[[], float]) -> StreamWatch:
        return StreamWatch(self, asked_at, clock)

    def refused(self, code: str) -> None:
        self._answers.labels(code).inc()

    def swapped(self) -> None:
        self._swaps.inc()

    def swap_failed(self, code: str) -> None:
        self._failed_swaps.labels(code).inc()

    def poll_failed(self) -> None:
        self._failed_polls.inc()

    def render(self) -> bytes:
        return generate_latest(self.registry)


class StreamWatch:
    """Of one answer."""

    def __init__(self, metrics: EngineMetrics, asked_at: float, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._asked_at = asked_at
        self._clock = clock
        self._queued_at = asked_at
        self._begun = False

    def queued(self) -> None:
        self._queued_at = self._clock()

    def admitted(self) -> None:
        self._metrics._queue.observe(self._clock() - self._queued_at)

    def piece(self) -> None:
        if not self._begun:
            self._begun = True
            self._metrics._first.observe(self._clock() - self._asked_at)
        self._metrics._pieces.inc()

    def ended(self, outcome: str) -> None:
        self._metrics._answers.labels(outcome).inc()


class _Reader(Collector):
    """What others count, read when it is asked for."""

    def __init__(self, admission: Admission, adapters: AdapterCache | None) -> None:
        self._admission = admission
        self._adapters = adapters

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("twin_engine_in_flight", "Answers at work", self._admission.at_work())
        yield GaugeMetricFamily("twin_engine_waiting", "Questions that wait for their turn", self._admission.waiting())
        yield CounterMetricFamily(
            "twin_engine_fallback_releases", "Live releases whose adapter was refused", value=REFUSALS.total
        )
        if self._adapters is None:
            return
        seen = self._adapters.figures()
        asked = CounterMetricFamily(
            "twin_adapter_requests",
            "Answers by how their adapter was found: hit, miss, joined (was being loaded); and refused adapters",
            labels=["result"],
        )
        for result, count in (
            ("hit", seen.hits), ("miss", seen.misses), ("joined", seen.joined), ("refused", seen.refusals)
        ):  # fmt: skip
            asked.add_metric([result], count)
        yield asked
        yield GaugeMetricFamily(
            "twin_adapter_hit_ratio",
            "Share of answers whose adapter was in memory when it was first asked for, since the start",
            seen.hits / max(1, seen.hits + seen.misses + seen.joined),
        )
        yield CounterMetricFamily("twin_adapter_evictions", "Adapters freed", value=seen.evictions)
        yield GaugeMetricFamily("twin_adapters_loaded", "Adapters in memory", seen.adapters)
        yield GaugeMetricFamily("twin_adapter_bytes", "What they take", seen.size_bytes)
        yield GaugeMetricFamily("twin_adapter_budget_bytes", "What they may take", seen.budget_bytes)
        bounds = [str(bound) for bound in LOAD_BOUNDS_S] + ["+Inf"]
        yield HistogramMetricFamily(
            "twin_adapter_load_seconds",
            "Checking and loading an adapter from local disk",
            buckets=list(zip(bounds, accumulate(seen.loads), strict=True)),
            sum_value=seen.load_seconds,
        )


def render_metrics(engine: ServingEngine | None) -> bytes:
    """The engine's series as text; none while the model was not opened."""
    return engine.metrics.render() if engine is not None else b""
