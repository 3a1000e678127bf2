"""Returning freed memory to the system, where the C library would keep it for later.

Belongs here: that one call. Does not belong here: deciding what to free.
"""

from __future__ import annotations

import contextlib
import ctypes


def give_back_freed_memory() -> None:
    """Ask glibc to return what it holds free; elsewhere nothing happens.

    Why: glibc keeps it (85-190 MB after evicting adapters, more after training), and several processes share one machine.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
