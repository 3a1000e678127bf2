"""Many at once, each a process of its own with its own connection: one resolution, no ballot lost, one chain.

Processes and not threads: what one of them remembers, the others must not need.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from lpm_kernel.dao.audit import audit
from lpm_kernel.dao.events import BallotCast, ProposalResolved
from lpm_kernel.dao.service import Dao
from tests.dao.ledgers import Ledger

pytestmark = pytest.mark.slow

BEGIN = """
import json, sys, threading, time
from datetime import datetime
from lpm_kernel.dao.service import Dao
from lpm_kernel.errors import TwinError
from lpm_kernel.settings import load_settings
from lpm_kernel.stores import dao_ledger
from lpm_kernel.stores.tables import Tables
given = json.loads(sys.stdin.readline())
settings = load_settings().dao.model_copy(update=given["settings"])
dao = Dao(Tables(given["url"], pool_size=given.get("pool", 1)), settings)
with dao.tables.operator_transaction():
    pass
print("ready", flush=True)
sys.stdin.readline()
"""
CLOSES = (
    BEGIN
    + """
events = dao.advance(given["proposal"], datetime.fromisoformat(given["at"]))
state = dao.proposal(given["proposal"])
print(json.dumps([len(events), state.status, state.resolution.resolved_at.isoformat()]))
"""
)
CLOSES_AND_STANDS_STILL = (
    BEGIN
    + """
def stand_still(connection, entries):
    print(type(entries[0].happening).__name__, flush=True)
    time.sleep(600)
dao_ledger.append = stand_still
dao.advance(given["proposal"], datetime.fromisoformat(given["at"]))
"""
)
VOTES = (
    BEGIN
    + """
failed = []
def vote(voter):
    try:
        dao.vote(voter, given["proposal"], given["choice"], key="once", reasons=f"{voter} says so")
    except TwinError as error:
        failed.append(error.code)
threads = [threading.Thread(target=vote, args=(voter,)) for voter in given["voters"]]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(failed))
"""
)


def given_to(ledger: Ledger, proposal_id: str, **more: Any) -> str:
    return json.dumps({"url": ledger.app_url, "proposal": proposal_id, "settings": {}, **more}) + "\n"


@contextmanager
def processes(script: str, given: Sequence[str]) -> Iterator[list[subprocess.Popen[str]]]:
    """Begun, connected, and waiting for a line."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    begun = [subprocess.Popen([sys.executable, "-c", script], **pipes) for _ in given]
    try:
        for process, line in zip(begun, given, strict=True):
            process.stdin.write(line)  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        for process in begun:
            assert process.stdout.readline() == "ready\n"  # type: ignore[union-attr]
        yield begun
    finally:
        for process in begun:
            if process.poll() is None:
                process.kill()
            process.communicate()


def run_all(script: str, given: Sequence[str]) -> list[Any]:
    """What each of them says, all let off at once."""
    with processes(script, given) as begun:
        for process in begun:
            process.stdin.write("go\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        said = [process.communicate(timeout=120)[0] for process in begun]
        assert [process.returncode for process in begun] == [0] * len(begun)
    return [json.loads(each) for each in said]


def resolutions(ledger: Ledger, dao: Dao) -> tuple[int, int]:
    """How many events, and how many rows."""
    events = [event for event in dao.events_after(0, 10_000) if isinstance(event.happening, ProposalResolved)]
    with ledger.tables.operator_transaction() as connection:
        return len(events), connection.execute(text("select count(*) from dao_resolution")).scalar_one()


@pytest.fixture
def dao(ledger: Ledger) -> Dao:
    ledger.join("ada", "ben", "cleo")
    return ledger.dao()


def past_its_end(dao: Dao) -> tuple[str, str]:
    """A vote that its members failed to decide, extended already, and the moment at which it has to end."""
    proposal_id = dao.propose("ada", "Benches", "The park needs its benches back.").proposal_id
    dao.vote("ada", proposal_id, "for")
    dao.vote("ben", proposal_id, "against")
    ends_at = dao.proposal(proposal_id).ends_at
    assert ends_at is not None
    return proposal_id, (ends_at + timedelta(hours=20)).isoformat()


def test_of_sixteen_processes_that_close_the_same_vote_one_does(ledger: Ledger, dao: Dao) -> None:
    proposal_id, at = past_its_end(dao)
    said = run_all(CLOSES, [given_to(ledger, proposal_id, at=at)] * 16)
    assert sorted(count > 0 for count, *_ in said) == [False] * 15 + [True]
    assert {tuple(seen) for _, *seen in said} == {("failed", at)}
    assert resolutions(ledger, dao) == (1, 1)
    assert audit(dao).broken == ()


def test_a_process_that_is_killed_between_tally_and_write_leaves_the_end_to_the_next(ledger: Ledger, dao: Dao) -> None:
    proposal_id, at = past_its_end(dao)
    dao.advance(proposal_id, dao.proposal(proposal_id).ends_at)  # reminders are sent, and only the end is left
    with processes(CLOSES_AND_STANDS_STILL, [given_to(ledger, proposal_id, at=at)]) as (process,):
        process.stdin.write("go\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        assert process.stdout.readline() == "ProposalResolved\n"  # type: ignore[union-attr]
        assert resolutions(ledger, dao) == (0, 0)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL
        said = run_all(CLOSES, [given_to(ledger, proposal_id, at=at)] * 2)
    assert sorted(count for count, *_ in said) == [0, 1]
    assert resolutions(ledger, dao) == (1, 1)
    assert audit(dao).broken == ()


@pytest.mark.parametrize("close", ["deadline", "decided"])
def test_a_hundred_who_vote_at_once_from_five_processes_are_all_heard(ledger: Ledger, close: str) -> None:
    voters = ledger.join(*(f"voter-{number:03}" for number in range(100)))
    dao = ledger.dao(close=close)
    proposal_id = dao.propose(voters[0], "Benches", "The park needs its benches back.").proposal_id
    choices = ("for", "against", "abstain", "for", "for") if close == "deadline" else ("for",) * 5
    given = [
        given_to(ledger, proposal_id, voters=voters[first::5], choice=choice, pool=8) for first, choice in enumerate(choices)
    ]
    failed = [code for codes in run_all(VOTES, given) for code in codes]
    cast = [event for event in dao.events_after(0, 1000) if isinstance(event.happening, BallotCast)]
    state = dao.proposal(proposal_id)
    if close == "deadline":
        assert failed == []
        tally = dao.standing(proposal_id).tally
        assert (tally.for_, tally.against, tally.abstain, tally.voters) == (60, 20, 20, 100)
        assert state.status == "voting"
    else:
        assert state.resolution is not None
        assert (state.status, state.resolution.tally.for_) == ("passed", len(cast)), "decided by the first two thirds"
        assert set(failed) <= {"voting_closed"}
        assert resolutions(ledger, dao) == (1, 1)
    assert len({event.actor for event in cast}) == len(cast) == 100 - len(failed)
    report = audit(dao)
    assert (report.broken, report.ballots) == ((), len(cast))
