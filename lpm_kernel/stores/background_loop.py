"""One event loop in a thread of its own, for clients that exist only in async form behind ports that are called plainly.

Belongs here: starting it at the first use, running one coroutine to its end, stopping it.
Does not belong here: any client.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """Safe to use from many threads, those of a running event loop included."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Raises: TimeoutError when it takes longer; it is cancelled then."""
        future = self.submit(work)
        try:
            return future.result(timeout_s)
        finally:
            future.cancel()  # nothing, when it is done

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin it and go on. Whoever has the future may cancel it."""
        return asyncio.run_coroutine_threadsafe(work, self._started())

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True)
                self._thread.start()
            return self._loop

    def close(self) -> None:
        """Idempotent; a later `run` starts another."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        # in its own thread: whoever closes may be in a running loop, and there no other can be run
        asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
