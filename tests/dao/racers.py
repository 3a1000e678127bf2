"""What the processes of `test_races.py` do: each opens its own connection, says that it is ready, and does one thing when told.

Belongs here: what runs in them. They are forked from one process that has imported all this and holds nothing open.
Does not belong here: tests.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lpm_kernel.dao import steps
from lpm_kernel.dao.service import Dao
from lpm_kernel.errors import TwinError
from lpm_kernel.stores import dao_ledger
from lpm_kernel.stores.tables import Tables

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from lpm_kernel.settings import DaoSettings

READY_S, DONE_S = 60, 120


def begin(pipe: Connection, url: str, settings: DaoSettings, pool: int = 1) -> Dao:
    dao = Dao(Tables(url, pool_size=pool), settings)
    with dao.tables.operator_transaction():
        pass
    pipe.send("ready")
    pipe.recv()
    return dao


def close_vote(pipe: Connection, url: str, settings: DaoSettings, proposal_id: str, at: datetime) -> None:
    """Sends how many events that made, the status, and when it was resolved."""
    dao = begin(pipe, url, settings)
    events = dao.advance(proposal_id, at)
    state = dao.proposal(proposal_id)
    pipe.send((len(events), state.status, state.resolution.resolved_at if state.resolution else None))


def stand_still(pipe: Connection, url: str, settings: DaoSettings, proposal_id: str, at: datetime, place: str) -> None:
    """Sends where it stands still while it closes a vote, and never goes on. Places: `counted`: what it would write is counted;
    `event`: the event is written, and the row of the resolution is not; `row`: that one is too, and that of the proposal is
    not; `all`: everything is written, and the transaction is not over."""
    dao = begin(pipe, url, settings)

    def here(*_: object, **__: object) -> Any:
        pipe.send(place)
        time.sleep(600)

    if place == "counted":
        steps.verdict = here_after(steps.verdict, here)
    elif place == "event":
        dao_ledger.resolution_row = here
    elif place == "row":
        dao_ledger.put_proposal = here
    else:
        dao_ledger.put_proposal = here_after(dao_ledger.put_proposal, here)
    dao.advance(proposal_id, at)


def here_after(does: Callable[..., Any], then: Callable[[], Any]) -> Callable[..., Any]:
    def both(*arguments: Any, **named: Any) -> Any:
        does(*arguments, **named)
        return then()

    return both


def vote_all(pipe: Connection, url: str, settings: DaoSettings, proposal_id: str, voters: Sequence[str], choice: Any) -> None:
    """Sends the codes of refusals. All voters at once."""
    dao = begin(pipe, url, settings, pool=20)  # a connection for each: nobody waits for one
    refused: list[str] = []

    def vote(voter: str) -> None:
        try:
            dao.vote(voter, proposal_id, choice, key="once", reasons=f"{voter} says so")
        except TwinError as error:
            refused.append(error.code)

    threads = [threading.Thread(target=vote, args=(voter,)) for voter in voters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pipe.send(refused)


class Racer:
    def __init__(self, does: Callable[..., None], arguments: Sequence[Any]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.dao.racers"])
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=does, args=(other, *arguments), daemon=True)
        self.process.start()
        other.close()

    def hears(self, timeout_s: float = DONE_S) -> Any:
        assert self.pipe.poll(timeout_s), "it says nothing"
        return self.pipe.recv()


@contextmanager
def racers(does: Callable[..., None], arguments: Sequence[Sequence[Any]]) -> Iterator[list[Racer]]:
    """Connected and waiting; let them off with `go`."""
    begun = [Racer(does, each) for each in arguments]
    try:
        for racer in begun:
            assert racer.hears(READY_S) == "ready"
        yield begun
    finally:
        for racer in begun:
            racer.process.kill()
            racer.process.join(20)
            racer.pipe.close()


def run_all(does: Callable[..., None], arguments: Sequence[Sequence[Any]]) -> list[Any]:
    """What each of them says, all let off at once."""
    with racers(does, arguments) as begun:
        for racer in begun:
            racer.pipe.send("go")
        return [racer.hears() for racer in begun]
