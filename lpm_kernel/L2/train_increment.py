"""Which rows a training takes: all of them, or only what the last adapter has not learned.

Belongs here: that decision, and which held-out rows it is measured on: pure functions over rows.
Does not belong here: reading what was learned (`stages.py`), and training.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lpm_kernel.L2.records import TrainingRow


@dataclass(frozen=True, slots=True)
class Increment:
    rows: tuple[TrainingRow, ...]
    """New ones, and the replayed after them; empty when there is nothing new."""
    replayed: int
    why: str


def plan_increment(rows: Sequence[TrainingRow], learned: Collection[str], replay_share: float, seed: int) -> Increment | None:
    """What is left to learn for an adapter that has learned these; None when it must be trained from the start.

    Why never where a row has gone: weights cannot unlearn it, and a deleted document must be gone from them.
    """
    before = frozenset(learned)
    if before - {row.checksum for row in rows}:
        return None
    new = [row for row in rows if row.checksum not in before]
    if not new:
        return Increment((), 0, "no row is new")
    known = [row for row in rows if row.checksum in before]
    replayed = random.Random(seed).sample(known, math.ceil(replay_share * len(known)))
    return Increment((*new, *replayed), len(replayed), f"{len(new)} rows are new, {len(replayed)} are trained again")


def spread(rows: Sequence[TrainingRow], count: int) -> list[TrainingRow]:
    """At most so many of the rows, from all over their order."""
    if count >= len(rows):
        return list(rows)
    return [rows[index * len(rows) // count] for index in range(count)]
