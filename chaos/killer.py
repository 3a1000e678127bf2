"""`kill -9`, again and again, at moments and of processes that a seed chooses.

Belongs here: the plan, carrying it out, and saying so.
Does not belong here: finding the processes (`targets.py`) and what must survive (`agree.py`).
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

Targets = Mapping[str, Callable[[], list[int]]]
"""A kind of process, and the ids of those that are there now."""
TRIES = 5
"""For a process that was gone before it could be killed."""
PATIENCE_S = 15.0
"""For a process of the chosen kind to be there; then another kind is taken."""


@dataclass(frozen=True, slots=True)
class Blow:
    number: int
    after_s: float
    kind: str
    which: float
    """Of several processes of the kind, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Deed:
    at_s: float
    kind: str
    pid: int


def plan(seed: int, kills: int, kinds: Sequence[str], mean_s: float) -> Iterator[Blow]:
    """Each kind about equally often, in an order of chance."""
    chance = random.Random(seed)
    order = [kinds[number % len(kinds)] for number in range(kills)]
    chance.shuffle(order)
    for number, kind in enumerate(order, start=1):
        yield Blow(number, chance.uniform(0.2, 1.8) * mean_s, kind, chance.random())


def carry_out(blows: Iterator[Blow], targets: Targets, ended: threading.Event, say: Callable[[str], None]) -> list[Deed]:
    """Kill what the plan says until it is over, or `ended` is set."""
    began, done = time.monotonic(), list[Deed]()
    for blow in blows:
        if ended.wait(blow.after_s):
            break
        for _ in range(TRIES):
            if (found := _victim(blow, targets, ended)) is None:
                break
            kind, pid = found
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                deed = Deed(time.monotonic() - began, kind, pid)
                done.append(deed)
                say(f"{deed.at_s:7.1f} s  kill -9 no. {blow.number:3}  {kind:10} process {pid}")
                break
    return done


def _victim(blow: Blow, targets: Targets, ended: threading.Event) -> tuple[str, int] | None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and not ended.is_set():
        if pids := sorted(targets[blow.kind]()):
            return blow.kind, pids[int(blow.which * len(pids))]
        ended.wait(0.1)
    there = [(kind, pid) for kind in sorted(targets) for pid in sorted(targets[kind]())]
    return there[int(blow.which * len(there))] if there else None
