"""The dashboard as it changes: one reader of the ledger a process, however many listen.

Belongs here: reading what is new once and handing it to every listener, and their events on the wire.
Does not belong here: the route, what the ledger says of a vote (`lpm_kernel/dao/service.py`).

An event is named by the number of the ledger's newest event when it was made. Whoever names one is told what differs since: out
of what this process remembers, else out of the ledger, else the whole again. A listener who is slow costs nothing: it has a
place in that memory and no queue of its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, cast

from sse_starlette import EventSourceResponse, ServerSentEvent

from lpm_kernel.dao.events import Event, ProposalResolved, kind_of, proposal_of
from lpm_kernel.errors import AccessError, StoreError, TwinError, UserInputError
from lpm_kernel.stores.dao_ledger import OF_MEMBERS, listen
from twin_serving.dao_answers import dashboard_out, lines_out, resolution_out, standing_out
from twin_serving.dao_schemas import ChangeOut

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from lpm_kernel.dao.records import Resolution
    from lpm_kernel.dao.service import Dao, Dashboard, Standing

_LOG = logging.getLogger(__name__)

REMEMBERED = 256
"""Changes."""
MOST_EVENTS = 500
"""Of the ledger in one change; who missed more is told the whole."""
ANEW_S = 30.0
"""How often the whole is read again: a vote stalls, a twin's ballot begins to count, and a member comes, without a word in the
ledger."""
SOON_S = 1.0
"""How soon it is after a delegation or its end, which may change how any vote stands; of many at once it is read once."""
AGAIN_S = 1.0
FIRST_S = 10.0
"""How long the first listener waits for the first reading."""
LOOK_S = 1.0
"""How often a listener that hears nothing looks whether all is ending."""
RESOLVED_SHOWN = 50
HEARTBEAT_S = 15


@dataclass(frozen=True, slots=True)
class Change:
    """`number` counts changes of this process; `after` and `last_seq` are of the ledger."""

    number: int
    after: int
    last_seq: int
    at: datetime
    events: tuple[Event, ...]
    standings: tuple[Standing, ...]
    members: int


class Listeners:
    """How many streams are open, and no more than the settings allow. Safe between threads."""

    def __init__(self, most: int, told: Callable[[int], None] = lambda listeners: None) -> None:
        self._most, self._told = most, told
        self._lock = threading.Lock()
        self._open = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Raises: AccessError `listeners_busy` (retryable)."""
        with self._lock:
            if self._open >= self._most:
                said = f"{self._open} listen already: ask for what there is without a stream meanwhile"
                raise AccessError("listeners_busy", said, retryable=True, retry_after_s=10)
            self._open += 1
            self._told(self._open)
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
                self._told(self._open)


