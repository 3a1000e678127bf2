"""A ranking of short texts held in memory: by words in a window of neighbours, by meaning, and by who speaks.

Belongs here: the arrays of one set of texts and the scores of one question over them.
Does not belong here: where the texts come from (`memory_index.py`) and what is done with the best.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from lpm_kernel.stores.stems import stems_of

if TYPE_CHECKING:
    import numpy as np

    from lpm_kernel.settings import MemoryRankingSettings

K1, B = 1.2, 0.75
_SPEAKER = re.compile(r"\s*([^\W\d_][\w .'’-]{0,38}):\s")


@dataclass(frozen=True, slots=True)
class IndexedText:
    """A text as it is ranked. Texts of one `group` (a session) are neighbours in the order of `place`."""

    item_id: str
    group: str | None
    place: int
    stems: tuple[str, ...]
    speaker: str | None
    asks: bool
    """Whether it is a question, which seldom answers another."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Positions of the best, best first, with their fused score (0 to 1) and their own cosine."""

    positions: np.ndarray
    scores: np.ndarray
    cosines: np.ndarray


def index_text(item_id: str, text: str, group: str | None, place: int) -> IndexedText:
    return IndexedText(item_id, group, place, tuple(stems_of(text)), speaker_of(text), asks(text))


def asks(text: str) -> bool:
    return text.rstrip().endswith(("?", "？"))


def speaker_of(text: str) -> str | None:
    """The stem of the first word of a label such as "Ann Lee: …", by which lines of several people are told apart."""
    label = _SPEAKER.match(text)
    stems = stems_of(label[1]) if label and not label[1][0].islower() else []
    return stems[0] if stems else None


class TextIndex:
    """Immutable; safe to share between threads.

    Shapes: vectors float32 (n, d), unit rows in the order of the items.
    Source: BM25 (k1 1.2, b 0.75) over stems of a window in which a neighbour's word counts `neighbour_weight`; min-max fusion
    over the candidates. Why a window: in a conversation the answer often stands beside the words that the question shares.
    """

    def __init__(self, items: Sequence[IndexedText], vectors: np.ndarray, memory_ranking: MemoryRankingSettings) -> None:
        import numpy as np

        self.items = tuple(items)
        self.vectors = vectors
        self._memory_ranking = memory_ranking
        self._window = _window(self.items, memory_ranking.neighbours, memory_ranking.neighbour_weight)
        norms = np.linalg.norm(self._window @ vectors, axis=1) if len(items) else np.zeros(0)
        self._window_norms = np.maximum(norms, 1e-9).astype(np.float32)
        self._words = _Words(self.items, self._window)
        self._asking = memory_ranking.asking * np.array([item.asks for item in self.items], dtype=np.float32)
        self._speakers: dict[str, list[int]] = {}
        for position, item in enumerate(self.items):
            if item.speaker:
                self._speakers.setdefault(item.speaker, []).append(position)

    @property
    def size_bytes(self) -> int:
        return int(self.vectors.nbytes + self._words.size_bytes + 16 * self._window.nnz)

    def rank(self, question: str, vector: np.ndarray, candidates: np.ndarray, k: int) -> Ranked:
        """The best `k` of the candidates (a mask over the items), ties in item id order."""
        import numpy as np

        among = np.flatnonzero(candidates)
        if not len(among):
            return Ranked(among, np.zeros(0), np.zeros(0))
        asked = set(stems_of(question))
        cosines = self.vectors @ vector
        around = (self._window @ cosines) / self._window_norms
        memory_ranking = self._memory_ranking
        fused = (
            memory_ranking.words * stretch(self._words.scores(asked)[among])
            + memory_ranking.meaning * stretch(cosines[among])
            + memory_ranking.meaning_around * stretch(around[among])
            + memory_ranking.speaker * self._spoken_by(asked)[among]
        ) / (memory_ranking.words + memory_ranking.meaning + memory_ranking.meaning_around + memory_ranking.speaker)
        fused -= self._asking[among]
        best = _top(fused, k)
        order = dict(zip(among[best].tolist(), fused[best].tolist(), strict=True))
        chosen = sorted(order, key=lambda position: (-order[position], self.items[position].item_id))[:k]
        positions = np.array(chosen, dtype=np.int64)
        return Ranked(positions, np.array([max(0.0, order[position]) for position in chosen]), cosines[positions])

    def _spoken_by(self, asked: set[str]) -> np.ndarray:
        """1 where the one who speaks is named in the question, if anyone is and others speak too."""
        import numpy as np

        spoken = np.zeros(len(self.items), dtype=np.float32)
        named = [positions for name, positions in self._speakers.items() if name in asked]
        if len(named) < len(self._speakers):
            for positions in named:
                spoken[positions] = 1
        return spoken


