"""Communities in words: their key entities, and the user's own most central sentences.

Belongs here: what one community is told by, given its chunks.
Does not belong here: which chunks it holds (`communities.py`) and how central a sentence is (`central.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L1.central import by_centrality, said_once, sentences_by_chunk, tellable
from lpm_kernel.L1.chunk_graph import mentions_by_chunk, rarity
from lpm_kernel.L1.lasting_ids import centre_of
from lpm_kernel.L1.records import ChunkSalience, CitedLine, Community
from lpm_kernel.L1.sentences import Sentence
from lpm_kernel.L1.topics import label_of
from lpm_kernel.records import Document, EmbeddingTable, Entity
from lpm_kernel.stores.ner import NUMERIC

if TYPE_CHECKING:
    import numpy as np

LINES = 3
KEY_ENTITIES = 6
NO_THING = NUMERIC | {"NORP"}  # "French" may tie two chunks, but nobody can be asked about it


@dataclass(frozen=True, slots=True)
class Material:
    """What communities are told from."""

    items: Sequence[ChunkText]
    vectors: np.ndarray
    named: Sequence[tuple[str, Mapping[int, int]]]
    """Names of entities, and how often each stands in which chunk, by position."""
    spoken: Mapping[str, Sequence[Sentence]]
    """The user's own sentences by chunk."""
    salience: Mapping[str, float]


def gather_material(
    items: Sequence[ChunkText],
    table: EmbeddingTable,
    entities: Sequence[Entity],
    salience: Sequence[ChunkSalience],
    by_sha: Mapping[str, Document],
) -> Material:
    position = {chunk_id: i for i, chunk_id in enumerate(table.chunk_ids)}
    return Material(
        items,
        table.vectors,
        [(entity.name, mentions_by_chunk(entity, position)) for entity in entities if entity.type not in NO_THING],
        sentences_by_chunk(
            [item for item in items if by_sha[item.chunk.document_sha256].created_by == "user"], list(by_sha.values())
        ),
        {row.chunk_id: row.salience for row in salience},
    )


def tell_community(community_id: str, members: Sequence[int], keywords: Sequence[str], material: Material) -> Community:
    items = [material.items[i] for i in members]
    ranked = by_centrality(said_once(items, material.spoken), items, material.vectors[list(members)])
    lines = [CitedLine(sentence.text, sentence.citation, sentence.date) for sentence in tellable(ranked, LINES)]
    names = _key_entities(members, material)
    return make_community(community_id, label_of(keywords, names), members, material, names, lines)


def make_community(
    community_id: str,
    label: str,
    members: Sequence[int],
    material: Material,
    names: Sequence[str] = (),
    lines: Sequence[CitedLine] = (),
) -> Community:
    chunk_ids = tuple(material.items[i].chunk.chunk_id for i in members)
    return Community(
        community_id=community_id,
        label=label,
        key_entities=tuple(names),
        chunk_ids=chunk_ids,
        lines=tuple(lines),
        salience=round(sum(material.salience.get(chunk_id, 0.0) for chunk_id in chunk_ids) / len(chunk_ids), 6),
        centroid=tuple(round(float(value), 6) for value in centre_of(material.vectors[list(members)])),
    )


def _key_entities(members: Sequence[int], material: Material) -> list[str]:
    """What it names most, against how many chunks of all name it; a name once, whatever its types."""
    inside = set(members)
    scores: dict[str, float] = {}
    for name, named in material.named:
        times = sum(number for i, number in named.items() if i in inside)
        if times:
            scores[name] = max(scores.get(name, 0.0), times * rarity(len(named), len(material.items)))
    return sorted(scores, key=lambda name: (-round(scores[name], 6), name))[:KEY_ENTITIES]
