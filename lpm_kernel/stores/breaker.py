"""A circuit breaker: a server that does not answer is left alone for a while, so that a thousand texts do not wait for it.

Belongs here: counting failures in a row, and when the next try is due.
Does not belong here: what a failure is, and retries.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Breaker:
    """Opens after `limit` failures in a row, or at once when told to; one caller may try again each `cool_s` seconds."""

    def __init__(self, limit: int, cool_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._cool_s = cool_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._next_try = 0.0

    def allows(self) -> bool:
        """Whether a call may be made now. While it is open this is true for the first caller of each pause only."""
        with self._lock:
            if self._failures < self._limit:
                return True
            if self._clock() < self._next_try:
                return False
            self._next_try = self._clock() + self._cool_s
            return True

    def succeeded(self) -> None:
        with self._lock:
            self._failures = 0

    def failed(self, *, for_good: bool = False) -> None:
        """`for_good`: the server has answered, and would answer the next call alike."""
        with self._lock:
            self._failures = self._limit if for_good else self._failures + 1
            if self._failures >= self._limit:
                self._next_try = self._clock() + self._cool_s