def stretch(values: np.ndarray) -> np.ndarray:
    """Values over their own range, 0 to 1; all 0 where they are equal."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else values * 0


def _top(scores: np.ndarray, k: int) -> np.ndarray:
    """Positions of all that reach the k-th score, so that a tie at the border is decided by id and not by chance."""
    import numpy as np

    if k >= len(scores):
        return np.arange(len(scores))
    return np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])


class _Words:
    """BM25 by columns: one stem's texts and their saturated counts, times how rare it is."""

    def __init__(self, items: Sequence[IndexedText], window: Any) -> None:
        import numpy as np
        from scipy.sparse import csr_matrix

        self._column: dict[str, int] = {}
        columns = [self._column.setdefault(stem, len(self._column)) for item in items for stem in item.stems]
        starts = np.cumsum([0, *(len(item.stems) for item in items)])
        shape = (len(items), len(self._column))
        own = csr_matrix((np.ones(len(columns), dtype=np.float32), np.array(columns, dtype=np.int32), starts), shape)
        own.sum_duplicates()
        self._count = len(items)
        counts = (window @ own).tocsr()
        length = np.asarray(counts.sum(axis=1)).ravel()
        mean = max(float(length.mean()), 1e-9) if len(items) else 1.0
        rows = np.repeat(np.arange(len(items)), np.diff(counts.indptr))
        times = counts.data
        counts.data = (times * (K1 + 1) / (times + K1 * (1 - B + B * length[rows] / mean))).astype(np.float32)
        self._by_stem = counts.tocsc()
        held = np.diff(self._by_stem.indptr)
        self._rarity = np.log1p((len(items) - held + 0.5) / (held + 0.5))

    @property
    def size_bytes(self) -> int:
        return int(self._by_stem.data.nbytes + self._by_stem.indices.nbytes + 100 * len(self._column))

    def scores(self, asked: set[str]) -> np.ndarray:
        import numpy as np

        total = np.zeros(self._count, dtype=np.float64)
        for column in sorted(self._column[stem] for stem in asked if stem in self._column):
            part = slice(self._by_stem.indptr[column], self._by_stem.indptr[column + 1])
            total[self._by_stem.indices[part]] += self._rarity[column] * self._by_stem.data[part]
        return total


def _window(items: Sequence[IndexedText], neighbours: int, weight: float) -> Any:
    """Sparse (n, n): 1 on the diagonal, `weight` for those up to `neighbours` places before and after in the same group."""
    import numpy as np
    from scipy.sparse import csr_matrix

    rows, columns, values = list(range(len(items))), list(range(len(items))), [1.0] * len(items)
    for line in _lines(items).values():
        for distance in range(1, neighbours + 1):
            pairs = zip(line, line[distance:], strict=False)
            for one, other in pairs:
                rows += [one, other]
                columns += [other, one]
                values += [weight, weight]
    shape = (len(items), len(items))
    return csr_matrix((np.array(values, dtype=np.float32), (rows, columns)), shape)


def _lines(items: Sequence[IndexedText]) -> Mapping[str, list[int]]:
    grouped = sorted(
        (position for position, item in enumerate(items) if item.group is not None),
        key=lambda position: (items[position].group or "", items[position].place, items[position].item_id),
    )
    return {group or "": list(line) for group, line in groupby(grouped, key=lambda position: items[position].group)}
