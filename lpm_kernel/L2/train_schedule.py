"""The learning rate of every step, as a share of the one that is set.

Belongs here: warm-up and what comes after it; pure, so that a training that goes on needs only its step.
Does not belong here: the optimizer (`train.py`).
"""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["linear", "cosine", "constant"]


def rate_share(schedule: Schedule, step: int, steps: int, warmup_share: float) -> float:
    """Of step `step` (from 0) of `steps`: rising over the warm-up, then down to nothing, or level."""
    warmup = max(1, round(warmup_share * steps))
    rising = (step + 1) / warmup
    if schedule == "constant":
        return min(1.0, rising)
    left = min(1.0, (steps - step) / max(1, steps - warmup))
    falling = left if schedule == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)
    return min(rising, falling)
