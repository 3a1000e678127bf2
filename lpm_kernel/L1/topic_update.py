"""Topics from the topics of last time: ids that stay, and only the work that new chunks ask for.

Belongs here: which topics a change touches, and when all is grouped anew.
Does not belong here: grouping all chunks and naming groups (`topics.py`), and which id a group keeps (`lasting_ids.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from lpm_kernel.artefacts import encode_records
from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L1.lasting_ids import KnownGroup, keep_ids
from lpm_kernel.L1.linkage import NEVER, join_nearest
from lpm_kernel.L1.topics import MAX_CLUSTERED, MISC, Groups, check_table, group_chunks, name_groups, topic_id_of
from lpm_kernel.records import EmbeddingTable, Topic, content_id, sha256_hex
from lpm_kernel.settings import TopicSettings


@dataclass(frozen=True, slots=True)
class TopicHistory:
    """What one run of topics leaves to the next, beside the topics themselves."""

    topics_sha256: str
    """Of the topics it belongs to: a run that died before these were stored is not built on."""
    rules: str
    """Settings and embedding model they were grouped by."""
    chunks_at_rebuild: int
    changed_since: int
    """Chunks that came or went since all were grouped together."""
    used_ids: tuple[str, ...]
    """Every id there ever was; none is given twice."""


@dataclass(frozen=True, slots=True)
class TopicCount:
    rebuilt: str | None
    """Why all chunks were grouped anew; None when the topics of last time were built on."""
    added: int
    removed: int
    pairs_compared: int
    ids_kept: int
    topics_touched: int
    """Named anew, because chunks came or went."""


def update_topics(
    items: Sequence[ChunkText],
    table: EmbeddingTable,
    topics: TopicSettings,
    previous: Sequence[Topic],
    history: TopicHistory | None,
    *,
    max_clustered: int = MAX_CLUSTERED,
) -> tuple[list[Topic], TopicHistory, TopicCount]:
    """Topics of these chunks that build on `previous`, largest first, `misc` last; every chunk is in exactly one.

    What no change touches stays as it is, to the letter. Loose chunks (new ones, those of `misc`, and what is left of a topic
    that became too small) join the nearest topic or one another by average linkage, as in a full grouping; two topics of
    last time never join. When more than `rebuild_share` of the chunks came or went since the last full grouping, or the
    rules changed, all are grouped anew: drift cannot add up. An id stays with most of its chunks, or with its centre.
    Deterministic. Raises: RetrievalError `embeddings_do_not_match`.
    """
    check_table(items, table)
    user_id = items[0].chunk.user_id if items else ""
    rules = content_id(table.fingerprint, repr(topics.min_similarity), topics.min_chunks)
    now, before = set(table.chunk_ids), {chunk_id for topic in previous for chunk_id in topic.chunk_ids}
    added, removed = len(now - before), len(before - now)
    changed = added + removed + (history.changed_since if history else 0)
    known = [topic for topic in previous if topic.label != MISC]
    seeds, loose = _seeds(table, known, topics.min_chunks)
    reason = _rebuild_reason(previous, history, rules, changed, topics.rebuild_share)
    if reason is None and len(seeds) + len(loose) > max_clustered:
        reason = "too many loose chunks"
    if reason is None and history and not added and not removed:
        return list(previous), history, TopicCount(None, 0, 0, 0, len(known), 0)

    claimed: dict[int, str] = {}
    if reason is None:
        groups, of_seed = _join_loose(table, list(seeds.values()), loose, topics)
        claimed = {group: topic_id for topic_id, group in zip(seeds, of_seed, strict=True)}
        pairs = len(loose) * (len(loose) - 1) // 2 + len(loose) * len(seeds)
    else:
        groups = group_chunks(table, topics, max_clustered)
        sample = min(len(items), max_clustered)
        pairs = sample * (sample - 1) // 2 + (len(items) - sample) * len(groups.topics)
    used = {*(history.used_ids if history else ()), *(topic.topic_id for topic in known)}
    comparable = history is not None and history.rules == rules
    before_now = [KnownGroup(topic.topic_id, frozenset(topic.chunk_ids), topic.centroid) for topic in known]
    ids = keep_ids(table, groups.topics, before_now, used, partial(topic_id_of, user_id), claimed, by_centre=comparable)
    found = name_groups(items, table, groups, ids, known if reason is None else ())
    state = TopicHistory(
        topics_sha256=topics_hash(found),
        rules=rules,
        chunks_at_rebuild=len(items) if reason or history is None else history.chunks_at_rebuild,
        changed_since=0 if reason else changed,
        used_ids=tuple(sorted({*used, *ids})),
    )
    same = {id(topic) for topic in known}
    touched = sum(id(topic) not in same for topic in found if topic.label != MISC)
    kept = len({topic.topic_id for topic in known} & set(ids))
    return found, state, TopicCount(reason, added, removed, pairs, kept, touched)


def topics_hash(topics: Sequence[Topic]) -> str:
    return sha256_hex(encode_records(topics))


def _rebuild_reason(
    previous: Sequence[Topic], history: TopicHistory | None, rules: str, changed: int, rebuild_share: float
) -> str | None:
    if history is None or not previous:
        return "first time"
    if history.topics_sha256 != topics_hash(previous):
        return "the topics of last time were not stored"
    if history.rules != rules:
        return "settings or embedding model changed"
    if changed > rebuild_share * history.chunks_at_rebuild:
        return f"{changed} chunks came or went since {history.chunks_at_rebuild} were grouped together"
    return None


def _seeds(table: EmbeddingTable, known: Sequence[Topic], min_chunks: int) -> tuple[dict[str, list[int]], list[int]]:
    """Positions of the chunks that each topic still has, where they are enough for a topic; and of all other chunks."""
    position = {chunk_id: i for i, chunk_id in enumerate(table.chunk_ids)}
    kept = {topic.topic_id: [position[c] for c in topic.chunk_ids if c in position] for topic in known}
    seeds = {topic_id: members for topic_id, members in kept.items() if len(members) >= max(1, min_chunks)}
    placed = {i for members in seeds.values() for i in members}
    return seeds, [i for i in range(len(table.chunk_ids)) if i not in placed]


def _join_loose(
    table: EmbeddingTable, seeds: Sequence[Sequence[int]], loose: Sequence[int], topics: TopicSettings
) -> tuple[Groups, list[int]]:
    """Groups of seeds and loose chunks; and for each seed the number of its group among the topics."""
    import numpy as np

    starts = [*seeds, *([i] for i in loose)]
    means = np.array([table.vectors[list(members)].mean(axis=0) for members in starts])
    similarity = means.astype(np.float64) @ means.T
    similarity[: len(seeds), : len(seeds)] = NEVER
    joined: dict[int, list[int]] = {}
    for members, group in zip(starts, join_nearest(similarity, [len(m) for m in starts], topics.min_similarity), strict=True):
        joined.setdefault(group, []).extend(members)
    groups = Groups.of(joined.values(), topics.min_chunks)
    number = {i: group for group, members in enumerate(groups.topics) for i in members}
    return groups, [number[members[0]] for members in seeds]
