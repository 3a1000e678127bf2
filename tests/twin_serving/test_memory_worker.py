"""The thread that takes what was said into memory: it looks when it is woken, survives a failure, and ends with the API."""

from __future__ import annotations

import threading
from collections.abc import Callable

from lpm_kernel.errors import StoreError
from lpm_kernel.stores.open import Stores
from tests.twin_serving.test_live_turns import eventually
from twin_serving.memory_worker import MemoryWorker


def test_it_looks_at_once_and_whenever_it_is_woken_and_goes_on_after_any_failure(stores: Stores) -> None:
    looked = []

    def work(_: Stores, stopped: Callable[[], bool]) -> int:
        looked.append(stopped())
        if len(looked) == 1:
            raise StoreError("tables_unavailable", "told to")
        if len(looked) == 2:
            raise OSError("told to")
        return 0

    worker = MemoryWorker(stores)
    worker.start(work)
    for times in (1, 2, 3):
        eventually(lambda times=times: len(looked) == times)
        threading.Event().wait(0.02)
        worker.wake()
    eventually(lambda: len(looked) == 4)
    worker.close()
    assert looked == [False] * 4
    assert not any(thread.name == "memory-worker" for thread in threading.enumerate())


def test_closing_tells_the_work_under_way_to_stop(stores: Stores) -> None:
    begun = threading.Event()

    def work(_: Stores, stopped: Callable[[], bool]) -> int:
        begun.set()
        eventually(stopped)
        return 0

    worker = MemoryWorker(stores)
    worker.start(work)
    begun.wait(10)
    worker.close()
    assert not any(thread.name == "memory-worker" for thread in threading.enumerate())


def test_one_that_never_started_can_be_closed(stores: Stores) -> None:
    MemoryWorker(stores).close()
