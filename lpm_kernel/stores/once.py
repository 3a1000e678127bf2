"""Once in a while: what several processes would say at the same time is said by one of them.

Belongs here: the mark that it was said, in Redis where that answers, else in this process.
Does not belong here: what is said (`alerts.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from lpm_kernel.records import sha256_hex

PREFIX = "twin:once:"
TIMEOUT_S = 0.5
MOST_HELD = 10_000

log = logging.getLogger(__name__)


class Once:
    """`first` is true for one caller a key and time. Safe to share between threads; a connection is made for each question."""

    def __init__(self, redis_url: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis_url, self._clock = redis_url, clock
        self._until: dict[str, float] = {}

    def first(self, key: str, for_s: int) -> bool:
        """Whether nobody has asked for this key within `for_s` seconds; from now on somebody has. 0: always true."""
        if for_s <= 0:
            return True
        now = self._clock()
        if self._until.get(key, now) > now:
            return False
        if not self._first_of_all(key, for_s):
            return False
        if len(self._until) >= MOST_HELD:
            self._until = {held: until for held, until in self._until.items() if until > now}
        self._until[key] = now + for_s
        return True

    def forget(self, key: str) -> None:
        """The next caller is the first again: what was to be said could not be."""
        self._until.pop(key, None)
        self._ask(lambda client: client.delete(_name(key)))

    def _first_of_all(self, key: str, for_s: int) -> bool:
        answer = self._ask(lambda client: [client.set(_name(key), "1", nx=True, ex=for_s)])
        return answer is None or bool(answer[0])

    def _ask(self, question: Callable[..., object]) -> list[object] | None:
        """None where Redis does not answer, or none is there."""
        if not self._redis_url:
            return None
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        limits = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
        try:
            with redis.Redis.from_url(self._redis_url, retry=Retry(NoBackoff(), 0), **limits) as client:
                answer = question(client)
                return answer if isinstance(answer, list) else []
        except (redis.RedisError, OSError) as error:
            log.warning("Redis does not answer (%s): this process alone knows what it has said", type(error).__name__)
            return None


def _name(key: str) -> str:
    """By its hash: a key names people, and Redis' own tools show keys."""
    return PREFIX + sha256_hex(key.encode())[:32]
