"""What the API counts of itself, as Prometheus text: requests by route and status, how long they took, stores, the model.

Belongs here: the registry of one app, and the ASGI layer that counts and writes one log line a request.
Does not belong here: the engine's own figures (a collector of theirs joins this registry), and what a route does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lpm_kernel.stores.breaker import STATES, Circuit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NO_ROUTE = "(none)"
"""Of requests whose path no route has: their paths are anybody's invention, and each would be a series for ever."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
REQUEST_ID = b"x-request-id"

access = logging.getLogger("twin_serving.access")


class Metrics:
    """The figures of one app, in a registry of its own: two apps of one process do not add up to one."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter("twin_http_requests", "Answered requests", ["method", "route", "status"], registry=own)
        words = "From the request to the last byte"
        self.seconds = Histogram("twin_http_request_seconds", words, ["method", "route"], buckets=BUCKETS_S, registry=own)
        self.in_flight = Gauge("twin_http_requests_in_flight", "Requests that are not answered yet", registry=own)
        ProcessCollector(registry=own)

    def join(self, collector: Collector) -> None:
        """Let another part's figures stand beside these."""
        self.registry.register(collector)

    def render(self) -> bytes:
        return generate_latest(self.registry)


class StateCollector(Collector):
    """Asked at each scrape: which stores answer, whether the model is loaded, and what this process is."""

    def __init__(self, states: Callable[[], Mapping[str, str]], build: Callable[[], Mapping[str, str]]) -> None:
        self._states = states
        self._build = build

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: registering would otherwise ask every store for its name."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        states = self._states()
        up = GaugeMetricFamily("twin_store_up", "1: the store answers", labels=["store"])
        for name, state in states.items():
            if name != "model":
                up.add_metric([name], float(state == "ok"))
        yield up
        yield GaugeMetricFamily("twin_model_ready", "1: the base model is loaded", value=float(states.get("model") == "ok"))
        told = self._build()
        build = GaugeMetricFamily("twin_build_info", "Always 1; the labels tell", labels=list(told))
        build.add_metric(list(told.values()), 1.0)
        yield build


class BreakerCollector(Collector):
    """The circuits of what this process and those that share its Redis ask, at each scrape."""

    def __init__(self, circuits: Callable[[], Mapping[str, Circuit]]) -> None:
        self._circuits = circuits

    def describe(self) -> list[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterator[Metric]:
        words = "0: closed, 1: half-open, 2: open, nobody asks"
        state = GaugeMetricFamily("twin_breaker_state", words, labels=["dependency"])
        trips = CounterMetricFamily("twin_breaker_trips", "How often the circuit was opened", labels=["dependency"])
        for name, circuit in self._circuits().items():
            state.add_metric([name], STATES.index(circuit.state))
            trips.add_metric([name], circuit.trips)
        yield state
        yield trips


class Joined(Collector):
    """What another registry holds, once it is there."""

    def __init__(self, registry: Callable[[], CollectorRegistry | None]) -> None:
        self._registry = registry

    def describe(self) -> list[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterator[Metric]:
        registry = self._registry()
        if registry is not None:
            yield from registry.collect()


class MeasureRequests:
    """The outermost layer, plain ASGI: it must see the status of errors too, and must not gather streams."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, request_id, ended = 0, "", False
        began = time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status, request_id, ended
            if message["type"] == "http.response.start":
                status = message["status"]
                given = dict(message.get("headers", ())).get(REQUEST_ID, b"")
                request_id = given.decode("latin-1")
            elif message["type"] == "http.response.body" and not message.get("more_body"):
                ended = True
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, watched)
        finally:
            seconds = time.perf_counter() - began
            self._metrics.in_flight.dec()
            self._count(scope, status, request_id, seconds, ended)

    def _count(self, scope: Scope, status: int, request_id: str, seconds: float, ended: bool) -> None:
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = getattr(scope.get("route"), "path", None) or NO_ROUTE
        # 499, as proxies call it: whoever asked has left before there was an answer
        self._metrics.requests.labels(method, route, str(status or 499)).inc()
        self._metrics.seconds.labels(method, route).observe(seconds)
        # as it came over the wire, escaped: nobody writes a line of their own into the log; without its query: it may tell more
        path = (scope.get("raw_path") or scope["path"].encode("ascii", "backslashreplace")).split(b"?")[0].decode("latin-1")
        told = "" if ended else " cut"
        spent = status or 499, told, 1000 * seconds, request_id or "-"
        access.info("%s %s %s%s %.1f ms %s", method, path, *spent, extra={"request_id": request_id or "-"})
