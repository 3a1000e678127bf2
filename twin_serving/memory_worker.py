"""The thread that takes what was said into memory, beside the answers.

Belongs here: when it looks, and that it ends with the API.
Does not belong here: what it writes (`lpm_kernel/recall/memory_queue.py`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from lpm_kernel.errors import TwinError
from lpm_kernel.recall.memory_queue import write_due_memories
from lpm_kernel.stores.open import Stores

_LOG = logging.getLogger(__name__)
CLOSE_S = 10.0


class MemoryWorker:
    """One thread; several processes may each have one. What is not written when it closes is written by the next."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, work: Callable[..., int] = write_due_memories) -> None:
        self._thread = threading.Thread(target=self._run, args=(work,), name="memory-worker", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look now: something was said."""
        self._wake.set()

    def close(self) -> None:
        self._closed.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _run(self, work: Callable[..., int]) -> None:
        while not self._closed.is_set():
            self._wake.clear()
            try:
                work(self._stores, stopped=self._closed.is_set)
            except TwinError as error:
                _LOG.warning("what waits for memory could not be looked for: %s", error)
            except Exception as error:
                _LOG.error("the memory worker goes on after a failure", exc_info=error)
            self._wake.wait(self._stores.settings.serving.memory_poll_s)
