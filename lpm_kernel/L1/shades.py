"""Shades: aspects of the person, told by their own sentences. No language model, no clock.

Belongs here: which topics are one aspect, and which of its sentences stand on its timeline.
Does not belong here: sentences and their dates (`sentences.py`), the most telling of them (`central.py`), the whole person
(`biography.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L1.central import by_centrality, said_once, sentences_by_chunk, tellable
from lpm_kernel.L1.linkage import join_nearest
from lpm_kernel.L1.records import BiographyLine, Shade, TimelineEvent
from lpm_kernel.L1.sentences import Sentence, is_all_of_others, whole_chunk
from lpm_kernel.L1.topics import MISC, check_table, not_just_once
from lpm_kernel.records import Document, EmbeddingTable, Topic, content_id

if TYPE_CHECKING:
    import numpy as np

LINES = 2
CENTRAL_EVENTS, LAST_EVENTS = 16, 8


def make_shades(
    items: Sequence[ChunkText],
    table: EmbeddingTable,
    topics: Sequence[Topic],
    shade_similarity: float,
    documents: Sequence[Document] = (),
) -> list[Shade]:
    """One shade for each aspect, largest first; every topic but `misc` is in exactly one.

    Topics are one aspect while the cosine of their centres, by average linkage, is at least `shade_similarity`. A shade's id is
    that of its largest topic, so it stays as topics do. `documents` say who wrote and when: no word of the twin's counts, nor a
    chunk in which others alone speak.
    Source: sentences are ranked by how central they are, by words within the shade and by the meaning of their chunk.
    Deterministic. Raises: RetrievalError `embeddings_do_not_match`.
    """
    check_table(items, table)
    position = {chunk_id: i for i, chunk_id in enumerate(table.chunk_ids)}
    twin_made = {document.sha256 for document in documents if document.created_by == "twin"}
    spoken = sentences_by_chunk(items, documents)
    shades: list[Shade] = []
    for group in _aspects([topic for topic in topics if topic.label != MISC], shade_similarity):
        places = sorted(position[chunk_id] for topic in group for chunk_id in topic.chunk_ids)
        own = [i for i in places if items[i].chunk.document_sha256 not in twin_made and not is_all_of_others(items[i].text)]
        if own:
            shades.append(_shade(group, [items[i] for i in own], table.vectors[own], spoken))
    return sorted(shades, key=lambda shade: (-len(shade.chunk_ids), shade.shade_id))


def topics_without_a_shade(
    topics: Sequence[Topic], shades: Sequence[Shade], items: Sequence[ChunkText], documents: Sequence[Document]
) -> list[str]:
    """Topics that are not in exactly one shade, though the user wrote something in them."""
    own = {document.sha256 for document in documents if document.created_by == "user"}
    mine = {item.chunk.chunk_id for item in items if item.chunk.document_sha256 in own and not is_all_of_others(item.text)}
    wanted = [topic.topic_id for topic in topics if topic.label != MISC and not mine.isdisjoint(topic.chunk_ids)]
    known = {*wanted}
    return not_just_once((topic_id for shade in shades for topic_id in shade.topic_ids if topic_id in known), wanted)


def _aspects(topics: Sequence[Topic], shade_similarity: float) -> list[list[Topic]]:
    """Topics that are close, together; in each the largest first."""
    import numpy as np

    if not topics:
        return []
    ordered = sorted(topics, key=lambda topic: (-len(topic.chunk_ids), topic.topic_id))
    centres = np.array([topic.centroid for topic in ordered])
    groups = join_nearest(centres @ centres.T, [len(topic.chunk_ids) for topic in ordered], shade_similarity)
    return [[topic for topic, own in zip(ordered, groups, strict=True) if own == group] for group in dict.fromkeys(groups)]


def _shade(
    topics: Sequence[Topic],
    items: Sequence[ChunkText],
    vectors: np.ndarray,
    spoken: dict[str, list[Sentence]],
) -> Shade:
    shade_id = content_id(items[0].chunk.user_id, "shade", topics[0].topic_id)[:32]
    ranked = by_centrality(said_once(items, spoken) or [whole_chunk(item) for item in items], items, vectors)
    return Shade(
        shade_id=shade_id,
        name=topics[0].label,
        topic_ids=tuple(topic.topic_id for topic in topics),
        chunk_ids=tuple(item.chunk.chunk_id for item in items),
        lines=tuple(
            BiographyLine(shade_id, topics[0].label, sentence.text, (sentence.citation,), sentence.date)
            for sentence in tellable(ranked, LINES)
        ),
        timeline=_timeline(ranked),
    )


def _timeline(ranked: Sequence[Sentence]) -> tuple[TimelineEvent, ...]:
    """The most central dated statements, and those written last, by date."""
    dated = [sentence for sentence in ranked if sentence.date and sentence.is_statement]
    own = [sentence for sentence in dated if sentence.is_of_oneself] or dated
    last = sorted(own, key=lambda sentence: sentence.written or "", reverse=True)  # stable: equally late ones by centrality
    chosen = {sentence.text: sentence for sentence in [*own[:CENTRAL_EVENTS], *last[:LAST_EVENTS]]}
    events = [
        TimelineEvent(sentence.date, sentence.dated_by, sentence.written, sentence.text, sentence.citation)
        for sentence in chosen.values()
        if sentence.date and sentence.dated_by
    ]
    return tuple(sorted(events, key=lambda event: (event.date, event.citation.filename, event.citation.byte_start)))
