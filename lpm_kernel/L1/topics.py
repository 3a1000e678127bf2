"""Chunks to topics: every chunk in exactly one topic or in `misc`.

Belongs here: grouping by meaning and naming the groups.
Does not belong here: vectors (they come from L0) and prose about a topic.
"""

from __future__ import annotations

from collections.abc import Sequence

from lpm_kernel.errors import RetrievalError
from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.records import EmbeddingTable, Topic, content_id
from lpm_kernel.settings import TopicSettings

MISC = "misc"
KEYWORDS = 6


def find_topics(items: Sequence[ChunkText], table: EmbeddingTable, topics: TopicSettings) -> list[Topic]:
    """Group chunks whose vectors lie together, largest group first, `misc` last.

    Why average linkage at a fixed similarity: it asks for no number of topics, loses no chunk, and lets a small interest stand
    beside a large one. Groups under `min_chunks` become `misc`.
    Source: labels are the words of highest class TF-IDF. Deterministic.
    Raises: RetrievalError `embeddings_do_not_match` when the table is of other chunks.
    """
    import numpy as np

    if tuple(item.chunk.chunk_id for item in items) != table.chunk_ids:
        raise RetrievalError("embeddings_do_not_match", "the embeddings are of other chunks: materialize `embeddings` first")
    if not items:
        return []
    groups: dict[int, list[int]] = {}
    for position, group in enumerate(_group(table.vectors, topics.min_similarity)):
        groups.setdefault(int(group), []).append(position)
    large = sorted((g for g in groups.values() if len(g) >= topics.min_chunks), key=lambda g: (-len(g), g[0]))
    misc = sorted(i for g in groups.values() if len(g) < topics.min_chunks for i in g)
    keywords = _class_keywords([" ".join(items[i].text for i in members) for members in large])
    found: list[Topic] = []
    for members, words in zip(large, keywords, strict=True):
        found.append(_topic(items, table.vectors, members, ", ".join(words[:3]), tuple(words)))
    if misc:
        found.append(_topic(items, table.vectors, misc, MISC, ()))
    assert np.sum([len(topic.chunk_ids) for topic in found]) == len(items)
    return found


def _group(vectors: object, min_similarity: float) -> Sequence[int]:
    from sklearn.cluster import AgglomerativeClustering

    if len(vectors) < 2:  # type: ignore[arg-type]
        return [0] * len(vectors)  # type: ignore[arg-type]
    clustering = AgglomerativeClustering(
        n_clusters=None,  # type: ignore[arg-type]
        metric="cosine",
        linkage="average",
        distance_threshold=1 - min_similarity,
    )
    return clustering.fit_predict(vectors).tolist()


def _class_keywords(classes: Sequence[str]) -> list[list[str]]:
    """The most telling words of each class: their share within it, against how common they are over all classes."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer

    if not classes:
        return []
    try:
        vectorizer = CountVectorizer(stop_words="english", token_pattern=r"(?u)\b[^\W\d_][\w'-]{2,}\b")
        counts = vectorizer.fit_transform(classes).toarray().astype(float)  # type: ignore[attr-defined]
    except ValueError:  # no class has a word that is not a stop word
        return [[] for _ in classes]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rarity = np.log(1 + counts.sum() / len(classes) / np.maximum(counts.sum(axis=0), 1))
    words = vectorizer.get_feature_names_out()
    ranked = np.argsort(-(shares * rarity), axis=1, kind="stable")
    return [[str(words[j]) for j in row[:KEYWORDS] if counts[i, j] > 0] for i, row in enumerate(ranked)]


def _topic(items: Sequence[ChunkText], vectors: object, members: Sequence[int], label: str, keywords: tuple[str, ...]) -> Topic:
    import numpy as np

    centre = np.asarray(vectors)[list(members)].mean(axis=0)
    centre = centre / max(float(np.linalg.norm(centre)), 1e-9)
    chunk_ids = tuple(items[i].chunk.chunk_id for i in members)
    return Topic(
        topic_id=content_id(items[0].chunk.user_id, "topic", *sorted(chunk_ids))[:32],
        label=label or MISC,
        keywords=keywords,
        chunk_ids=chunk_ids,
        centroid=tuple(round(float(value), 6) for value in centre),
    )
