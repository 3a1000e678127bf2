"""What all processes know of their dependencies, in one Redis hash: who found what dead, and when one of them may try again.

Belongs here: reading it at most once a second, and the three things that are written there, each in one step of Redis.
Does not belong here: when a circuit opens (`breaker.py`).

Redis is a dependency too. While it does not answer it is asked each few seconds only, and each process knows what it finds.
All times are those of the Redis server, so that clocks of machines need not agree.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from lpm_kernel.stores.breaker import Circuit

KEY = "twin:breakers"
READ_EACH_S = 1.0
TIMEOUT_S = 0.2
AWAY_S = 5.0
FORGOTTEN_S = 600.0
"""An open circuit that nobody has tried for so long says nothing about its server any more."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Posted:
    """What is known of one dependency."""

    is_open: bool
    rest_s: float
    """Until somebody may try; of an open one."""
    version: int
    """Grows with each change."""
    trips: int

    @property
    def circuit(self) -> Circuit:
        if not self.is_open or self.rest_s < -FORGOTTEN_S:
            return Circuit("closed", self.trips)
        return Circuit("open" if self.rest_s > 0 else "half_open", self.trips)


class Board(Protocol):
    def glance(self, name: str) -> Posted | None:
        """What was known a second ago; None where nothing is, or the others cannot be heard."""
        ...

    def read(self) -> Mapping[str, Posted]: ...

    def claim(self, name: str, cool_s: float) -> tuple[bool, int]:
        """Whether this process is the one that tries now, and the version of that. True when the others cannot be heard."""
        ...

    def trip(self, name: str, cool_s: float) -> int: ...

    def close_circuit(self, name: str) -> int: ...

    def close(self) -> None: ...


class RedisBoard:
    """Connects at the first use; safe to share between threads."""

    def __init__(self, url: str, *, read_each_s: float = READ_EACH_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._url, self._read_each_s, self._clock = url, read_each_s, clock
        self._opening, self._reading = threading.Lock(), threading.Lock()
        self._opened: Any = None
        self._scripts: tuple[Any, Any] | None = None
        self._known: dict[str, Posted] = {}
        self._read_at = float("-inf")
        self._away_until = float("-inf")

    def glance(self, name: str) -> Posted | None:
        posted = self._fresh().get(name)
        if posted is None or not posted.is_open:
            return posted
        return replace(posted, rest_s=posted.rest_s - (self._clock() - self._read_at))

    def read(self) -> Mapping[str, Posted]:
        return dict(self._fresh())

    def claim(self, name: str, cool_s: float) -> tuple[bool, int]:
        granted, version = self._write(name, "claim", cool_s)
        return granted, version

    def trip(self, name: str, cool_s: float) -> int:
        return self._write(name, "trip", cool_s)[1]

    def close_circuit(self, name: str) -> int:
        return self._write(name, "close", 0.0)[1]

    def close(self) -> None:
        """For good: whoever still asks, such as a thread that ends later, hears of nobody."""
        with self._opening:
            opened, self._opened, self._scripts = self._opened, None, None
            self._away_until = float("inf")
        if opened is not None:
            opened.close()

    def _fresh(self) -> dict[str, Posted]:
        """As it was a second ago; one caller reads it anew, and nobody waits for that one."""
        now = self._clock()
        if now - self._read_at < self._read_each_s or now < self._away_until or not self._reading.acquire(blocking=False):
            return self._known
        try:
            answer = self._asked(0, [])
            self._known = {} if answer is None else _posted(answer)
            self._read_at = self._clock()
        finally:
            self._reading.release()
        return self._known

    def _write(self, name: str, deed: str, cool_s: float) -> tuple[bool, int]:
        if self._clock() < self._away_until:
            return True, 0
        answer = self._asked(1, [name, deed, int(cool_s * 1_000_000)])
        return (True, 0) if answer is None else (bool(answer[0]), int(answer[1]))

    def _asked(self, script: int, arguments: list[Any]) -> Any:
        """None when Redis does not answer."""
        import redis

        try:
            return self._script(script)(keys=[KEY], args=arguments)
        except (redis.RedisError, OSError) as error:
            if self._clock() >= self._away_until:  # many may have been waiting
                log.warning("Redis does not answer (%s): circuits are this process's own", type(error).__name__)
            self._away_until = max(self._away_until, self._clock() + AWAY_S)
            self._known = {}
            return None

    def _script(self, which: int) -> Any:
        with self._opening:
            if self._scripts is None:
                from redis import Redis
                from redis.backoff import NoBackoff
                from redis.retry import Retry

                self._opened = Redis.from_url(
                    self._url,
                    socket_timeout=TIMEOUT_S,
                    socket_connect_timeout=TIMEOUT_S,
                    retry=Retry(NoBackoff(), 0),
                    decode_responses=True,
                )
                self._scripts = self._opened.register_script(_READ), self._opened.register_script(_CHANGE)
            return self._scripts[which]


def open_board(redis_url: str | None) -> RedisBoard | None:
    return RedisBoard(redis_url) if redis_url else None


def _posted(answer: list[Any]) -> dict[str, Posted]:
    now, rows = int(answer[0]), answer[1]
    known: dict[str, Posted] = {}
    for name, row in zip(rows[::2], rows[1::2], strict=True):
        state, due, version, trips = row.split()
        known[name] = Posted(state == "open", (int(due) - now) / 1e6, int(version), int(trips))
    return known


_READ = """
local time = redis.call('TIME')
return {string.format('%.0f', time[1] * 1000000 + time[2]), redis.call('HGETALL', KEYS[1])}
"""

# One field a dependency: its state, when a try is due and when this was written, both in microseconds, and its trips.
_CHANGE = """
local name, deed, cool = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local state, due, version, trips = string.match(redis.call('HGET', KEYS[1], name) or 'closed 0 0 0', '(%a+) (%d+) (%d+) (%d+)')
if deed == 'claim' then
  if state == 'closed' then return {1, version} end
  if tonumber(due) > now then return {0, version} end
  due = now + cool
elseif deed == 'trip' then
  if state == 'closed' then trips = trips + 1 end
  state, due = 'open', now + cool
else
  if state == 'closed' then return {1, version} end
  state, due = 'closed', 0
end
now = math.max(now, tonumber(version) + 1)
redis.call('HSET', KEYS[1], name, string.format('%s %.0f %.0f %d', state, due, now, trips))
return {1, string.format('%.0f', now)}
"""
