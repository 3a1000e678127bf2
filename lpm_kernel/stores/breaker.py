"""A circuit breaker: a server that does not answer is left alone for a while, so that a thousand texts do not wait for it.

Belongs here: counting failures in a row, when the next try is due, and the breakers of one process by name.
Does not belong here: what a failure is, retries, and how processes tell each other (`breaker_board.py`).

    closed      every call is made
    open        after `limit` failures in a row: none is, until the pause has passed
    half-open   the pause has passed: one caller may try; its success closes the circuit, its failure begins another pause

A breaker with a name and a board shares its state: what one process found dead, none of the others tries out by itself, and one
of all of them tries again. Without Redis each process counts for itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lpm_kernel.errors import TwinError

if TYPE_CHECKING:
    from lpm_kernel.stores.breaker_board import Board, Posted

State = Literal["closed", "half_open", "open"]
STATES: tuple[State, ...] = ("closed", "half_open", "open")
"""From the best to the worst."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Circuit:
    """How one dependency stands. `trips`: how often its circuit was opened."""

    state: State
    trips: int


class Breaker:
    """Opens after `limit` failures in a row, or at once when told to; one caller may try again each `cool_s` seconds."""

    def __init__(
        self,
        limit: int,
        cool_s: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        name: str = "",
        board: Board | None = None,
    ) -> None:
        self.name = name
        self._limit = limit
        self._cool_s = cool_s
        self._clock = clock
        self._board = board if name else None
        self._lock = threading.Lock()
        self._failures = 0
        self._next_try = 0.0
        self._trying = False
        self._trips = 0
        self._seen = 0
        """Version of what the board said last, or was told; an older one is no news."""

    def allows(self) -> bool:
        """Whether a call may be made now. While it is open this is true for the first caller of each pause only."""
        posted = self._board.glance(self.name) if self._board else None
        with self._lock:
            if posted is not None and posted.version > self._seen:
                self._heed(posted)
            if self._failures < self._limit:
                return True
            if self._clock() < self._next_try:
                return False
            self._next_try = self._clock() + self._cool_s
            self._trying = True
        if self._board is None:
            return True
        granted, version = self._board.claim(self.name, self._cool_s)
        with self._lock:
            self._seen = max(self._seen, version)
            self._trying = granted
        return granted

    @contextmanager
    def guarding(self, resting: Callable[[], TwinError], failed: Callable[[TwinError], bool]) -> Iterator[None]:
        """Make a call unless the circuit is open, and count how it went: an error that is not `failed` is an answer.

        Raises: `resting()` while it is open; what the call raises.
        """
        if not self.allows():
            raise resting()
        try:
            yield
        except TwinError as error:
            if failed(error):
                self.failed()
            else:
                self.succeeded()
            raise
        self.succeeded()

    def succeeded(self) -> None:
        with self._lock:
            was_open, self._failures, self._trying = self._failures >= self._limit, 0, False
        if was_open and self.name:
            log.info("%s answers again", self.name)
            if self._board:
                self._told(self._board.close_circuit(self.name))

    def failed(self, *, for_good: bool = False) -> None:
        """`for_good`: the server has answered, and would answer the next call alike. That stays in this process: it is this
        one's key or model that is wrong."""
        with self._lock:
            was_open = self._failures >= self._limit
            self._failures = self._limit if for_good else self._failures + 1
            self._trying = False
            is_open = self._failures >= self._limit
            if is_open:
                self._next_try = self._clock() + self._cool_s
                self._trips += not was_open
        if is_open and not was_open and self.name:
            log.warning("%s does not answer and is left alone; the next try is due in %g s", self.name, self._cool_s)
        if is_open and self._board and not for_good:
            self._told(self._board.trip(self.name, self._cool_s))

    def circuit(self) -> Circuit:
        with self._lock:
            if self._failures < self._limit:
                return Circuit("closed", self._trips)
            trying = self._trying or self._clock() >= self._next_try
            return Circuit("half_open" if trying else "open", self._trips)

    def _heed(self, posted: Posted) -> None:
        """What another process found."""
        self._seen = posted.version
        self._trying = False
        if posted.is_open:
            self._failures = self._limit
            self._next_try = self._clock() + posted.rest_s
        else:
            self._failures = 0

    def _told(self, version: int) -> None:
        with self._lock:
            self._seen = max(self._seen, version)


class Breakers:
    """The breakers of one process by the name of what they guard; `close()` ends the connection to the others."""

    def __init__(self, board: Board | None = None) -> None:
        self._board = board
        self._lock = threading.Lock()
        self._held: dict[str, Breaker] = {}

    def named(self, name: str, limit: int, cool_s: float) -> Breaker:
        """One a name: who asks again gets the same."""
        with self._lock:
            return self._held.setdefault(name, Breaker(limit, cool_s, name=name, board=self._board))

    def add(self, breaker: Breaker) -> None:
        """One that somebody made for themself."""
        with self._lock:
            self._held[breaker.name] = breaker

    def circuits(self) -> Mapping[str, Circuit]:
        """Of this process, and of all others that told: the worse of the two. Sorted by name."""
        with self._lock:
            held = {name: breaker.circuit() for name, breaker in self._held.items()}
        for name, posted in (self._board.read() if self._board else {}).items():
            told, own = posted.circuit, held.get(name, Circuit("closed", 0))
            worse = max((own.state, told.state), key=STATES.index)
            held[name] = Circuit(worse, max(own.trips, told.trips))
        return dict(sorted(held.items()))

    def open_now(self) -> dict[str, State]:
        """Those that are not closed."""
        return {name: circuit.state for name, circuit in self.circuits().items() if circuit.state != "closed"}

    def close(self) -> None:
        if self._board is not None:
            self._board.close()
