"""Turns that are under way, apart from whoever listens: listeners come, leave and come back, and the turn goes on.

Belongs here: one turn as its listeners see it, and the bounded registry of all of them.
Does not belong here: what a turn does (`talk.py`) and its form on the wire (`events.py`).

An event is a place in the answer: 0 is its start, k the words up to the k-th character, and one more than all of them the end.
So whoever has a number can be told exactly what comes after it, by this process or out of the stored answer.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Literal

from lpm_kernel.errors import LlmError
from lpm_kernel.settings import ServingSettings

BEFORE_THE_START = -1
CLOSE_S = 5.0
"""How long closing waits for turns to keep what was said."""

EventName = Literal["start", "token", "done", "error"]


@dataclass(frozen=True, slots=True)
class TurnEvent:
    number: int
    name: EventName
    content: Any


class LiveTurn:
    """One turn. Its own thread calls `start`, `say`, `end` or `fail` and asks `is_left`; listeners use the rest."""

    def __init__(self, user_id: str, message_id: str, serving: ServingSettings, clock: Callable[[], float]) -> None:
        self.user_id, self.message_id = user_id, message_id
        self.asker: str | None = None
        """Who asked, where it is not the person."""
        self.asked: tuple[str, str] | None = None
        """Of one with a key: the session and the question, which may not be stored yet."""
        self.turn: Any = None
        """What is under way, from its start on, for a listener who tells it in another form than its events."""
        self.error: Exception | None = None
        """Why it failed, once it did."""
        self.result: Any = None
        """What it ended with, for a listener who wants no events."""
        self.dropped = False
        """Whether its user is deleted: who comes for it is told of none."""
        self.serving = serving
        self._clock = clock
        self._lock = threading.Lock()
        self._born = clock()
        self._left_at: float | None = self._born  # nobody has come yet
        self._listeners = 0
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._start: TurnEvent | None = None
        self._said = ""
        self._ends: list[int] = []
        self._end: TurnEvent | None = None
        self._ended_at = 0.0
        self._closing = False

    def start(self, content: Any) -> None:
        self._change(lambda: setattr(self, "_start", TurnEvent(0, "start", content)))

    def say(self, piece: str) -> None:
        def add() -> None:
            self._said += piece
            self._ends.append(len(self._said))

        self._change(add)

    def end(self, content: Any, result: Any) -> None:
        """The first end stands."""

        def close() -> None:
            self.result = result  # first: whoever sees the end reads it
            self._set_end("done", content)

        self._change(close)

    def fail(self, error: Exception, content: Any) -> None:
        def close() -> None:
            self.error = error
            self._set_end("error", content)

        self._change(close)

    def is_left(self) -> bool:
        """Whether the rest need not be said: nobody listened for `serving.resume_s`, its life is over, or all is closing."""
        with self._lock:
            now = self._clock()
            alone = self._left_at is not None and now - self._left_at >= self.serving.resume_s
            return self._closing or self._end is not None or alone or now - self._born >= self.serving.turn_life_s

    @property
    def said(self) -> str:
        with self._lock:
            return self._said

    @property
    def has_started(self) -> bool:
        return self._start is not None

    @property
    def has_begun(self) -> bool:
        return self._start is not None or self._end is not None

    @property
    def has_ended(self) -> bool:
        return self._end is not None

    @property
    def last_number(self) -> int:
        """Of the newest event."""
        with self._lock:
            if self._end is not None:
                return self._end.number
            return len(self._said) if self._start is not None else BEFORE_THE_START

    def is_over(self) -> bool:
        """Whether nobody needs it here any more."""
        with self._lock:
            return self._end is not None and self._clock() - self._ended_at >= self.serving.resume_s

    def life_left_s(self) -> float:
        return self.serving.turn_life_s - (self._clock() - self._born)

    def events_after(self, number: int) -> list[TurnEvent]:
        """Those that there are, in order; the words of a piece that `number` is in the middle of are its rest."""
        with self._lock:
            found = [self._start] if self._start is not None and number < 0 else []
            place = max(0, number)
            for end in self._ends:
                if end > place:
                    found.append(TurnEvent(end, "token", {"text": self._said[place:end]}))
                    place = end
            if self._end is not None and number < self._end.number:
                found.append(self._end)
            return found

    @contextmanager
    def heard(self) -> Iterator[None]:
        """While in here somebody listens."""
        with self._lock:
            self._listeners += 1
            self._left_at = None
        try:
            yield
        finally:
            with self._lock:
                self._listeners -= 1
                if not self._listeners:
                    self._left_at = self._clock()

    async def wait(self, ready: Callable[[], Any], timeout_s: float) -> bool:
        """Until `ready` holds, looked at after each change; False when it did not in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            changed = asyncio.Event()
            ticket = asyncio.get_running_loop(), changed
            with self._lock:
                self._waiting.append(ticket)
            try:
                if ready():
                    return True
                await asyncio.wait_for(changed.wait(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                return bool(ready())
            finally:
                with self._lock, suppress(ValueError):
                    self._waiting.remove(ticket)

    def close(self) -> None:
        """Ask its thread to stop at the next piece."""
        with self._lock:
            self._closing = True

    def _set_end(self, name: EventName, content: Any) -> None:
        self._end = TurnEvent(len(self._said) + 1, name, content)
        self._ended_at = self._clock()

    def _change(self, change: Callable[[], None]) -> None:
        with self._lock:
            if self._end is not None:
                return
            change()
            waiting, self._waiting = self._waiting, []
        for loop, changed in waiting:
            with suppress(RuntimeError):  # the loop of a listener who is gone is closed
                loop.call_soon_threadsafe(changed.set)


class LiveTurns:
    """All turns of this process that are under way or ended a moment ago, each in a thread of its own; safe between threads.

    Why a thread each: with those of all other requests, waiting turns would keep the turns they wait for from going on.
    """

    def __init__(self, serving: ServingSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.serving = serving
        self._clock = clock
        self._lock = threading.Lock()
        self._turns: OrderedDict[tuple[str, str], tuple[LiveTurn, threading.Thread]] = OrderedDict()
        self._closed = False

    def begin(
        self,
        user_id: str,
        message_id: str,
        work: Callable[[LiveTurn], None],
        asker: str | None = None,
        asked: tuple[str, str] | None = None,
    ) -> LiveTurn:
        """Begin a turn. Raises: LlmError `turns_busy` (retryable) when there are too many, or all is closing."""
        turn = LiveTurn(user_id, message_id, self.serving, self._clock)
        turn.asker, turn.asked = asker, asked
        # in the request's context: its id stands in what the turn writes, and nobody else's rows are open to it
        thread = threading.Thread(target=copy_context().run, args=(work, turn), name=f"turn-{message_id[:8]}", daemon=True)
        with self._lock:
            self._make_room()
            if self._closed or len(self._turns) >= self.serving.live_turns:
                raise LlmError("turns_busy", f"{len(self._turns)} answers are under way: too many ask at once")
            try:
                thread.start()
            except RuntimeError as error:  # the system has no thread left
                raise LlmError("turns_busy", "no thread can be had for this answer: too many ask at once") from error
            self._turns[user_id, message_id] = turn, thread
        return turn

    def get(self, user_id: str, message_id: str) -> LiveTurn | None:
        """The turn of this answer, of this user and nobody else."""
        with self._lock:
            found = self._turns.get((user_id, message_id))
            return found[0] if found and not found[0].dropped and not found[0].is_over() else None

    def drop(self, user_id: str) -> None:
        """What was said to this user or by their twin is told nobody any more; turns under way end at their next piece."""
        with self._lock:
            theirs = [(key, turn) for key, (turn, _) in self._turns.items() if user_id in (turn.user_id, turn.asker)]
            for key, turn in theirs:
                turn.close()
                if turn.has_ended:
                    del self._turns[key]
                else:
                    turn.dropped = True  # it is waited for when all closes

    def __len__(self) -> int:
        """How many are under way."""
        with self._lock:
            return sum(not turn.has_ended for turn, _ in self._turns.values())

    def close(self) -> None:
        """Begin no more, end those under way, and wait until what they said is stored."""
        with self._lock:
            self._closed = True
            turns = list(self._turns.values())
        for turn, _ in turns:
            turn.close()
        deadline = time.monotonic() + CLOSE_S
        for _, thread in turns:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _make_room(self) -> None:
        for key, (turn, _) in list(self._turns.items()):
            if turn.is_over():
                del self._turns[key]
        ended = [key for key, (turn, _) in self._turns.items() if turn.has_ended]
        for key in ended[: max(0, len(self._turns) + 1 - self.serving.live_turns)]:
            del self._turns[key]
