"""The graph that communities are found in: chunks, the things they name, and what ties them.

Belongs here: which nodes and edges there are, and how much each edge weighs.
Does not belong here: communities themselves (`communities.py`), and the temporal graph of facts (`memory_graph.py`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.records import EmbeddingTable, Entity
from lpm_kernel.settings import CommunitySettings
from lpm_kernel.stores.ner import NUMERIC

NEXT_WEIGHT = 0.1  # of two chunks that follow each other, when nothing else ties them
BATCH = 512


@dataclass(frozen=True, slots=True)
class ChunkGraph:
    """Nodes 0 to `chunks` - 1 are chunks by position, the others entities. Edges go from the lower node to the higher."""

    chunks: int
    entities: int
    edges: dict[tuple[int, int], float]


def build_graph(
    items: Sequence[ChunkText], table: EmbeddingTable, entities: Sequence[Entity], communities: CommunitySettings
) -> ChunkGraph:
    """Ties of three kinds: a chunk to its nearest chunks by meaning, to what it names, and lightly to the one that follows it.

    Why rare things tie more: a name that stands in most chunks, such as the person's own, would hold everything together. One
    that stands in a single chunk ties it to nothing, and is no node; numbers and dates are nothing that two chunks share.
    """
    edges = _near(table, communities)
    for i, (one, two) in enumerate(pairwise(items)):
        if one.chunk.document_sha256 == two.chunk.document_sha256:
            edges[i, i + 1] = edges.get((i, i + 1), 0.0) + NEXT_WEIGHT
    position = {chunk_id: i for i, chunk_id in enumerate(table.chunk_ids)}
    node = len(items)
    for entity in entities:
        named = mentions_by_chunk(entity, position)
        if entity.type not in NUMERIC and len(named) > 1:
            for i, times in named.items():
                edges[i, node] = rarity(len(named), len(items)) * (1 + math.log(times))
            node += 1
    return ChunkGraph(len(items), node - len(items), edges)


def mentions_by_chunk(entity: Entity, position: dict[str, int]) -> Counter[int]:
    """How often it is named in each chunk, by the chunk's position; chunks that are gone are left out."""
    return Counter(position[mention.chunk_id] for mention in entity.mentions if mention.chunk_id in position)


def rarity(chunks: int, of_all: int) -> float:
    """1 for what stands in one chunk of many, 0 for what stands in all of them."""
    return math.log(of_all / chunks) / math.log(of_all) if of_all > 1 else 0.0


def _near(table: EmbeddingTable, communities: CommunitySettings) -> dict[tuple[int, int], float]:
    """Each chunk's nearest chunks, as many as `neighbours`, whose cosine is at least `min_similarity`."""
    import numpy as np

    edges: dict[tuple[int, int], float] = {}
    count = min(communities.neighbours, len(table.vectors) - 1)
    if count < 1:
        return edges
    for first in range(0, len(table.vectors), BATCH):
        cosines = np.round(table.vectors[first : first + BATCH] @ table.vectors.T, 5)  # the last digits are the machine's
        rows = np.arange(len(cosines))
        cosines[rows, first + rows] = -2.0
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        for row in rows:
            for other in nearest[row]:
                if cosines[row, other] >= communities.min_similarity and cosines[row, other] > 0:
                    i, j = sorted((first + int(row), int(other)))
                    edges[i, j] = float(cosines[row, other])
    return edges
