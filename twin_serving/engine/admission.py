"""Admission: who may answer now, who waits, and who is told to come back.

Belongs here: the order of turns. Plain: users and places, no model, no HTTP.
Does not belong here: decoding, and what a turn is.

Fair between users: a free place goes to the waiting user whose last turn is longest ago, so that nobody waits while another
gets two turns in a row. Since each turn makes its user the last in that order, nobody waits for more than one turn of each
other user.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from lpm_kernel.errors import LlmError
from lpm_kernel.stores.llm import asker_of_tenant

USERS_REMEMBERED = 10_000
"""Of whom it is known when they had their last turn; older turns are as good as none."""

FIRST_TURN_S = 2.0
"""How long a turn takes, before one was seen."""

NEWEST_SHARE = 0.2
"""Of the newest turn in the mean of turns."""

LONGEST_RETRY_S = 120.0

LOOK_S = 0.2
"""Between two looks whether whoever waits has left."""


@dataclass(slots=True, eq=False)
class Ticket:
    """One turn of a user: it waits, is at work, or is over."""

    user_id: str
    number: int
    """In the order of arrival."""
    ready: threading.Event = field(default_factory=threading.Event)
    begun_at: float | None = None
    """Set while it is at work."""
    over: bool = False


class Admission:
    """At most `places` turns at work, `per_user` of one user; `waiting_per_user` of whoever asks wait, `waiting` of all.

    A user is a tenant: a twin and who asks it. Whoever asks many twins waits in many queues, which are counted as one: else
    they alone could fill everybody's.
    """

    def __init__(
        self,
        *,
        places: int,
        per_user: int,
        waiting_per_user: int,
        waiting: int,
        wait_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = places
        self._per_user = per_user
        self._waiting_per_user = waiting_per_user
        self._most_waiting = waiting
        self._wait_s = wait_s
        self._clock = clock
        self._lock = threading.Lock()
        self._queues: dict[str, deque[Ticket]] = {}
        self._at_work: dict[str, int] = {}
        self._turns: OrderedDict[str, int] = OrderedDict()
        """When each user last had a turn, counted in turns."""
        self._numbers = 0
        self._granted = 0
        self._mean_s = FIRST_TURN_S
        self._closed = False

    def refuse_if_full(self, user_id: str) -> None:
        """Said early, before a question is stored or an adapter loaded. Raises: as `ask`."""
        with self._lock:
            self._check(user_id)

    def ask(self, user_id: str) -> Ticket:
        """A place, or one in the queue; `wait` says when it is at work. Every ticket is to be handed to `leave`.

        Raises: LlmError `too_many_requests` (this user's queue is full), `engine_busy` (everybody's is), `engine_closed`.
        """
        with self._lock:
            self._check(user_id)
            self._numbers += 1
            ticket = Ticket(user_id, self._numbers)
            self._queues.setdefault(user_id, deque()).append(ticket)
            self._grant()
            return ticket

    def wait(self, ticket: Ticket, has_left: Callable[[], bool] | None = None) -> None:
        """Until it is at work. `has_left`, where given, is asked every LOOK_S whether anybody still waits for it.

        Raises: LlmError `engine_busy` after `wait_s`; `listener_left` when it has left; `engine_closed`.
        """
        end = time.monotonic() + self._wait_s
        while (remaining_s := end - time.monotonic()) > 0:
            if ticket.ready.wait(min(LOOK_S, remaining_s) if has_left else remaining_s):
                break
            if has_left and has_left():
                self.quit_waiting(ticket)
        with self._lock:
            if ticket.begun_at is not None:
                return
            if self._closed:
                raise _closed()
            if ticket.over:
                raise LlmError("listener_left", "whoever asked has left before the answer began", retryable=False)
            self._take_out(ticket)
            raise LlmError(
                "engine_busy",
                f"no turn came in {self._wait_s:.0f} s: too many ask at once",
                retry_after_s=self._drain_s(self._count_waiting()),
            )

    def leave(self, ticket: Ticket) -> None:
        """Give back the place, or quit the queue. Idempotent; from any thread."""
        with self._lock:
            if ticket.over:
                return
            if ticket.begun_at is None:
                self._take_out(ticket)
                return
            ticket.over = True
            took_s, ticket.begun_at = self._clock() - ticket.begun_at, None
            self._mean_s += NEWEST_SHARE * (took_s - self._mean_s)
            self._at_work[ticket.user_id] -= 1
            if not self._at_work[ticket.user_id]:
                del self._at_work[ticket.user_id]
            self._grant()

    def quit_waiting(self, ticket: Ticket) -> None:
        """Quit the queue; whoever is at work goes on. From any thread."""
        with self._lock:
            if ticket.begun_at is None and not ticket.over:
                self._take_out(ticket)

    def at_work(self) -> int:
        with self._lock:
            return sum(self._at_work.values())

    def waiting(self) -> int:
        with self._lock:
            return self._count_waiting()

    def close(self) -> None:
        """Admit nobody, and send away who waits. Who is at work goes on."""
        with self._lock:
            self._closed = True
            for queue in list(self._queues.values()):
                for ticket in list(queue):
                    self._take_out(ticket)

    def _check(self, user_id: str) -> None:
        if self._closed:
            raise _closed()
        mine = len(self._queues.get(user_id, ()))
        everybody = self._count_waiting()
        free = sum(self._at_work.values()) < self._places and self._at_work.get(user_id, 0) < self._per_user
        if free and not mine:
            return
        asker = asker_of_tenant(user_id)
        asked = sum(len(queue) for each, queue in self._queues.items() if asker_of_tenant(each) == asker)
        if asked >= self._waiting_per_user:
            # a place in this queue is free again once this user has had a turn: one of each user who waits comes before
            raise LlmError(
                "too_many_requests",
                f"{self._at_work.get(user_id, 0)} answers are being written for this twin and {asked} questions wait",
                retry_after_s=self._drain_s(max(1, len(self._queues))),
            )
        if everybody >= self._most_waiting:
            raise LlmError("engine_busy", f"{everybody} questions wait already", retry_after_s=self._drain_s(max(1, everybody)))

    def _grant(self) -> None:
        """Give every free place to whose turn it is."""
        while sum(self._at_work.values()) < self._places:
            able = [user_id for user_id in self._queues if self._at_work.get(user_id, 0) < self._per_user]
            if not able:
                return
            user_id = min(able, key=lambda user_id: (self._turns.get(user_id, 0), self._queues[user_id][0].number))
            ticket = self._queues[user_id].popleft()
            if not self._queues[user_id]:
                del self._queues[user_id]
            self._granted += 1
            self._turns[user_id] = self._granted
            self._turns.move_to_end(user_id)
            if len(self._turns) > USERS_REMEMBERED:
                self._turns.popitem(last=False)
            self._at_work[user_id] = self._at_work.get(user_id, 0) + 1
            ticket.begun_at = self._clock()
            ticket.ready.set()

    def _take_out(self, ticket: Ticket) -> None:
        ticket.over = True
        ticket.ready.set()
        queue = self._queues[ticket.user_id]
        queue.remove(ticket)
        if not queue:
            del self._queues[ticket.user_id]

    def _count_waiting(self) -> int:
        return sum(map(len, self._queues.values()))

    def _drain_s(self, turns: int) -> float:
        """How long so many turns take from now on, by the mean of those seen."""
        return min(LONGEST_RETRY_S, max(1.0, self._mean_s * turns / self._places))


def _closed() -> LlmError:
    return LlmError("engine_closed", "the language model was closed while an answer was asked for", retryable=False)
