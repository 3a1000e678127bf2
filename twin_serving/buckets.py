"""How many requests one user or address may send: a token bucket each, in Redis where it answers, else in this process.

Belongs here: counting.
Does not belong here: who is counted, and what is said to whom has to wait (`middleware/gate.py`).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from lpm_kernel.stores.breaker import Breaker

log = logging.getLogger(__name__)

MAX_BUCKETS = 10_000
REDIS_TIMEOUT_S = 0.5
REDIS_RETRY_S = 5.0
REDIS_CONNECTIONS = 8
"""Of one process; who finds them in use waits a moment: many that are opened at once are slower than few that are kept."""


class Buckets(Protocol):
    async def take(self, key: str) -> float:
        """Take one of what is left. 0: there was one; else the seconds until there is."""
        ...

    async def aclose(self) -> None: ...


class LocalBuckets:
    """Of this process. A bucket holds a minute's worth and fills all the time; the ones not used longest are forgotten."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity, self._per_s = per_minute, per_minute / 60
        self._clock = clock
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def take(self, key: str) -> float:
        if not self._capacity:
            return 0.0
        now = self._clock()
        left, at = self._held.pop(key, (float(self._capacity), now))
        left = min(self._capacity, left + (now - at) * self._per_s)
        wait_s = 0.0 if left >= 1 else (1 - left) / self._per_s
        self._held[key] = (left - 1 if left >= 1 else left, now)
        if len(self._held) > MAX_BUCKETS:
            self._held.popitem(last=False)
        return wait_s

    async def aclose(self) -> None:
        self._held.clear()


class RedisBuckets:
    """Of all processes together. While Redis does not answer, each counts for itself."""

    def __init__(self, url: str, per_minute: int, timeout_s: float = REDIS_TIMEOUT_S) -> None:
        from redis import asyncio as redis  # loaded now: later, the first request would keep all others waiting for it

        self._redis = redis
        self._url, self._per_minute, self._timeout_s = url, per_minute, timeout_s
        self._local = LocalBuckets(per_minute)
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._script: Any = None
        self.breaker = Breaker(1, REDIS_RETRY_S, name="redis")

    async def take(self, key: str) -> float:
        if not self._per_minute:
            return 0.0
        if not self.breaker.allows():
            return await self._local.take(key)
        try:
            wait_ms = await self._opened()(keys=[f"twin:rate:{key}"], args=[self._per_minute, self._per_minute / 60_000])
        except (self._redis.RedisError, OSError) as error:
            if self.breaker.circuit().state == "closed":  # many may have been waiting
                log.warning("Redis does not answer (%s): requests are counted by this process alone", type(error).__name__)
            self.breaker.failed()
            return await self._local.take(key)
        self.breaker.succeeded()
        return int(wait_ms) / 1000

    def _opened(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:  # a connection belongs to the loop it was made in
            pool = self._redis.BlockingConnectionPool.from_url(
                self._url,
                max_connections=REDIS_CONNECTIONS,
                timeout=self._timeout_s,
                socket_timeout=self._timeout_s,
                socket_connect_timeout=self._timeout_s,
                retry=None,
            )
            self._client = self._redis.Redis.from_pool(pool)
            self._loop = loop
            self._script = self._client.register_script(_TAKE)
        return self._script

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None


def open_buckets(redis_url: str | None, per_minute: int) -> Buckets:
    return RedisBuckets(redis_url, per_minute) if redis_url and per_minute else LocalBuckets(per_minute)


def address_key(client: tuple[str, int] | None) -> str:
    """One household is one key: of an IPv6 address its network, since a household has 2^64 of them."""
    host = client[0] if client else "unknown"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"address:{host}"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return f"address:{ipaddress.ip_network((address, 64), strict=False).network_address}"
    return f"address:{address}"


_TAKE = """
local capacity, per_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('HMGET', KEYS[1], 'left', 'at')
local left = tonumber(held[1]) or capacity
left = math.min(capacity, left + math.max(0, now - (tonumber(held[2]) or now)) * per_ms)
local wait = 0
if left >= 1 then left = left - 1 else wait = math.ceil((1 - left) / per_ms) end
redis.call('HSET', KEYS[1], 'left', tostring(left), 'at', now)
redis.call('PEXPIRE', KEYS[1], math.ceil(capacity / per_ms) + 1000)
return wait
"""
