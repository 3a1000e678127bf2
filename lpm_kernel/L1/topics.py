"""Chunks to topics: every chunk in exactly one topic or in `misc`.

Belongs here: grouping all chunks by meaning and naming the groups.
Does not belong here: building on earlier topics (`topic_update.py`), vectors (they come from L0) and prose about a topic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lpm_kernel.errors import RetrievalError
from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L1.lasting_ids import centre_of
from lpm_kernel.records import EmbeddingTable, Topic, content_id
from lpm_kernel.settings import TopicSettings

if TYPE_CHECKING:
    import numpy as np

MISC = "misc"
UNNAMED = "unnamed"
KEYWORDS = 6
MAX_CLUSTERED = 5000  # the linkage holds a distance for each pair of them: 0.2 GB here, 60 GB for all 87,000 chunks of 20 MB
BATCH = 1024
ALONE = -1
CORE_MARGIN = 0.2  # of cosine, above that of topics: one document more changes hardly a group as close as that


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
    check_table(items, table)
    groups = group_chunks(table, topics, max_clustered)
    user_id = items[0].chunk.user_id if items else ""
    ids = [topic_id_of(user_id, [table.chunk_ids[i] for i in members]) for members in groups.topics]
    return name_groups(items, table, groups, ids, ())


@dataclass(frozen=True, slots=True)
class Groups:
    """Positions of chunks: of each topic, largest first, and of what is in none."""

    topics: list[list[int]]
    misc: list[int]
    cores: list[list[int]] = field(default_factory=list)
    """Chunks so near each other that they were joined long before the topics were; what an update begins with."""

    @classmethod
    def of(cls, members: Iterable[Sequence[int]], min_chunks: int) -> Groups:
        """Groups of at least `min_chunks` are topics; all others are misc."""
        ordered = sorted((sorted(group) for group in members), key=lambda group: (-len(group), group))
        return cls(
            [group for group in ordered if len(group) >= min_chunks],
            sorted(position for group in ordered if len(group) < min_chunks for position in group),
        )


def not_just_once(found: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Ids that are not found exactly as often as they are wanted; none when each is in exactly one place."""
    counts, due = Counter(found), Counter(wanted)
    return sorted(one for one in counts | due if counts[one] != due[one])


def check_table(items: Sequence[ChunkText], table: EmbeddingTable) -> None:
    if tuple(item.chunk.chunk_id for item in items) != table.chunk_ids:
        raise RetrievalError("embeddings_do_not_match", "the embeddings are of other chunks: materialize `embeddings` first")


def group_chunks(table: EmbeddingTable, topics: TopicSettings, max_clustered: int) -> Groups:
    """All chunks anew, as `find_topics` says."""
    groups: dict[int, list[int]] = {}
    labels, cores = _group(table, topics, max_clustered)
    for position, group in enumerate(labels):
        groups.setdefault(int(group), []).append(position)
    alone = groups.pop(ALONE, [])
    found = Groups.of(groups.values(), topics.min_chunks)
    return Groups(found.topics, sorted([*found.misc, *alone]), cores if cores is not None else found.topics)


def core_similarity(topics: TopicSettings) -> float:
    return min(1.0, topics.min_similarity + CORE_MARGIN)


def name_groups(
    items: Sequence[ChunkText], table: EmbeddingTable, groups: Groups, ids: Sequence[str], known: Sequence[Topic]
) -> list[Topic]:
    """Topics of these groups, `misc` last. One that holds what a known topic of its id holds is that topic, name and all."""
    untouched = {(topic.topic_id, frozenset(topic.chunk_ids)): topic for topic in known}
    keywords = class_keywords([" ".join(items[i].text for i in members) for members in groups.topics])
    found: list[Topic] = []
    for members, topic_id, words in zip(groups.topics, ids, keywords, strict=True):
        same = untouched.get((topic_id, frozenset(table.chunk_ids[i] for i in members)))
        label = label_of(words)
        found.append(same or _topic(items, table.vectors, members, topic_id, label, tuple(words)))
    if groups.misc:
        misc_id = topic_id_of(items[0].chunk.user_id, [MISC])
        found.append(_topic(items, table.vectors, groups.misc, misc_id, MISC, ()))
    assert sum(len(topic.chunk_ids) for topic in found) == len(items)
    return found


def label_of(words: Sequence[str], else_words: Sequence[str] = ()) -> str:
    """A name from the first of these words; never that of the rest."""
    label = ", ".join(words[:3]) or ", ".join(else_words[:2])
    return UNNAMED if label in ("", MISC) else label


def topic_id_of(user_id: str, chunk_ids: Sequence[str]) -> str:
    """The id of a topic that begins with these chunks."""
    return content_id(user_id, "topic", *sorted(chunk_ids))[:32]


def _group(table: EmbeddingTable, topics: TopicSettings, max_clustered: int) -> tuple[Sequence[int], list[list[int]] | None]:
    """A group number for each chunk, ALONE for one that is near no group; and the cores, None where a sample was grouped."""
    import numpy as np

    vectors = table.vectors
    if len(vectors) <= max_clustered:
        return _cluster(vectors, topics)
    # Ids are hashes of content: their order is a draw that stays the same, and mostly so when documents are added.
    sample = np.sort(np.argsort(np.array(table.chunk_ids), kind="stable")[:max_clustered])
    labels = np.array(_cluster(vectors[sample], topics)[0])
    sums = np.zeros((labels.max() + 1, vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, labels, vectors[sample])
    centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    groups = np.full(len(vectors), ALONE)
    for first in range(0, len(vectors), BATCH):
        cosines = vectors[first : first + BATCH] @ centres.T
        near = cosines.max(axis=1) >= topics.min_similarity
        groups[first : first + BATCH][near] = cosines.argmax(axis=1)[near]
    groups[sample] = labels
    return groups.tolist(), None


def _cluster(vectors: np.ndarray, topics: TopicSettings) -> tuple[Sequence[int], list[list[int]]]:
    """A group number for each vector, and the cores of at least two, from one tree cut at two heights."""
    from sklearn.cluster import AgglomerativeClustering

    if len(vectors) < 2:
        return [0] * len(vectors), []
    clustering = AgglomerativeClustering(
        n_clusters=None,  # type: ignore[arg-type]
        metric="cosine",
        linkage="average",
        distance_threshold=1 - topics.min_similarity,
    )
    labels = clustering.fit_predict(vectors).tolist()
    parts = {i: [i] for i in range(len(vectors))}
    for node, (pair, distance) in enumerate(zip(clustering.children_, clustering.distances_, strict=True), start=len(vectors)):
        if distance > 1 - core_similarity(topics):
            break  # by average linkage the distances only grow
        parts[node] = parts.pop(int(pair[0])) + parts.pop(int(pair[1]))
    return labels, [sorted(part) for part in parts.values() if len(part) > 1]


def class_keywords(classes: Sequence[str]) -> list[list[str]]:
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


def _topic(
    items: Sequence[ChunkText],
    vectors: np.ndarray,
    members: Sequence[int],
    topic_id: str,
    label: str,
    keywords: tuple[str, ...],
) -> Topic:
    return Topic(
        topic_id=topic_id,
        label=label,
        keywords=keywords,
        chunk_ids=tuple(items[i].chunk.chunk_id for i in members),
        centroid=tuple(round(float(value), 6) for value in centre_of(vectors[list(members)])),
    )
