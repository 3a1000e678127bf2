"""One event loop in a thread of its own, for clients that exist only in async form behind ports that are called plainly.

Belongs here: starting it at the first use, running one coroutine to its end, stopping it.
Does not belong here: any client.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

CANCEL_S = 2.0
"""For work that is cancelled to end."""


class BackgroundLoop:
    """Safe to use from many threads, those of a running event loop included."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._given: weakref.WeakSet[Coroutine[Any, Any, Any]] = weakref.WeakSet()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Raises: TimeoutError when it takes longer; it is cancelled then."""
        future = self.submit(work)
        try:
            return future.result(timeout_s)
        finally:
            future.cancel()  # nothing, when it is done

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin it and go on. Whoever has the future may cancel it."""
        self._given.add(work)
        return asyncio.run_coroutine_threadsafe(work, self._started())

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True)
                self._thread.start()
            return self._loop

    def close(self) -> None:
        """What still runs is cancelled. Idempotent; a later `run` starts another."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        # in its own thread: whoever closes may be in a running loop, and there no other can be run
        asyncio.run_coroutine_threadsafe(self._end_all(loop), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    async def _end_all(self, loop: asyncio.AbstractEventLoop) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await _cancel({task for task in others if task.get_coro() in self._given})
        if tidying := asyncio.all_tasks() - {asyncio.current_task()}:  # a client's own: cancelled before they began, they warn
            await asyncio.wait(tidying, timeout=CANCEL_S)
        await _cancel(asyncio.all_tasks() - {asyncio.current_task()})
        await loop.shutdown_asyncgens()
        await loop.shutdown_default_executor()


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CANCEL_S)
