"""The threads that bring changes to their targets: they look when woken, survive a failure, and end with the API."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from lpm_kernel.errors import StoreError
from lpm_kernel.stores.open import Stores
from tests.twin_serving.test_live_turns import eventually
from twin_serving.change_worker import ChangeWorker


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("changes-")]


def test_it_looks_at_once_and_whenever_it_is_woken_and_goes_on_after_any_failure(stores: Stores) -> None:
    looked: list[bool] = []

    def work(_: Stores, stopped: Callable[[], bool], targets: tuple[str, ...]) -> int:
        if targets != ("memories",):
            return 0
        looked.append(stopped())
        if len(looked) == 1:
            raise StoreError("tables_unavailable", "told to")
        if len(looked) == 2:
            raise OSError("told to")
        return 0

    worker = ChangeWorker(stores)
    worker.start(work)
    for times in (1, 2, 3):
        eventually(lambda times=times: len(looked) == times)
        threading.Event().wait(0.02)
        worker.wake()
    eventually(lambda: len(looked) == 4)
    worker.close()
    assert looked == [False] * 4
    assert workers() == []


def test_a_target_that_hangs_holds_up_no_other(stores: Stores) -> None:
    done, hangs = set[str](), threading.Event()

    def work(_: Stores, stopped: Callable[[], bool], targets: tuple[str, ...]) -> int:
        if targets == ("graph",):
            hangs.wait(30)
        done.update(targets)
        return 0

    worker = ChangeWorker(stores)
    worker.start(work)
    try:
        eventually(lambda: done == {"vectors", "memories", "blobs"})
    finally:
        hangs.set()
        worker.close()
    assert workers() == []


def test_closing_tells_the_work_under_way_to_stop(stores: Stores) -> None:
    begun = threading.Event()

    def work(_: Stores, stopped: Callable[[], bool], **__: Any) -> int:
        begun.set()
        eventually(stopped)
        return 0

    worker = ChangeWorker(stores)
    worker.start(work)
    assert begun.wait(30)
    worker.close()
    assert workers() == []


def test_one_that_never_started_can_be_closed(stores: Stores) -> None:
    ChangeWorker(stores).close()
