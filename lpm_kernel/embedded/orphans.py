"""Processes of a home, found by what they carry, and stopped by their ids.

Belongs here: what outlives a supervisor that was killed. Every program of ours carries environment variables that name it and
its home, and so do the children it starts; PostgreSQL's children overwrite theirs and are known by their working directory.
Does not belong here: the ordinary stop, which is the supervisor's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from lpm_kernel.embedded import postgres
from lpm_kernel.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lpm_kernel.embedded.home import Home

PROGRAM_VARIABLE = "TWIN_PROGRAM"
HOME_VARIABLE = "TWIN_PROGRAM_HOME"
STOP_VARIABLE = "TWIN_PROGRAM_STOP"
SUPERVISOR = "supervisord"
KILLED_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Found:
    name: str
    process: psutil.Process
    stop_signal: signal.Signals = signal.SIGTERM
    stop_wait_s: float = 10.0

    @property
    def pid(self) -> int:
        return self.process.pid


def mark(home: Home, program: str, stop_signal: str = "TERM", stop_wait_s: int = 30) -> dict[str, str]:
    """The variables by which `find` knows the program later, and how it wants to be stopped."""
    return {PROGRAM_VARIABLE: program, HOME_VARIABLE: str(home.root), STOP_VARIABLE: f"{stop_signal} {stop_wait_s}"}


def is_alive(process: psutil.Process) -> bool:
    """A zombie is dead: it holds no file and no port, only a number until somebody reaps it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def find(home: Home) -> list[Found]:
    """Every live process of this home, the caller and its ancestors left out (a service of ours may ask)."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in own:
            continue
        # gone meanwhile, another user's, or the kernel's
        with contextlib.suppress(psutil.Error, OSError):
            item = _recognise(process, home)
            if item is not None and is_alive(process):
                found.append(item)
    return found


def _recognise(process: psutil.Process, home: Home) -> Found | None:
    environment = process.environ()
    if environment.get(HOME_VARIABLE) == str(home.root):
        name, stop = environment.get(PROGRAM_VARIABLE, "unnamed"), environment.get(STOP_VARIABLE, "TERM 10")
        return Found(name, process, signal.Signals[f"SIG{stop.split()[0]}"], float(stop.split()[1]))
    if process.name().startswith("postgres") and process.cwd() == str(postgres.data_folder(home)):
        return Found(postgres.NAME, process)
    return None


def listening(home: Home) -> set[int]:
    """Every port that a process of this home listens on."""
    ports = set()
    for item in find(home):
        with contextlib.suppress(psutil.Error, OSError):
            connections = item.process.net_connections("tcp")
            ports |= {connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN}
    return ports


def holder(ports: Iterable[int]) -> str:
    """Who listens on one of these ports, in words."""
    wanted = set(ports)
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port in wanted
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    return "a process of another user"


def heads(found: Iterable[Found]) -> list[Found]:
    """Those whose parent is not of the same program: the ones that a signal is meant for."""
    found = list(found)
    names: dict[int | None, str] = {item.pid: item.name for item in found}
    return [item for item in found if names.get(_parent(item)) != item.name]


def _parent(item: Found) -> int | None:
    try:
        return item.process.ppid()
    except psutil.NoSuchProcess:
        return None


def stop_found(home: Home, patience_s: float = 60.0) -> list[str]:
    """Stop every process of this home: the supervisor first, for it would start the others again; then services; then engines.

    Each gets the signal it asked for, and SIGKILL when its own time, or `patience_s`, is over.
    Idempotent. Returns the names of what was stopped. Raises: EngineError `processes_stay` naming ids that outlive SIGKILL.
    """
    engines = {path.name for path in home.engines.iterdir() if path.is_dir()} if home.engines.exists() else set()
    stages: Sequence[Callable[[Found], bool]] = (
        lambda item: item.name == SUPERVISOR,
        lambda item: item.name not in engines,
        lambda item: True,
    )
    stopped: set[str] = set()
    for belongs in stages:
        told: dict[int, float] = {}
        # looked for anew until none is left: a program may start another while it is being stopped
        while remaining := [item for item in find(home) if belongs(item)]:
            stopped.update(item.name for item in remaining)
            while remaining := [item for item in remaining if is_alive(item.process)]:
                for item in heads(remaining):
                    _press(item, told, patience_s)
                time.sleep(0.05)
    return sorted(stopped)


def _press(item: Found, told: dict[int, float], patience_s: float) -> None:
    """Signal once, wait, kill, and give up on what cannot be killed. `told`: when each id got its signal."""
    now = time.monotonic()
    over = now - told.setdefault(item.pid, now) - min(item.stop_wait_s, patience_s)
    if over > KILLED_PATIENCE_S:
        raise EngineError(
            "processes_stay", f"{item.name}, process {item.pid}, outlives SIGKILL: end it, or restart the machine"
        )
    with contextlib.suppress(psutil.NoSuchProcess):
        if over > 0:
            item.process.kill()
        elif told[item.pid] == now:
            item.process.send_signal(item.stop_signal)