class HeardResponse(EventSourceResponse):
    """A stream that takes one of the places there are.

    Why here and not around its events: of a listener who leaves before the first of them, nothing in there would ever run.
    """

    def __init__(self, events: AsyncIterator[ServerSentEvent], place: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__(events, ping=HEARTBEAT_S)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place():
            await super().__call__(scope, receive, send)


class DashboardFeed:
    """Safe between threads. The reader runs while somebody listens."""

    def __init__(self, dao: Dao, listeners: Listeners) -> None:
        self._dao = dao
        self._all = listeners
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._listeners = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self._state: Dashboard | None = None
        self._number = 0
        self._first_seq = 0
        """The last event in the first reading of this reader: what changed by time alone before it is known to nobody."""
        self._changes: deque[Change] = deque(maxlen=REMEMBERED)
        self._anew_at = 0.0
        self._failure: TwinError | None = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """While in here somebody listens. Raises: AccessError `listeners_busy`."""
        with self._all.one_more():
            with self._lock:
                self._listeners += 1
                if self._thread is None and not self._closed:
                    self._thread = threading.Thread(target=self._read, name="dao-feed", daemon=True)
                    self._thread.start()
            try:
                yield
            finally:
                with self._lock:
                    self._listeners -= 1

    async def state(self) -> tuple[Dashboard, int]:
        """The whole, and the number of the last change in it. Raises: StoreError where it cannot be read."""
        deadline = time.monotonic() + FIRST_S
        while self._state is None:
            if self._failure is not None or time.monotonic() > deadline or self._closed:
                raise self._failure or StoreError("ledger_silent", "the ledger could not be read in time; come again")
            await self._changed(0.2, lambda: self._state is not None or self._failure is not None)
        with self._lock:
            return replace(self._state, at=self._dao.clock()), self._number

    def changes_after(self, number: int) -> list[Change] | None:
        """None where they are not remembered any more."""
        with self._lock:
            if number == self._number:
                return []
            if not self._changes or self._changes[0].number > number + 1:
                return None
            return [change for change in self._changes if change.number > number]

    def since(self, seq: int) -> tuple[Change | None, int] | None:
        """What differs since this event of the ledger, and the number of the last change in that; None: the whole is to be
        told, as where any vote may stand otherwise, nobody listened meanwhile, or the first reading is still to come.

        Raises: UserInputError `event_id_invalid` for an event that has not been yet; StoreError.
        """
        self._look()
        with self._lock:
            state, number, changes, first_seq = self._state, self._number, list(self._changes), self._first_seq
        if state is None:
            return None
        if seq > state.last_seq:
            raise UserInputError("event_id_invalid", f"Last-Event-ID {seq} is of no event: the last is {state.last_seq}")
        if seq <= first_seq:
            return None
        if changes and changes[0].after <= seq:
            missed = [event for change in changes for event in change.events if event.seq > seq]
        else:
            missed = self._dao.events_after(seq, MOST_EVENTS)
            if len(missed) == MOST_EVENTS:
                return None
            missed = [event for event in missed if event.seq <= state.last_seq]
        # what changed by time alone has no number: it is told again to who may not have heard it
        untold = [change for change in changes if (change.last_seq > seq if change.events else change.last_seq >= seq)]
        named = {each.proposal.proposal_id for change in untold for each in change.standings}
        if _bears_on_all(missed) or (not missed and seq < state.last_seq):
            return None
        if not missed and not named:
            return None, number
        standings = self._standings([*_touched(missed), *sorted(named)])
        return Change(number, seq, state.last_seq, self._dao.clock(), tuple(missed), standings, state.members), number

    async def wait(self, number: int, timeout_s: float) -> None:
        """Until there is a later change than this, all ends, or the time is over."""
        await self._changed(timeout_s, lambda: self._number != number or self._closed)

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        with self._lock:
            self._closed = True
            thread = self._thread
        self._wake()
        if thread is not None:
            thread.join(10)

    async def _changed(self, timeout_s: float, ready: Callable[[], bool]) -> None:
        changed = asyncio.Event()
        ticket = asyncio.get_running_loop(), changed
        with self._lock:
            self._waiting.append(ticket)
        try:
            if not ready():
                await asyncio.wait_for(changed.wait(), timeout_s)
        except TimeoutError:
            pass
        finally:
            with self._lock, suppress(ValueError):
                self._waiting.remove(ticket)

    def _wake(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for loop, changed in waiting:
            with suppress(RuntimeError):  # the loop of a listener who is gone is closed
                loop.call_soon_threadsafe(changed.set)

    def _read(self) -> None:
        while True:
            try:
                heard = cast("Generator[int]", listen(self._dao.tables, self._rests, look_every_s=LOOK_S))
                with closing(heard) as numbers:
                    for _ in numbers:
                        self._look()
                self._look_anew()
                self._failure = None
            except Exception as error:
                self._fail(error)
            with self._lock:
                if self._closed or not self._listeners:
                    self._thread, self._state, self._anew_at = None, None, 0.0
                    self._changes.clear()
                    return

    def _rests(self) -> bool:
        """Whether to stop hearing: for good, or to read the whole again."""
        return self._closed or not self._listeners or time.monotonic() >= self._anew_at

    def _fail(self, error: Exception) -> None:
        if isinstance(error, TwinError):
            _LOG.warning("the ledger cannot be read for its listeners: %s", error)
            self._failure = error
        else:
            _LOG.error("the reader of the ledger goes on after a failure", exc_info=error)
            self._failure = StoreError("ledger_silent", "the ledger cannot be read; the server's log says why")
        self._wake()
        time.sleep(AGAIN_S)

    def _look(self) -> None:
        """Read what is new, and tell it."""
        with self._looking:
            state = self._state
            if state is None:
                return
            events = self._dao.events_after(state.last_seq, MOST_EVENTS)
            if len(events) == MOST_EVENTS:
                self._read_whole()
            elif events:
                self._publish(state, events, self._standings(_touched(events)), state.members)
                if _bears_on_all(events):
                    self._anew_at = min(self._anew_at, time.monotonic() + SOON_S)

    def _look_anew(self) -> None:
        with self._looking:
            if self._closed or (self._state is not None and not self._listeners):
                return
            self._read_whole()

    def _read_whole(self) -> None:
        """Where it is the first, or much happened, listeners are told the whole; else what it shows that no event told."""
        fresh, state = self._dao.dashboard(), self._state
        self._anew_at = time.monotonic() + ANEW_S
        events = self._dao.events_after(state.last_seq, MOST_EVENTS) if state is not None else []
        events = [event for event in events if event.seq <= fresh.last_seq]
        if state is None or len(events) == MOST_EVENTS:
            with self._lock:
                self._state, self._number = fresh, self._number + 1
                self._first_seq = fresh.last_seq
                self._changes.clear()
            self._wake()
            return
        known = {each.proposal.proposal_id: each for each in state.open}
        touched = set(_touched(events))
        differing = [
            each
            for each in fresh.open
            if (pid := each.proposal.proposal_id) in touched or pid not in known or _stands_otherwise(known[pid], each)
        ]
        if events or differing or fresh.members != state.members:
            ended = touched - {each.proposal.proposal_id for each in fresh.open}
            self._publish(state, events, (*differing, *(self._dao.standing(name) for name in sorted(ended))), fresh.members)
        with self._lock:
            self._state = fresh

    def _standings(self, proposal_ids: Iterable[str]) -> tuple[Standing, ...]:
        """How they stand now, each once."""
        return tuple(self._dao.standing(proposal_id) for proposal_id in dict.fromkeys(proposal_ids))

    def _publish(self, state: Dashboard, events: Sequence[Event], standings: Sequence[Standing], members: int) -> None:
        at, last_seq = self._dao.clock(), events[-1].seq if events else state.last_seq
        changed = {each.proposal.proposal_id: each for each in standings}
        kept = [changed.pop(each.proposal.proposal_id, each) for each in state.open]
        running = tuple(each for each in (*kept, *changed.values()) if each.proposal.status in ("open", "voting"))
        resolved = (*_resolutions(events)[::-1], *state.resolved)[:RESOLVED_SHOWN]
        with self._lock:
            self._number += 1
            self._state = replace(state, at=at, open=running, resolved=resolved, members=members, last_seq=last_seq)
            self._changes.append(Change(self._number, state.last_seq, last_seq, at, tuple(events), tuple(standings), members))
        self._wake()


def _touched(events: Iterable[Event]) -> list[str]:
    """Proposals that they are about, each once."""
    return list(dict.fromkeys(name for event in events if (name := proposal_of(event.happening))))


def _bears_on_all(events: Iterable[Event]) -> bool:
    return any(kind_of(event.happening) in OF_MEMBERS for event in events)


def _stands_otherwise(one: Standing, other: Standing) -> bool:
    return (one.stalled, one.tally, one.proposal.status) != (other.stalled, other.tally, other.proposal.status)


def _resolutions(events: Sequence[Event]) -> list[Resolution]:
    return [event.happening.resolution for event in events if isinstance(event.happening, ProposalResolved)]


async def dashboard_events(
    feed: DashboardFeed, begin: Dashboard | Change | None, number: int, life_s: float, ending: Callable[[], bool]
) -> AsyncIterator[ServerSentEvent]:
    """`begin`, and what changes after the change of this number, until `life_s` is over or all is ending."""
    until = time.monotonic() + life_s
    if isinstance(begin, Change):
        yield change_event(begin)
    elif begin is not None:
        yield state_event(begin)
    while not (feed.closed or ending()):
        changes = feed.changes_after(number)
        if changes is None:
            state, number = await feed.state()
            yield state_event(state)
            continue
        for change in changes:
            number = change.number
            yield change_event(change)
        left = until - time.monotonic()
        if left <= 0:
            return
        await feed.wait(number, min(left, LOOK_S))


def seq_of(last_event_id: str | None) -> int | None:
    """Raises: UserInputError `event_id_invalid` where it is no number of the ledger."""
    if not last_event_id:
        return None
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= 18):
        raise UserInputError("event_id_invalid", "Last-Event-ID is the id of an event as it came: a number of the ledger")
    return int(last_event_id)


def state_event(state: Dashboard) -> ServerSentEvent:
    return _encoded("state", state.last_seq, dashboard_out(state).model_dump(mode="json", by_alias=True))


def change_event(change: Change) -> ServerSentEvent:
    told = ChangeOut(
        at=change.at,
        events=lines_out(change.events),
        standings=[standing_out(each, change.at) for each in change.standings],
        resolved=[resolution_out(each) for each in _resolutions(change.events)],
        members=change.members,
        last_seq=change.last_seq,
    )
    return _encoded("change", change.last_seq, told.model_dump(mode="json", by_alias=True))


def _encoded(name: str, seq: int, content: object) -> ServerSentEvent:
    """JSON in one line: no line break of any text can end an event early."""
    return ServerSentEvent(json.dumps(content, ensure_ascii=False), event=name, id=str(seq))
