"""A hundred voters in the same second: from each ballot to the resolution of its vote, over the service and over HTTP."""

from __future__ import annotations

import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.api_process import running_api
from bench.dao_members import percentiles, rules_with
from lpm_kernel.dao.audit import audit
from lpm_kernel.dao.ballot_draft import Choice
from lpm_kernel.dao.service import Dao
from lpm_kernel.errors import VoteError
from lpm_kernel.stores.open import Stores

GOAL_P95_S = 5.0
FOR: tuple[Choice, ...] = ("for",)
AGAINST: tuple[Choice, ...] = ("against",)
Vote = Callable[[str, str, Choice], "bool | None"]
"""Casts a ballot of (voter, proposal, choice): whether it decided the vote; None where the vote was over."""


@dataclass
class Round:
    """One proposal and everybody at once."""

    sent: dict[str, float] = field(default_factory=dict)
    answered: dict[str, float] = field(default_factory=dict)
    too_late: int = 0
    resolved_at: float = 0.0
    deciding_s: float = 0.0


def by_event(stores: Stores, voters: Sequence[str], proposals: int) -> None:
    """66 of 100 are for and 34 against, in an order of chance: by 66 % the last ballot for is the one that decides."""
    dao = Dao(stores.tables, rules_with(stores.settings.dao, close="decided"))
    rnd = random.Random(0)
    print(f"  {len(voters)} voters in the same second, {proposals} proposals; seconds from each ballot to the resolution")
    print(f"  {'':18} {'p50':>8} {'p95':>8} {'max':>8}   {'the deciding ballot alone':>26}   {'refused':>8} {'ballots/s':>10}")

    def over_service(voter: str, proposal_id: str, choice: Choice) -> bool | None:
        try:
            return dao.vote(voter, proposal_id, choice).resolution is not None
        except VoteError as error:
            if error.code != "voting_closed":
                raise
            return None

    met = _measure("over the service", dao, voters, proposals, over_service, rnd)
    # where nobody says who they are, requests are counted by address, and all voters have one here
    unlimited = {"requests_per_minute": 0}
    folder = tempfile.TemporaryDirectory(prefix="twin-bench-dao-")
    with folder as name, running_api(Path(name), os.environ, **unlimited) as api:
        met &= _over_http(api.url, dao, voters, proposals, rnd)
    report = audit(dao)
    print(f"  ledger of {report.events} events {'whole' if report.ok else f'BROKEN: {report.broken}'}")
    print(f"  goal of p95 under {GOAL_P95_S:.0f} s {'met' if met and report.ok else 'missed'}")


def _over_http(url: str, dao: Dao, voters: Sequence[str], proposals: int, rnd: random.Random) -> bool:
    import httpx

    clients = {voter: httpx.Client(base_url=url, timeout=60, trust_env=False) for voter in voters}

    asked_again: list[str] = []

    def over_http(voter: str, proposal_id: str, choice: Choice) -> bool | None:
        ballot = {"voter": voter, "proposal": proposal_id, "choice": choice, "key": f"bench-{proposal_id}"}
        while (answer := clients[voter].post("/vote", json=ballot)).status_code in (429, 503):  # busy: the key makes it one
            asked_again.append(voter)
            time.sleep(float(answer.headers.get("Retry-After", 0.5)))
        if answer.status_code == 409 and answer.json().get("code") == "voting_closed":
            return None
        answer.raise_for_status()
        return answer.json()["resolution"] is not None

    try:
        for voter in voters:  # a connection each, as people have who look at the dashboard
            clients[voter].get("/healthz").raise_for_status()
        met = _measure("over HTTP", dao, voters, proposals, over_http, rnd)
        print(f"  {'':18} {len(asked_again)} requests were told to come back, and did")
        return met
    finally:
        for client in clients.values():
            client.close()


def _measure(way: str, dao: Dao, voters: Sequence[str], proposals: int, vote: Vote, rnd: random.Random) -> bool:
    rounds: list[Round] = []
    for number in range(proposals + 1):
        proposal = dao.propose(voters[0], f"Proposal {number} {way}", "The works buys a kettle.")
        choices: list[Choice] = [*FOR * 66, *AGAINST * (len(voters) - 66)]
        rnd.shuffle(choices)
        done = _round(proposal.proposal_id, list(zip(voters, choices, strict=True)), vote)
        if number:  # the first opens connections
            rounds.append(done)
    waits = [done.resolved_at - sent for done in rounds for voter, sent in done.sent.items() if voter in done.answered]
    spent = sum(max(done.answered.values()) - min(done.sent.values()) for done in rounds)
    refused, rate = sum(done.too_late for done in rounds), len(waits) / spent
    deciding = percentiles([done.deciding_s for done in rounds])
    print(f"  {way:18} {percentiles(waits)}   {deciding:>26}   {refused:8} {rate:10.0f}")
    return sorted(waits)[int(0.95 * len(waits))] <= GOAL_P95_S


def _round(proposal_id: str, ballots: Sequence[tuple[str, Choice]], vote: Vote) -> Round:
    done, failed = Round(), []
    start, lock = threading.Barrier(len(ballots)), threading.Lock()

    def cast(voter: str, choice: Choice) -> None:
        start.wait()
        began = time.perf_counter()
        try:
            decided = vote(voter, proposal_id, choice)
        except Exception as error:
            with lock:
                failed.append(error)
            return
        ended = time.perf_counter()
        with lock:
            done.sent[voter] = began
            if decided is None:
                done.too_late += 1
                return
            done.answered[voter] = ended
            if decided:
                done.resolved_at, done.deciding_s = ended, ended - began

    threads = [threading.Thread(target=cast, args=ballot) for ballot in ballots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed or not done.resolved_at:
        counted = f"{len(done.answered)} ballots taken, {done.too_late} too late, {len(failed)} failed: {failed[:3]}"
        raise RuntimeError(f"proposal {proposal_id} was {'' if done.resolved_at else 'not '}resolved; {counted}")
    return done
