"""What stands in a store's way without killing it: it is stopped, it answers late, its disk is full.

Belongs here: putting one up and taking it away again; each needs no privilege over other people's processes.
Does not belong here: what must hold meanwhile (`stops.py`, tests).
"""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from lpm_kernel.embedded import orphans
from lpm_kernel.embedded.home import locate_home

PIECE_BYTES = 65536


@contextlib.contextmanager
def paused(home: Path, engine: str) -> Iterator[None]:
    """Every process of the engine stopped by a signal: it is there, its port is open, and it says nothing."""
    found = [item.process for item in orphans.find(locate_home(home)) if item.name == engine]
    assert found, engine
    try:
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):  # PostgreSQL's workers come and go
                process.send_signal(signal.SIGSTOP)
        yield
    finally:
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def full_disk(home: Path, engine: str) -> Iterator[None]:
    """No file of the engine can grow: what a full disk is to it. By a limit of its process, so that no disk need be full.

    Why 0: a file that is there keeps its bytes, and each write beyond the limit fails, also inside a larger file.
    """
    found = [item.pid for item in orphans.find(locate_home(home)) if item.name == engine]
    assert found, engine
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in found}
    for pid in found:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[pid][1]))
    try:
        yield
    finally:
        for pid, limits in before.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


class SlowProxy:
    """A port that leads to another one; what the server says comes `delay_s` later, which may be changed at any time."""

    def __init__(self, target_port: int) -> None:
        self.delay_s = 0.0
        self._target = target_port
        self._ended = threading.Event()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> SlowProxy:
        self._begin(self._accept)
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)
        for each in self._open:
            each.close()

    def _begin(self, work, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                continue
            self._open += [client, server]
            self._begin(self._pass_on, client, server, False)
            self._begin(self._pass_on, server, client, True)

    def _pass_on(self, source: socket.socket, to: socket.socket, late: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                due = time.monotonic() + (self.delay_s if late else 0)
                while late and time.monotonic() < due and self.delay_s and not self._ended.is_set():
                    self._ended.wait(0.02)
                to.sendall(piece)
        for each in (source, to):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
