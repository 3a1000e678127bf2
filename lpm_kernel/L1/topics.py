"""Chunks to topics: every chunk in exactly one topic or in `misc`.

Belongs here: grouping by meaning and naming the groups.
Does not belong here: vectors (they come from L0) and prose about a topic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lpm_kernel.errors import RetrievalError
from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.records import EmbeddingTable, Topic, content_id
from lpm_kernel.settings import TopicSettings

if TYPE_CHECKING:
    import numpy as np

MISC = "misc"
KEYWORDS = 6
MAX_CLUSTERED = 5000  # the linkage holds a distance for each pair of them: 0.2 GB here, 60 GB for all 87,000 chunks of 20 MB
BATCH = 1024
ALONE = -1


def find_topics(
    items: Sequence[ChunkText], table: EmbeddingTable, topics: TopicSettings, *, max_clustered: int = MAX_CLUSTERED
) -> list[Topic]:
    """Group chunks whose vectors lie together, largest group first, `misc` last.

    Why average linkage at a fixed similarity: it asks for no number of topics, loses no chunk, and lets a small interest stand
    beside a large one. Groups under `min_chunks` become `misc`. Of more than `max_clustered` chunks a sample is grouped, and
    each other chunk goes to the group whose centre is nearest, or to `misc` when none is as near as `min_similarity`.
    Source: labels are the words of highest class TF-IDF. Deterministic.
    Raises: RetrievalError `embeddings_do_not_match` when the table is of other chunks.
    """
    import numpy as np

    if tuple(item.chunk.chunk_id for item in items) != table.chunk_ids:
        raise RetrievalError("embeddings_do_not_match", "the embeddings are of other chunks: materialize `embeddings` first")
    if not items:
        return []
    groups: dict[int, list[int]] = {}
    for position, group in enumerate(_group(table, topics.min_similarity, max_clustered)):
        groups.setdefault(int(group), []).append(position)
    misc = groups.pop(ALONE, [])
    large = sorted((g for g in groups.values() if len(g) >= topics.min_chunks), key=lambda g: (-len(g), g[0]))
    misc = sorted([*misc, *(i for g in groups.values() if len(g) < topics.min_chunks for i in g)])
    keywords = _class_keywords([" ".join(items[i].text for i in members) for members in large])
    found: list[Topic] = []
    for members, words in zip(large, keywords, strict=True):
        found.append(_topic(items, table.vectors, members, ", ".join(words[:3]), tuple(words)))
    if misc:
        found.append(_topic(items, table.vectors, misc, MISC, ()))
    assert np.sum([len(topic.chunk_ids) for topic in found]) == len(items)
    return found


def _group(table: EmbeddingTable, min_similarity: float, max_clustered: int) -> Sequence[int]:
    """A group number for each chunk; ALONE for one that is near no group."""
    import numpy as np

    vectors = table.vectors
    if len(vectors) <= max_clustered:
        return _cluster(vectors, min_similarity)
    # Ids are hashes of content: their order is a draw that stays the same, and mostly so when documents are added.
    sample = np.sort(np.argsort(np.array(table.chunk_ids), kind="stable")[:max_clustered])
    labels = np.array(_cluster(vectors[sample], min_similarity))
    sums = np.zeros((labels.max() + 1, vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, labels, vectors[sample])
    centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    groups = np.full(len(vectors), ALONE)
    for first in range(0, len(vectors), BATCH):
        cosines = vectors[first : first + BATCH] @ centres.T
        near = cosines.max(axis=1) >= min_similarity
        groups[first : first + BATCH][near] = cosines.argmax(axis=1)[near]
    groups[sample] = labels
    return groups.tolist()


def _cluster(vectors: np.ndarray, min_similarity: float) -> Sequence[int]:
    from sklearn.cluster import AgglomerativeClustering

    if len(vectors) < 2:
        return [0] * len(vectors)
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
        counts = vectorizer.fit_transform(classes).tocsr()  # type: ignore[attr-defined]
    except ValueError:  # no class has a word that is not a stop word
        return [[] for _ in classes]
    total = np.asarray(counts.sum(axis=0), dtype=float).ravel()
    rarity = np.log(1 + total.sum() / len(classes) / total)
    words = vectorizer.get_feature_names_out()
    telling: list[list[str]] = []
    for row in range(len(classes)):  # one at a time: most classes lack most words
        found = slice(counts.indptr[row], counts.indptr[row + 1])
        columns, count = counts.indices[found], counts.data[found].astype(float)
        scores = count / count.sum() * rarity[columns]
        ranked = np.lexsort((columns, -scores))[:KEYWORDS]
        telling.append([str(words[column]) for column in columns[ranked]])
    return telling


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
