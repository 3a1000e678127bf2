"""Shades: aspects of the person, told by their own sentences. No language model, no clock.

Belongs here: which topics are one aspect, and which of its sentences are told and stand on its timeline.
Does not belong here: finding sentences and their dates (`sentences.py`) and the person as a whole (`biography.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L1.linkage import join_nearest
from lpm_kernel.L1.records import BiographyLine, Shade, TimelineEvent
from lpm_kernel.L1.sentences import Sentence, read_sentences, whole_chunk
from lpm_kernel.L1.topics import MISC, check_table
from lpm_kernel.records import EmbeddingTable, Topic, content_id

if TYPE_CHECKING:
    import numpy as np

LINES = 2
DAMPING = 6
WORD = r"(?u)\b[^\W\d_][\w'’-]{2,}\b"
CENTRAL_EVENTS, LAST_EVENTS = 16, 8


def make_shades(
    items: Sequence[ChunkText],
    table: EmbeddingTable,
    topics: Sequence[Topic],
    shade_similarity: float,
    *,
    twin_made: Collection[str] = (),
) -> list[Shade]:
    """One shade for each aspect, largest first; every topic but `misc` is in exactly one.

    Topics are one aspect while the cosine of their centres, by average linkage, is at least `shade_similarity`. A shade's id is
    that of its largest topic, so it stays as topics do. `twin_made` are documents that the twin wrote: none of its words count.
    Source: sentences are ranked by how central they are, by words within the shade and by the meaning of their chunk.
    Deterministic. Raises: RetrievalError `embeddings_do_not_match`.
    """
    check_table(items, table)
    position = {chunk_id: i for i, chunk_id in enumerate(table.chunk_ids)}
    spoken: dict[str, list[Sentence]] = {}
    for sentence in read_sentences(items):
        spoken.setdefault(sentence.citation.chunk_id, []).append(sentence)
    shades: list[Shade] = []
    for group in _aspects([topic for topic in topics if topic.label != MISC], shade_similarity):
        places = sorted(position[chunk_id] for topic in group for chunk_id in topic.chunk_ids)
        own = [i for i in places if items[i].chunk.document_sha256 not in twin_made]
        if own:
            shades.append(_shade(group, [items[i] for i in own], table.vectors[own], spoken))
    return sorted(shades, key=lambda shade: (-len(shade.chunk_ids), shade.shade_id))


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
    sentences = [sentence for item in items for sentence in spoken.get(item.chunk.chunk_id, [])]
    unique = {sentence.text: sentence for sentence in reversed(sentences)}  # said twice, it counts once: where it stood first
    sentences = [sentence for sentence in sentences if unique[sentence.text] is sentence]
    ranked = _by_centrality(sentences or [whole_chunk(item) for item in items], items, vectors)
    return Shade(
        shade_id=shade_id,
        name=topics[0].label,
        topic_ids=tuple(topic.topic_id for topic in topics),
        chunk_ids=tuple(item.chunk.chunk_id for item in items),
        lines=tuple(
            BiographyLine(shade_id, topics[0].label, sentence.text, (sentence.citation,), sentence.date)
            for sentence in _tellable(ranked)
        ),
        timeline=_timeline(ranked),
    )


def _tellable(ranked: Sequence[Sentence]) -> list[Sentence]:
    """The most central sentences that a stranger would understand, of two chunks; of lesser ones only where there is none."""
    wishes = (
        lambda s: s.is_statement and s.is_of_oneself and s.is_clear,
        lambda s: s.is_statement and s.is_of_oneself,
        lambda s: s.is_statement,
        lambda s: True,
    )
    for wish in wishes:
        by_chunk: dict[str, Sentence] = {}
        for sentence in filter(wish, ranked):
            by_chunk.setdefault(sentence.citation.chunk_id, sentence)
        if by_chunk:
            return list(by_chunk.values())[:LINES]
    return []


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


def _by_centrality(sentences: Sequence[Sentence], items: Sequence[ChunkText], vectors: np.ndarray) -> list[Sentence]:
    """Most central first.

    Why counted words against a damped length, and not a cosine: by cosine "I offered to do it." is the centre of everything.
    """
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer

    centre = vectors.mean(axis=0)
    centre = centre / max(float(np.linalg.norm(centre)), 1e-9)
    of_chunk = {item.chunk.chunk_id: float(vector @ centre) for item, vector in zip(items, vectors, strict=True)}
    scores = np.array([of_chunk[sentence.citation.chunk_id] for sentence in sentences])
    vectorizer = CountVectorizer(stop_words="english", binary=True, token_pattern=WORD)
    try:
        words = vectorizer.fit_transform([sentence.text for sentence in sentences]).tocsr()  # type: ignore[attr-defined]
    except ValueError:  # no sentence has a word that is not a stop word
        pass
    else:
        stand_in = np.asarray(words.sum(axis=0), dtype=float).ravel()  # how many sentences a word stands in
        stand_in[stand_in < 2] = 0  # a word of one sentence ties it to no other
        said = np.asarray(words @ stand_in).ravel() / np.sqrt(np.asarray(words.sum(axis=1)).ravel() + DAMPING)
        scores = scores + said / max(float(said.max()), 1e-9)
    order = sorted(range(len(sentences)), key=lambda i: (-round(float(scores[i]), 6), i))
    return [sentences[i] for i in order]
