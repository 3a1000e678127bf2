"""Who is measured by `bench.serve`, started as a process and asked; and the neighbours who only burn a core."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Any

from bench.peer_packages import ROOT


@dataclass
class Contender:
    """A process that answers. `about` says what it is; see `serve_worker.py`."""

    name: str
    about: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    words: IO[str] = field(default_factory=lambda: tempfile.TemporaryFile("w+"))  # noqa: SIM115
    """What it prints: a file, for a pipe that nobody empties would stop it."""

    def start(self) -> str | None:
        """None, or why it cannot be had."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **self.environment}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.serve_worker"], cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.words,
        )  # fmt: skip
        return None if self._say(self.about) is not None else self._last_words()

    def serve(self, clients: Sequence[Sequence[dict[str, Any]]], max_tokens: int) -> dict[str, Any]:
        found = self._say({"clients": clients, "max_tokens": max_tokens})
        if found is None:
            sys.exit(f"{self.name} ended: {self._last_words()}")
        return found

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _say(self, message: dict[str, Any]) -> dict[str, Any] | None:
        assert self.process
        assert self.process.stdin
        assert self.process.stdout
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def _last_words(self) -> str:
        self.stop()
        self.words.seek(0)
        return self.words.read().strip()[-500:]


@contextmanager
def started(contenders: Sequence[Contender]) -> Iterator[list[Contender]]:
    """Those that can be had, all in memory and idle until they are asked."""
    with ExitStack() as stack:
        ready = []
        for contender in contenders:
            stack.callback(contender.stop)
            if (missing := contender.start()) is None:
                ready.append(contender)
            else:
                print(f"  {contender.name}: cannot be measured here: {missing}", flush=True)
        yield ready


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that burn a core each, as other work on the machine does."""
    burning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()
