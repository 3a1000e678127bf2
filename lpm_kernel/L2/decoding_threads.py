"""Threads that do nothing but decode, so that their place in the system's queue is theirs alone.

Belongs here: handing one call of the library to such a thread, and waiting for it.
Does not belong here: what is called (`llama_native.py`), and which place a thread takes (`twin_serving/niceness.py`).

Why not the caller's own thread: one that comes after all others on the cores must hold no lock that they want. Python has one
for all, and a thread that lost its core while it held that lock kept every request of the process waiting, for 100 ms and more.
Here a thread holds it for some microseconds around a call that takes milliseconds without it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class DecodingThreads:
    """At most `most` threads, each started when first needed. `prepare` is what a new one does first."""

    def __init__(self, most: int, prepare: Callable[[], None]) -> None:
        self._pool = ThreadPoolExecutor(most, "decode", initializer=prepare)

    def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """What `call` returns, or raises. `call` gives up Python's lock, as every function of a C library does."""
        return self._pool.submit(call, *arguments).result()

    def close(self) -> None:
        self._pool.shutdown()
