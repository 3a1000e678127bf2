"""An adapter library without a model: every load costs what it is told to, and misuse is seen.

Belongs here: that double. Does not belong here: assertions.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

from lpm_kernel.L2.llama_adapters import refused
from lpm_kernel.stores.llm import AdapterFile

BASE = "b" * 64


def adapter_named(name: str, base_sha256: str = BASE) -> AdapterFile:
    return AdapterFile(Path(f"{name}.gguf"), name, base_sha256)


class FakeLibrary:
    """`AdapterLibrary`. Hashing an adapter whose name is in `slow` waits until it is let go; `damaged` ones are refused."""

    def __init__(self, *, size_bytes: int = 100, check_s: float = 0.0, load_s: float = 0.0) -> None:
        self.size_bytes = size_bytes
        self.slow: dict[str, threading.Event] = {}
        self.damaged: set[str] = set()
        self.breaks: set[str] = set()
        self.checks: Counter[str] = Counter()
        self.loads: Counter[str] = Counter()
        self.loaded: dict[int, str] = {}
        """By pointer."""
        self.overlaps = 0
        self.most_bytes = 0
        self._check_s, self._load_s = check_s, load_s
        self._inside = threading.Lock()
        self._next = 1
        self._lock = threading.Lock()

    def check(self, adapter: AdapterFile, base_sha256: str) -> int:
        with self._lock:
            self.checks[adapter.sha256] += 1
        if adapter.sha256 in self.slow:
            assert self.slow[adapter.sha256].wait(10)
        time.sleep(self._check_s)
        if adapter.sha256 in self.damaged:
            raise refused(adapter, "told to")
        if adapter.sha256 in self.breaks:
            raise MemoryError("told to")
        return self.size_bytes

    def load(self, adapter: AdapterFile) -> int:
        with self._alone():
            time.sleep(self._load_s)
            self.loads[adapter.sha256] += 1
            pointer, self._next = self._next, self._next + 1
            self.loaded[pointer] = adapter.sha256
            self.most_bytes = max(self.most_bytes, len(self.loaded) * self.size_bytes)
            return pointer

    def free(self, pointer: int) -> None:
        with self._alone():
            del self.loaded[pointer]

    def _alone(self):
        if not self._inside.acquire(blocking=False):
            self.overlaps += 1
            self._inside.acquire()
        return _Release(self._inside)


class _Release:
    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._lock.release()
