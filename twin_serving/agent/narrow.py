"""Few at a time: a crowd of questions is not looked for in the memory all at once, while one answer after the other is written.

Belongs here: the gate.
Does not belong here: what is done behind it (`graph.py`), and places of the model (`engine/admission.py`).

Why: fifty turns that begin in one second, each with searches of its own, kept who only looks something up waiting for a second.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Narrow:
    """`width` go through at a time. Safe between threads."""

    def __init__(self, width: int, wait_s: float) -> None:
        self._free = threading.BoundedSemaphore(width)
        self._wait_s = wait_s

    @contextmanager
    def through(self) -> Iterator[None]:
        """Waits its turn, `wait_s` at most, and then goes all the same: a store that hangs for one must not stop the others."""
        mine = self._free.acquire(timeout=self._wait_s)
        try:
            yield
        finally:
            if mine:
                self._free.release()
