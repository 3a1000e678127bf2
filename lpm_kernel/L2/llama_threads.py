"""How many threads a lone answer computes with: the others', while nobody else needs them and it is measured to be worth it.

Belongs here: who is at work, what each number of threads took lately, when the other number is tried again.
Does not belong here: telling the library (`llama_native.py`), how many answers there may be at once (`context_pool.py`).

Why measured: alone on its cores, two threads read a prompt nearly twice as fast as one. Beside other programs on the same cores
each waits at every layer for the one that does not run, and two threads were up to a hundred times slower than one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

Work: TypeAlias = Literal["reading", "writing"]
"""Many tokens at once, bound by arithmetic; or few, bound by reading the weights. Threads help each differently."""

TRIAL_SHARE = 0.05
"""Of the time at work, what trying the slower number of threads takes: one that has become the faster is found."""

NEWEST_SHARE = 0.3
"""What the newest measurement counts against all before it."""


class ThreadChoice:
    """For many threads. `most` threads are there for all answers together; one each while several are at work."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._at_work = 0
        self._taken: dict[tuple[Work, int], float] = {}
        """Seconds a unit of work, lately, of the work and the number of threads."""
        self._before_trial: dict[Work, float] = {"reading": 0.0, "writing": 0.0}
        """Seconds of work until the slower number is tried again."""

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with self._lock:
            self._at_work += 1
        try:
            yield
        finally:
            with self._lock:
                self._at_work -= 1

    def choose(self, work: Work) -> int:
        if self._most == 1 or self._at_work != 1:
            return 1
        with self._lock:
            better, other = self._ranked(work)
            unknown = (work, other) not in self._taken
            return other if unknown or self._before_trial[work] <= 0 else better

    def measured(self, work: Work, threads: int, units: float, seconds: float) -> None:
        """Units: of work, so that decodes of different sizes compare."""
        if self._most == 1 or self._at_work != 1:
            return  # beside another answer one thread is another thing
        with self._lock:
            _, slower = self._ranked(work)
            before, new = self._taken.get((work, threads)), seconds / units
            self._taken[work, threads] = new if before is None else before + NEWEST_SHARE * (new - before)
            if threads == slower:
                self._before_trial[work] = seconds / TRIAL_SHARE
            else:
                self._before_trial[work] -= seconds

    def _ranked(self, work: Work) -> tuple[int, int]:
        """Which number of threads is the faster one, and which the other. Unmeasured, one thread is."""
        one, most = self._taken.get((work, 1)), self._taken.get((work, self._most))
        return (self._most, 1) if one is not None and most is not None and most < one else (1, self._most)
