"""Who asks for an adapter, one after another: traces to replay against a cache.

Belongs here: making them, and the cache they are measured against.
Does not belong here: assertions.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

TENANTS = 1000


def zipf_trace(length: int, *, skew: float = 0.9, seed: int = 1, tenants: int = TENANTS) -> list[str]:
    """A few tenants chat often, most seldom: the n-th likeliest 1/n^skew as often as the first."""
    chance = np.random.default_rng(seed)
    shares = np.arange(1, tenants + 1, dtype=float) ** -skew
    return [f"tenant-{number}" for number in chance.choice(tenants, size=length, p=shares / shares.sum())]


def scan_trace(length: int, *, start: int = 0) -> list[str]:
    """Each tenant once: a night's evaluation, or a load test."""
    return [f"scanned-{start + number}" for number in range(length)]


def lru_hits(trace: Sequence[str], entries: int) -> int:
    """How many of these a plain LRU of equal adapters finds in memory."""
    kept: OrderedDict[str, None] = OrderedDict()
    hits = 0
    for key in trace:
        hits += key in kept
        kept[key] = None
        kept.move_to_end(key)
        if len(kept) > entries:
            kept.popitem(last=False)
    return hits
