"""One answer on its way: waits for its turn, passes the pieces on, and gives its place back when it ends or is left.

Belongs here: the life of one stream, and that it can be closed from another thread.
Does not belong here: the order of turns (`admission.py`), what is counted (`metrics.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

from lpm_kernel.answering import LEFT
from lpm_kernel.errors import LlmError
from twin_serving.engine.admission import Admission, Ticket


class Watch(Protocol):
    """What is told of a stream as it goes."""

    def queued(self) -> None: ...
    def admitted(self) -> None: ...
    def piece(self) -> None: ...
    def ended(self, outcome: str) -> None:
        """`outcome`: done, left, or the code of an error."""
        ...


class _Leaving:
    """Shared by a stream and what it runs; the stream itself is not, so that one which is dropped ends at once."""

    def __init__(self, has_left: Callable[[], bool] | None) -> None:
        self.asked = False
        self.has_left = has_left
        self.ticket: Ticket | None = None


class AnswerStream(Iterator[str]):
    """Pieces of one answer. Nothing is held before the first is asked for.

    `close()` may be called from any thread: who waits for a turn is taken out of the queue at once, who is at work stops with
    the piece being written. An answer that others end than its reader ends with `listener_left`, never quietly: what was read
    would pass for the whole of it.
    """

    def __init__(
        self,
        admission: Admission,
        user_id: str,
        pieces: Iterator[str],
        watch: Watch,
        has_left: Callable[[], bool] | None = None,
        ticket: Ticket | None = None,
    ) -> None:
        """`has_left`: asked while it waits and after each piece whether anybody still listens. `ticket`: of the turn that this
        answers, where it is booked; it is booked again afterwards.
        """
        self._admission = admission
        self._leaving = _Leaving(has_left)
        self._run = _run(admission, user_id, pieces, watch, self._leaving, ticket)
        self._state = threading.Lock()
        self._reader: int | None = None
        self._busy = False
        self._closed = False
        self._cut = False
        """Whether another thread than its reader's has closed it."""

    def __next__(self) -> str:
        with self._state:
            self._reader = threading.get_ident()
            if self._leaving.asked:
                if self._cut:
                    raise _left()
                raise StopIteration
            self._busy = True
        try:
            return next(self._run)
        finally:
            with self._state:
                self._busy = False
                mine = self._leaving.asked and not self._closed
                self._closed = self._closed or mine
            if mine:
                self._run.close()

    def close(self) -> None:
        with self._state:
            self._leaving.asked = True
            self._cut = self._reader not in (None, threading.get_ident())
            mine = not self._busy and not self._closed
            self._closed = self._closed or mine
        ticket = self._leaving.ticket
        if ticket is not None:
            self._admission.quit_waiting(ticket)
        if mine:
            self._run.close()


def _run(
    admission: Admission, user_id: str, pieces: Iterator[str], watch: Watch, leaving: _Leaving, booked: Ticket | None
) -> Generator[str, None, None]:
    outcome = "left"
    ticket = None
    try:
        watch.queued()
        ticket = booked or admission.ask(user_id)
        leaving.ticket = ticket
        if leaving.asked:
            admission.quit_waiting(ticket)
        admission.wait(ticket, leaving.has_left)
        watch.admitted()
        for piece in pieces:
            watch.piece()
            yield piece
            if leaving.has_left is not None and leaving.has_left():
                raise _left()
        outcome = "done"
    except LlmError as error:
        outcome = "left" if error.code == LEFT else error.code
        raise
    except Exception:
        outcome = "unforeseen"
        raise
    finally:
        close = getattr(pieces, "close", None)
        try:
            if close is not None:
                close()
        finally:
            leaving.ticket = None  # another answer of its turn may wait with it
            if booked is not None:
                admission.rest(booked)
            elif ticket is not None:
                admission.leave(ticket)
            watch.ended(outcome)


def _left() -> LlmError:
    return LlmError(LEFT, "whoever asked has left before the answer ended", retryable=False)
