"""Places to decode in, each lent to one caller at a time, first come first served, so many at a time.

Belongs here: waiting, and which free place suits a caller best.
Does not belong here: what is done in a place (`llama.py`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from lpm_kernel.errors import LlmError
from lpm_kernel.L2.llama_native import Context

Owner: TypeAlias = tuple[str, str | None]
"""Tenant, and sha256 of the adapter if there is one."""


@dataclass(slots=True, eq=False)
class Place:
    """A context, made when first needed, and what its first sequence holds."""

    context: Context | None = None
    owner: Owner | None = None
    """Whom the held tokens were computed for; for any other they are forgotten."""
    held: list[int] = field(default_factory=list)

    def close(self) -> None:
        if self.context:
            self.context.close()
        self.context, self.owner, self.held = None, None, []


class ContextPool:
    """`size` places are lent at a time. `kept` of them, if more, stay as their owners left them until another needs one.

    Why more than are lent: who comes back finds the beginning of the conversation computed, whoever was served in between.
    """

    def __init__(self, size: int, kept: int = 0) -> None:
        self._free = [Place() for _ in range(max(size, kept))]
        """Those never used first, then the longest unused."""
        self._may_lend = size
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()
        self._closed = False

    @contextmanager
    def lend(self, owner: Owner, wait_s: float | None = None) -> Iterator[Place]:
        """Wait for a place; the one that last served this owner, else the one unused for longest.

        Raises: LlmError `engine_busy` (retryable) when none was free for `wait_s`; `engine_closed`.
        """
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                free = self._changed.wait_for(lambda: self._closed or (self._may_lend and self._queue[0] is ticket), wait_s)
                if self._closed:
                    raise engine_closed()
                if not free:
                    raise LlmError("engine_busy", f"no place became free in {wait_s:.0f} s: too many ask at once")
                place = next((place for place in self._free if place.owner == owner), self._free[0])
                self._free.remove(place)
                self._may_lend -= 1
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
        try:
            yield place
        finally:
            with self._changed:
                self._free.append(place)
                self._may_lend += 1
                self._changed.notify_all()

    def waiting(self) -> int:
        """How many ask for a place now, those about to get one included."""
        return len(self._queue)

    def refuse(self) -> None:
        """Lend no more, and send away those who wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """Free the contexts. Nothing may be lent any more."""
        self.refuse()
        for place in self._free:
            place.close()


def engine_closed() -> LlmError:
    return LlmError("engine_closed", "the language model was closed while an answer was asked for", retryable=False)
