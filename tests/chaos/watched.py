"""Processes that are started again when they die, as a supervisor does.

Belongs here: starting, watching, and the end of them.
Does not belong here: killing them (`chaos/killer.py`).
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Watched:
    """One command, running again within a moment of its death until the block ends."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._command, self._environment, self._log = command, dict(environment), log
        self._ended = threading.Event()
        self._process = self._start()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.starts = 1

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join(30)
        self._process.kill()
        self._process.wait(30)

    def pids(self) -> list[int]:
        return [self._process.pid] if self._process.poll() is None else []

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as out:
            return subprocess.Popen(self._command, cwd=ROOT, env=self._environment, stdout=out, stderr=subprocess.STDOUT)

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            if self._process.poll() is not None:
                self._process = self._start()
                self.starts += 1
