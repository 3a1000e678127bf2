"""Adapters in memory: loaded on demand, once however many ask, checked before they are loaded, kept while they are used.

Belongs here: who loads, who waits, what is counted; the locks that this needs.
Does not belong here: which are freed (`cache_policy.py`), the library (`llama_adapters.py`), attaching (`llama_native.py`).

Two locks. `_lock` guards the books and is held for microseconds. `_library_lock` keeps loading and freeing apart, since
llama.cpp keeps a model's adapters in a set without a lock of its own. Hashing a file happens under neither: who asks for an
adapter that is in memory waits for nobody.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from lpm_kernel.errors import LlmError
from lpm_kernel.L2.cache_policy import CachePolicy
from lpm_kernel.L2.freed_memory import give_back_freed_memory
from lpm_kernel.L2.llama_adapters import AdapterLibrary, refused
from lpm_kernel.stores.llm import AdapterFile

LOAD_BOUNDS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Upper bounds of the classes that loads are counted in; slower ones are in a class of their own."""

GIVE_BACK_BYTES = 64 * 2**20
"""So much is freed before the system is given it back: that takes milliseconds, and no chat shall pay for each eviction."""


Found = Literal["hits", "joined", "misses"]


@dataclass(frozen=True, slots=True)
class CacheFigures:
    """Since the start, and of answers: each is one of `hits` (its adapter was in memory when it was first asked for), `joined`
    (another caller was loading it, and it waited for that) and `misses`."""

    hits: int
    joined: int
    misses: int
    refusals: int
    evictions: int
    load_seconds: float
    loads: tuple[int, ...]
    """How many took how long: one count for each of LOAD_BOUNDS_S, and one for the slower."""
    adapters: int
    size_bytes: int
    budget_bytes: int


@dataclass(slots=True, eq=False)
class _Entry:
    adapter: AdapterFile
    ready: threading.Event = field(default_factory=threading.Event)
    pointer: Any = None
    size_bytes: int = 0
    refusal: LlmError | None = None
    owed: list[Found] = field(default_factory=list)
    """How it was found for answers that have not begun yet, where they had to wait for it."""


@runtime_checkable
class KeepsAdapters(Protocol):
    """A model that keeps adapters in memory."""

    @property
    def adapters(self) -> AdapterCache: ...


