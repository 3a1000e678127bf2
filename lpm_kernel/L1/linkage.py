"""Average linkage that can start from groups that are already there.

Belongs here: joining the two nearest groups, again and again, until none are near enough.
Does not belong here: what the groups are of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

NEVER = float("-inf")
"""The similarity of a pair that must not be joined, however near; what one of them joins keeps it."""


def join_nearest(similarity: np.ndarray, sizes: Sequence[int], min_similarity: float) -> list[int]:
    """The group of each row, named by the lowest row in it. Deterministic: of equal pairs the first is joined.

    Shapes: similarity (n, n), symmetric: the mean similarity of two groups' members; sizes, how many members each has.
    Why from groups: average linkage joins near pairs first, so its groups at one threshold are on the way of any later run; a
    run that begins with them and a few loose members does what is left of the work.
    """
    import numpy as np

    rows = len(sizes)
    group = list(range(rows))
    if rows < 2:
        return group
    mean = np.array(similarity, dtype=np.float64)
    np.fill_diagonal(mean, NEVER)
    weight = np.array(sizes, dtype=np.float64)
    nearest = mean.argmax(axis=1)
    everyone = np.arange(rows)
    while True:
        score = mean[everyone, nearest]
        one = int(score.argmax())
        if not score[one] >= min_similarity:
            return group
        low, high = sorted((one, int(nearest[one])))
        joined = (weight[low] * mean[low] + weight[high] * mean[high]) / (weight[low] + weight[high])
        joined[low] = NEVER
        weight[low] += weight[high]
        mean[low], mean[:, low] = joined, joined
        mean[high], mean[:, high] = NEVER, NEVER
        group = [low if number == high else number for number in group]
        stale = (nearest == low) | (nearest == high)
        stale[[low, high]] = True
        nearest[stale] = mean[stale].argmax(axis=1)
        closer = joined > mean[everyone, nearest]
        nearest[closer] = low
