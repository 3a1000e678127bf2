"""Which threads come first where cores are few: who computes an answer for seconds lets go before who looks something up.

Belongs here: one thread's place in the kernel's queue.
Does not belong here: whose turn it is to be answered (`engine/admission.py`).
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import Literal

NICE = 10
SWITCH_S = 0.001
"""After which a thread that runs Python lets another have its turn, seconds. Python's own 5 ms add up, several a request, to
what a request waits for where answers are put together beside it."""


def step_back(priority: Literal["nice", "idle"] = "nice") -> None:
    """This thread, and those that it starts from now on, come after the others of the machine; with nobody else they lose
    nothing. Where the system knows niceness of whole processes only, nothing changes.

    `nice` has a tenth of a core beside another that is always at work, and lets go of it after some milliseconds only. `idle`
    lets go at once and has next to nothing beside such another. No thread comes back from there without a privilege.
    For threads alone that run next to no Python (`L2/decoding_threads.py` says why).
    """
    if sys.platform != "linux":
        return
    with suppress(OSError):
        if priority == "idle":
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        else:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
