"""Ids that stay: which group of today is which group of last time, for topics and communities alike.

Belongs here: matching groups of chunks with those that are known, and the centre by which they are compared.
Does not belong here: how chunks are grouped (`topics.py`, `communities.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpm_kernel.records import EmbeddingTable

if TYPE_CHECKING:
    import numpy as np

SAME_CENTRE = 0.9  # cosine of two centres of one interest whose chunks were all cut anew


@dataclass(frozen=True, slots=True)
class KnownGroup:
    """A group of last time."""

    group_id: str
    chunk_ids: frozenset[str]
    centre: tuple[float, ...]


def keep_ids(
    table: EmbeddingTable,
    groups: Sequence[Sequence[int]],
    known: Sequence[KnownGroup],
    used: Collection[str],
    new_id: Callable[[Sequence[str]], str],
    *,
    by_centre: bool,
) -> list[str]:
    """An id for each group of positions: of the known group most of whose remaining chunks it holds, else (with `by_centre`)
    of one with its centre, else a new one that is not among `used`. `by_centre` asks for vectors of one model.
    """
    ids: dict[int, str] = {}
    now = frozenset(table.chunk_ids)
    chunk_ids = [{table.chunk_ids[i] for i in members} for members in groups]
    shared = [
        (-common, group.group_id, number)
        for group in known
        for number, members in enumerate(chunk_ids)
        if (common := len(members & group.chunk_ids)) * 2 > len(group.chunk_ids & now)
    ]
    _claim(ids, shared)
    free = _unclaimed(known, ids)
    if by_centre and free and groups:
        cosines = _cosines(table.vectors, groups, free)
        near = [
            (-float(cosines[number, i]), group.group_id, number)
            for i, group in enumerate(free)
            for number in range(len(groups))
            if cosines[number, i] >= SAME_CENTRE
        ]
        _claim(ids, near)
    taken = set(used)
    for number, members in enumerate(chunk_ids):
        if number not in ids:
            fresh = new_id(sorted(members))
            while fresh in taken:
                fresh = new_id([fresh])
            ids[number] = fresh
            taken.add(fresh)
    return [ids[number] for number in range(len(groups))]


def centre_of(vectors: np.ndarray) -> np.ndarray:
    """The mean direction of unit vectors, of length 1. Shapes: (n, dim) to (dim,)."""
    import numpy as np

    mean = vectors.mean(axis=0)
    return mean / max(float(np.linalg.norm(mean)), 1e-9)


def _unclaimed(known: Sequence[KnownGroup], ids: Mapping[int, str]) -> list[KnownGroup]:
    taken = set(ids.values())
    return [group for group in known if group.group_id not in taken]


def _claim(ids: dict[int, str], claims: Iterable[tuple[float, str, int]]) -> None:
    """Strongest claim first; one id a group, one group an id."""
    for _, group_id, number in sorted(claims):
        if number not in ids and group_id not in ids.values():
            ids[number] = group_id


def _cosines(vectors: np.ndarray, groups: Sequence[Sequence[int]], known: Sequence[KnownGroup]) -> np.ndarray:
    import numpy as np

    centres = np.array([centre_of(vectors[list(members)]) for members in groups])
    return centres @ np.array([group.centre for group in known]).T
