"""The threads that bring changes to the stores they have to reach, beside the answers.

Belongs here: when they look, and that they end with the API.
Does not belong here: what they do (`lpm_kernel/sync/worker.py`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from lpm_kernel.errors import TwinError
from lpm_kernel.stores.changes import TARGETS, Target
from lpm_kernel.stores.open import Stores
from lpm_kernel.sync.worker import work_due_changes

_LOG = logging.getLogger(__name__)
CLOSE_S = 10.0


class ChangeWorker:
    """One thread a target, so that a store that is slow or away holds up nothing but its own queue; several processes may each
    have them. What is not done when it closes is done by the next."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._wakes: dict[Target, threading.Event] = {target: threading.Event() for target in TARGETS}
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, work: Callable[..., int] = work_due_changes) -> None:
        for target in TARGETS:
            thread = threading.Thread(target=self._run, args=(target, work), name=f"changes-{target}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def wake(self, target: Target = "memories") -> None:
        """Look now: something was said."""
        self._wakes[target].set()

    def close(self) -> None:
        self._closed.set()
        for wake in self._wakes.values():
            wake.set()
        for thread in self._threads:
            thread.join(CLOSE_S)

    def _run(self, target: Target, work: Callable[..., int]) -> None:
        wake = self._wakes[target]
        while not self._closed.is_set():
            wake.clear()
            try:
                work(self._stores, stopped=self._closed.is_set, targets=(target,))
            except TwinError as error:
                _LOG.warning("what waits for %s could not be looked for: %s", target, error)
            except Exception as error:
                _LOG.error("the worker of %s goes on after a failure", target, exc_info=error)
            wake.wait(self._stores.settings.changes.poll_s)
