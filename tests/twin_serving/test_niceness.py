"""Whose thread comes first: only that of who steps back changes, with those it starts."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from twin_serving.niceness import NICE, step_back

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="niceness of a thread is Linux's")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_thread_steps_back_with_those_that_it_starts_and_no_other() -> None:
    before = niceness()
    found: list[int] = []

    def work() -> None:
        step_back()
        found.append(niceness())
        child = threading.Thread(target=lambda: found.append(niceness()))
        child.start()
        child.join()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [NICE, NICE]
    assert niceness() == before


def test_an_idle_thread_is_one_with_those_that_it_starts_and_no_other() -> None:
    found: list[int] = []

    def work() -> None:
        step_back("idle")
        found.append(os.sched_getscheduler(0))
        child = threading.Thread(target=lambda: found.append(os.sched_getscheduler(0)))
        child.start()
        child.join()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [os.SCHED_IDLE, os.SCHED_IDLE]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
