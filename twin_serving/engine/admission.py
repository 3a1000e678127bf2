"""Admission: who may answer now, who waits, and who is told to come back.

Belongs here: the order of turns. Plain: users and places, no model, no HTTP.
Does not belong here: decoding, and what a turn is.

Fair between users: a free place goes to the waiting user whose last turn is longest ago, so that nobody waits while another
gets two turns in a row. Since each turn makes its user the last in that order, nobody waits for more than one turn of each
other user.

A turn is counted from its booking, before anything of it is stored, and asks for its place when it can use it. So whoever is
let in is not refused later for there being too many, and recall keeps nobody from a place.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lpm_kernel.answering import LEFT
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
    """One turn of a user: it is booked, waits, is at work, or is over."""

    user_id: str
    number: int
    """In the order of arrival."""
    ready: threading.Event = field(default_factory=threading.Event)
    begun_at: float | None = None
    """Set while it is at work."""
    queued: bool = False
    elsewhere: bool = False
    """At work, or to be, where it takes none of the places."""
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
        self._pending: Counter[str] = Counter()
        """How many turns of each user are booked or wait."""
        self._at_work: Counter[str] = Counter()
        self._taken = 0
        """Of the places."""
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

    def book(self, user_id: str) -> Ticket:
        """A turn that is counted from now on, and asks for its place by `wait`. Every ticket is to be handed to `leave`.

        Raises: as `ask`.
        """
        with self._lock:
            return self._book(user_id)

    def ask(self, user_id: str) -> Ticket:
        """A place, or one in the queue; `wait` says when it is at work. Every ticket is to be handed to `leave`.

        Raises: LlmError `too_many_requests` (this user's queue is full), `engine_busy` (everybody's is), `engine_closed`.
        """
        with self._lock:
            ticket = self._book(user_id)
            self._join(ticket)
            return ticket

    def wait(self, ticket: Ticket, has_left: Callable[[], bool] | None = None, *, elsewhere: bool = False) -> None:
        """Until it is at work. `has_left`, where given, is asked every LOOK_S whether anybody still waits for it.

        One that is booked joins the queue; `elsewhere`, for work that is one of its user's and takes none of the places.
        Raises: LlmError `engine_busy` after `wait_s`; `listener_left` when it has left; `engine_closed`.
        """
        with self._lock:
            if ticket.begun_at is None and not ticket.queued and not ticket.over:
                if self._closed:
                    raise _closed()
                ticket.elsewhere = elsewhere
                self._join(ticket)
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
                raise LlmError(LEFT, "whoever asked has left before the answer began", retryable=False)
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
            self._end_work(ticket)
            self._grant()

    def rest(self, ticket: Ticket) -> None:
        """Give back the place and stay booked: the turn goes on, and may ask for another. Nothing where it is not at work."""
        with self._lock:
            if ticket.begun_at is not None:
                self._end_work(ticket)
                ticket.ready.clear()
                self._pending[ticket.user_id] += 1
                self._grant()

    def quit_waiting(self, ticket: Ticket) -> None:
        """Quit the queue; whoever is at work goes on. From any thread."""
        with self._lock:
            if ticket.begun_at is None and not ticket.over:
                self._take_out(ticket)

    def at_work(self) -> int:
        with self._lock:
            return self._at_work.total()

    def booked(self) -> int:
        """Turns that are counted and ask for no place now."""
        with self._lock:
            return self._pending.total() - self._count_waiting()

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
        at_work, free = self._at_work[user_id], self._places - self._taken
        if self._pending[user_id] + at_work < self._per_user and self._able(self._pending) < free:
            return
        asker = asker_of_tenant(user_id)
        asked = self._beyond([each for each in self._pending if asker_of_tenant(each) == asker])
        if asked >= self._waiting_per_user:
            # a place in this queue is free again once this user has had a turn: one of each user who waits comes before
            raise LlmError(
                "too_many_requests",
                f"{at_work} answers are being written for this twin and {asked} questions wait",
                retry_after_s=self._drain_s(max(1, len(self._pending))),
            )
        everybody = self._beyond(self._pending)
        if everybody >= self._most_waiting:
            raise LlmError("engine_busy", f"{everybody} questions wait already", retry_after_s=self._drain_s(max(1, everybody)))

    def _able(self, users: Iterable[str]) -> int:
        """How many of their turns that are not at work could be, if there were places."""
        return sum(min(self._pending[user_id], self._per_user - self._at_work[user_id]) for user_id in users)

    def _beyond(self, users: Iterable[str]) -> int:
        """How many of them would wait if all asked for their place now."""
        users = list(users)
        pending = sum(self._pending[user_id] for user_id in users)
        return pending - min(self._able(users), self._places - self._taken)

    def _book(self, user_id: str) -> Ticket:
        self._check(user_id)
        self._numbers += 1
        self._pending[user_id] += 1
        return Ticket(user_id, self._numbers)

    def _join(self, ticket: Ticket) -> None:
        ticket.queued = True
        self._queues.setdefault(ticket.user_id, deque()).append(ticket)
        self._grant()

    def _grant(self) -> None:
        """Give every free place to whose turn it is."""
        while True:
            able = [user_id for user_id, queue in self._queues.items() if self._may_begin(queue[0])]
            if not able:
                return
            user_id = min(able, key=lambda user_id: (self._turns.get(user_id, 0), self._queues[user_id][0].number))
            ticket = self._queues[user_id][0]
            self._unqueue(ticket)
            self._granted += 1
            self._turns[user_id] = self._granted
            self._turns.move_to_end(user_id)
            if len(self._turns) > USERS_REMEMBERED:
                self._turns.popitem(last=False)
            self._at_work[user_id] += 1
            self._taken += not ticket.elsewhere
            ticket.begun_at = self._clock()
            ticket.ready.set()

    def _may_begin(self, ticket: Ticket) -> bool:
        return self._at_work[ticket.user_id] < self._per_user and (ticket.elsewhere or self._taken < self._places)

    def _end_work(self, ticket: Ticket) -> None:
        assert ticket.begun_at is not None
        took_s, ticket.begun_at = self._clock() - ticket.begun_at, None
        self._mean_s += NEWEST_SHARE * (took_s - self._mean_s)
        _take_one(self._at_work, ticket.user_id)
        self._taken -= not ticket.elsewhere

    def _take_out(self, ticket: Ticket) -> None:
        """One that is not at work."""
        ticket.over = True
        ticket.ready.set()
        if ticket.queued:
            self._unqueue(ticket)
        else:
            _take_one(self._pending, ticket.user_id)

    def _unqueue(self, ticket: Ticket) -> None:
        ticket.queued = False
        queue = self._queues[ticket.user_id]
        queue.remove(ticket)
        if not queue:
            del self._queues[ticket.user_id]
        _take_one(self._pending, ticket.user_id)

    def _count_waiting(self) -> int:
        return sum(map(len, self._queues.values()))

    def _drain_s(self, turns: int) -> float:
        """How long so many turns take from now on, by the mean of those seen."""
        return min(LONGEST_RETRY_S, max(1.0, self._mean_s * turns / self._places))


def _closed() -> LlmError:
    return LlmError("engine_closed", "the language model was closed while an answer was asked for", retryable=False)


def _take_one(counts: Counter[str], user_id: str) -> None:
    counts[user_id] -= 1
    if not counts[user_id]:
        del counts[user_id]
