"""How sure a count is: intervals of 95 % for a share and for the difference of two shares, and the odds of chance.

Belongs here: statistics of counts.
Does not belong here: what is counted (`scorers.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Z = 1.959964
"""Standard deviations that 95 % of a normal distribution lie within."""


def share_interval(right: int, asked: int) -> tuple[float, float]:
    """Wilson's score interval for right/asked; (0, 1) where nothing was asked."""
    if not asked:
        return 0.0, 1.0
    share, z2 = right / asked, Z * Z
    middle = (share + z2 / (2 * asked)) / (1 + z2 / asked)
    half = Z / (1 + z2 / asked) * math.sqrt(share * (1 - share) / asked + z2 / (4 * asked * asked))
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_difference(one: Sequence[bool], other: Sequence[bool]) -> tuple[float, float, float]:
    """Share of `one` minus share of `other`, asked the same questions in the same order, with its interval.

    Source: Newcombe 1998, method 10: Wilson's intervals of the two shares, joined by the correlation of the answers.
    Raises: ValueError when the questions are none or not the same number.
    """
    if len(one) != len(other) or not one:
        raise ValueError(f"{len(one)} and {len(other)} answers are no pairs")
    n = len(one)
    both = sum(a and b for a, b in zip(one, other, strict=True))
    right, against = sum(one), sum(other)
    p, q = right / n, against / n
    low_p, high_p = share_interval(right, n)
    low_q, high_q = share_interval(against, n)
    phi = _correlation(both, right - both, against - both, n - right - against + both)
    down = (p - low_p) ** 2 - 2 * phi * (p - low_p) * (high_q - q) + (high_q - q) ** 2
    up = (high_p - p) ** 2 - 2 * phi * (high_p - p) * (q - low_q) + (q - low_q) ** 2
    difference = p - q
    return difference, max(-1.0, difference - math.sqrt(max(0.0, down))), min(1.0, difference + math.sqrt(max(0.0, up)))


def _correlation(both: int, one: int, other: int, neither: int) -> float:
    """Phi of the two-by-two table, with Newcombe's continuity correction; 0 where a row or column is empty."""
    margins = (both + one) * (other + neither) * (both + other) * (one + neither)
    if not margins:
        return 0.0
    product = both * neither - one * other
    if product > 0:
        product = max(product - (both + one + other + neither) / 2, 0)
    return product / math.sqrt(margins)


def chance_of_so_many(found: int, asked: int, rate: float) -> float:
    """Probability of `found` or more out of `asked` when each happens at this rate."""
    return min(1.0, sum(math.comb(asked, k) * rate**k * (1 - rate) ** (asked - k) for k in range(found, asked + 1)))
