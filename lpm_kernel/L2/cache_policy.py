"""Which adapters stay in memory: a byte budget, a small window for newcomers, and a main part that must be earned.

Belongs here: who is freed when there is too little room. Pure: keys, sizes and uses, no clock, no lock, no file.
Does not belong here: loading and freeing (`adapter_cache.py`).

Why not the longest unused first: one pass over many twins, as after a night of training, would free every adapter that is in
daily use, and from then on each of those chats waits for its adapter too. A newcomer therefore lives in the window, and takes
the place of another in the main part only when it was used more often (W-TinyLFU, arXiv 1512.00727, with exact counts).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection

WINDOW_SHARE = 0.2
"""Of the budget, for what came lately."""

MOST_USES = 15
"""Where counting stops: who was loved long ago is overtaken soon."""

AGE_AFTER_USES = 32
"""Times the number of adapters that are resident (at least 64): then every count is halved."""

LEAST_RESIDENT = 64


class CachePolicy:
    """Decides; the caller does. Not for two threads at once."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._window: OrderedDict[str, int] = OrderedDict()
        self._main: OrderedDict[str, int] = OrderedDict()
        self._window_bytes = 0
        self._main_bytes = 0
        self._held: Counter[str] = Counter()
        self._pinned: frozenset[str] = frozenset()
        self._retired: set[str] = set()
        self._uses: dict[str, int] = {}
        self._counted = 0
        self._last: str | None = None

    @property
    def size_bytes(self) -> int:
        return self._window_bytes + self._main_bytes

    def __len__(self) -> int:
        return len(self._window) + len(self._main)

    def __contains__(self, key: str) -> bool:
        return key in self._window or key in self._main

    def touch(self, key: str) -> None:
        """A use of this adapter, resident or not. Several in a row count once: one chat asks more than once for its adapter."""
        self._retired.discard(key)
        for part in (self._window, self._main):
            if key in part:
                part.move_to_end(key)
        if key == self._last:
            return
        self._last = key
        self._uses[key] = min(self._uses.get(key, 0) + 1, MOST_USES)
        self._counted += 1
        if self._counted >= AGE_AFTER_USES * max(LEAST_RESIDENT, len(self)):
            self._counted = 0
            self._uses = {key: uses // 2 for key, uses in self._uses.items() if uses > 1}

    def admit(self, key: str, size_bytes: int) -> None:
        """It is in memory now."""
        assert key not in self
        self._window[key] = size_bytes
        self._window_bytes += size_bytes

    def hold(self, key: str) -> None:
        """It is in use, and not freed until given back as often as it was held."""
        self._held[key] += 1

    def give_back(self, key: str) -> None:
        self._held[key] -= 1
        if self._held[key] <= 0:
            del self._held[key]

    def pin(self, keys: Collection[str]) -> None:
        """These are never freed; those pinned before are, unless named again. They count against the budget."""
        self._pinned = frozenset(keys)

    def retire(self, key: str) -> None:
        """Nobody is expected to use it again: it goes as soon as it is not in use, unless somebody does."""
        if key in self:
            self._retired.add(key)

    def take_victims(self) -> list[str]:
        """What is to be freed now; resident no longer."""
        freed = [key for key in self._retired if self._is_idle(key)]
        for key in freed:
            self._drop(key)
        while self.size_bytes > self.budget_bytes and (victim := self._choose()) is not None:
            self._drop(victim)
            freed.append(victim)
        self._use_free_room()
        return freed

    def take_idle(self) -> list[str]:
        """Everything that is not in use, pinned or not; resident no longer."""
        idle = [key for key in (*self._window, *self._main) if not self._held[key]]
        for key in idle:
            self._drop(key)
        return idle

    def _choose(self) -> str | None:
        """The next to go, None while all are in use or pinned."""
        rival = self._oldest_idle(self._main)
        too_many = self._window_bytes > self.budget_bytes * WINDOW_SHARE
        candidate = self._oldest_idle(self._window) if too_many or rival is None else None
        if candidate is None or rival is None:
            return candidate or rival
        if self._uses.get(candidate, 0) <= self._uses.get(rival, 0):
            return candidate
        self._to_main(candidate)
        return rival

    def _use_free_room(self) -> None:
        """While nobody has to go, who leaves the window may stay without having earned it."""
        if self.size_bytes > self.budget_bytes:
            return
        while self._window_bytes > self.budget_bytes * WINDOW_SHARE and len(self._window) > 1:
            self._to_main(next(iter(self._window)))

    def _to_main(self, key: str) -> None:
        size = self._window.pop(key)
        self._window_bytes -= size
        self._main[key] = size
        self._main_bytes += size

    def _oldest_idle(self, part: OrderedDict[str, int]) -> str | None:
        return next((key for key in part if self._is_idle(key)), None)

    def _is_idle(self, key: str) -> bool:
        return not self._held[key] and key not in self._pinned

    def _drop(self, key: str) -> None:
        self._retired.discard(key)
        if key in self._window:
            self._window_bytes -= self._window.pop(key)
        else:
            self._main_bytes -= self._main.pop(key)