class AdapterCache:
    """At most `budget_bytes` of adapters stay loaded; more only while more are in use or pinned. For many threads."""

    def __init__(
        self,
        library: AdapterLibrary,
        base_sha256: str,
        budget_bytes: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._library = library
        self._base_sha256 = base_sha256
        self._clock = clock
        self._policy = CachePolicy(budget_bytes)
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()
        self._library_lock = threading.Lock()
        self._answers: Counter[Found] = Counter()
        self._refusals = self._evictions = 0
        self._load_seconds = 0.0
        self._loads = [0] * (len(LOAD_BOUNDS_S) + 1)
        self._freed_bytes = 0

    @contextmanager
    def borrow(self, adapter: AdapterFile | None, *, answers: bool = True) -> Iterator[Any | None]:
        """The loaded adapter, safe from being freed until given back; None for none.

        `answers`: whether one is decoded with it; a look at it before is no answer, and is counted with the answer it is for.
        Raises: LlmError `adapter_refused` (permanent): of another base, missing, damaged, or of another shape.
        """
        if adapter is None:
            yield None
            return
        if adapter.base_sha256 != self._base_sha256:
            with self._lock:
                self._refusals += 1
            raise refused(adapter, f"it is recorded for base {adapter.base_sha256[:12]}, loaded is {self._base_sha256[:12]}")
        entry = self._take(adapter, answers)
        try:
            yield entry.pointer
        finally:
            with self._lock:
                self._policy.give_back(adapter.sha256)
                freed = self._evict()
            self._free(freed)

    def pin(self, sha256s: Collection[str]) -> None:
        """These stay in memory once they are there; those pinned before may go."""
        with self._lock:
            self._policy.pin(sha256s)
            freed = self._evict()
        self._free(freed)

    def retire(self, sha256: str) -> None:
        """Another release took its place: freed as soon as nobody uses it."""
        with self._lock:
            self._policy.retire(sha256)
            freed = self._evict()
        self._free(freed)

    def settle(self, sha256: str) -> None:
        """It was loaded ahead of any question: no answer has waited for that."""
        with self._lock:
            if entry := self._entries.get(sha256):
                entry.owed.clear()

    def figures(self) -> CacheFigures:
        with self._lock:
            return CacheFigures(
                hits=self._answers["hits"],
                joined=self._answers["joined"],
                misses=self._answers["misses"],
                refusals=self._refusals,
                evictions=self._evictions,
                load_seconds=self._load_seconds,
                loads=tuple(self._loads),
                adapters=len(self._policy),
                size_bytes=self._policy.size_bytes,
                budget_bytes=self._policy.budget_bytes,
            )

    def __len__(self) -> int:
        return len(self._policy)

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._policy

    def close(self) -> None:
        """Free all that is not in use."""
        with self._lock:
            freed = [self._entries.pop(key) for key in self._policy.take_idle()]
        self._free(freed, at_end=True)

    def _take(self, adapter: AdapterFile, answers: bool) -> _Entry:
        """Its entry, loaded and held."""
        while True:
            with self._lock:
                entry = self._entries.get(adapter.sha256)
                first = entry is None
                if entry is None:
                    entry = self._entries[adapter.sha256] = _Entry(adapter)
                    self._count(entry, "misses", answers)
                else:
                    self._count(entry, "hits" if entry.ready.is_set() else "joined", answers)
                self._policy.touch(adapter.sha256)
                self._policy.hold(adapter.sha256)
            if first:
                self._fill(entry)
                return entry
            entry.ready.wait()
            if entry.pointer is not None:
                return entry
            with self._lock:
                self._policy.give_back(adapter.sha256)
            if entry.refusal is not None and entry.adapter == adapter:
                raise LlmError(entry.refusal.code, entry.refusal.message, retryable=False)
            # who loaded was broken off, or had another file by this name: this caller sees for itself

    def _count(self, entry: _Entry, found: Found, answers: bool) -> None:
        """Under `_lock`."""
        if answers:
            self._answers[entry.owed.pop(0) if found == "hits" and entry.owed else found] += 1
        elif found != "hits":
            entry.owed.append(found)

    def _fill(self, entry: _Entry) -> None:
        adapter = entry.adapter
        begun = self._clock()
        try:
            size_bytes = self._library.check(adapter, self._base_sha256)
            with self._library_lock:
                pointer = self._library.load(adapter)
        except BaseException as error:
            with self._lock:
                del self._entries[adapter.sha256]
                self._policy.give_back(adapter.sha256)
                if isinstance(error, LlmError):
                    entry.refusal = error
                    self._refusals += 1
            entry.ready.set()
            raise
        took_s = self._clock() - begun
        with self._lock:
            entry.pointer, entry.size_bytes = pointer, size_bytes
            self._policy.admit(adapter.sha256, size_bytes)
            self._load_seconds += took_s
            self._loads[bisect_left(LOAD_BOUNDS_S, took_s)] += 1
            freed = self._evict()
        entry.ready.set()
        self._free(freed)

    def _evict(self) -> list[_Entry]:
        """Under `_lock`: nobody finds these any more, so they may be freed after it."""
        victims = self._policy.take_victims()
        self._evictions += len(victims)
        return [self._entries.pop(key) for key in victims]

    def _free(self, entries: Sequence[_Entry], *, at_end: bool = False) -> None:
        if not entries:
            return
        with self._library_lock:
            for entry in entries:
                self._library.free(entry.pointer)
        with self._lock:
            self._freed_bytes += sum(entry.size_bytes for entry in entries)
            due = at_end or self._freed_bytes >= GIVE_BACK_BYTES
            if due:
                self._freed_bytes = 0
        if due:
            give_back_freed_memory()
