"""Which threads come first where cores are few: who computes an answer for seconds lets go before who looks something up.

Belongs here: one thread's place in the kernel's queue.
Does not belong here: whose turn it is to be answered (`engine/admission.py`).
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

NICE = 10
SWITCH_S = 0.001
"""After which a thread that runs Python lets another have its turn, seconds. Python's own 5 ms add up, several a request, to
what a request waits for where answers are put together beside it."""


def step_back() -> None:
    """This thread, and those that it starts from now on, come after the others of the machine; with nobody else they lose
    nothing. Where the system knows niceness of whole processes only, nothing changes.

    For threads alone that run next to no Python (`L2/decoding_threads.py` says why).
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
