"""Topics: every chunk in exactly one, and a small interest beside a large one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lpm_kernel.errors import RetrievalError
from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L1.records import Community
from lpm_kernel.L1.topics import KEYWORDS, MISC, find_topics
from lpm_kernel.records import EmbeddingTable, Topic, sha256_hex
from lpm_kernel.settings import TopicSettings
from tests.fakes import FakeEmbedder
from tests.samples import make_chunk

RULES = TopicSettings(min_similarity=0.3, min_chunks=3, rebuild_share=0.3, shade_similarity=0.6)
INTERESTS = {
    "clocks": "escapement pendulum mainspring",
    "sea": "swimming Clevedon tide",
    "cat": "Pilchard vet herring",
    "brass": "cornet band march",
}


def make_groups(sizes: Sequence[int], spread: float = 0.35, seed: int = 3) -> tuple[list[ChunkText], EmbeddingTable]:
    """Chunks around far-apart directions of 32 dimensions, shuffled; the group's own words stand in each text."""
    order = np.random.default_rng(seed)
    centres = np.linalg.qr(order.normal(size=(32, len(sizes))))[0].T
    words = [*INTERESTS.values()]
    members = [(group, number) for group, size in enumerate(sizes) for number in range(size)]
    order.shuffle(members)
    items, vectors = [], []
    for group, number in members:
        text = f"{words[group % len(words)]} again, number {group} {number}"
        items.append(ChunkText(make_chunk("1", text), text, ""))
        noise = order.normal(size=32)
        vector = centres[group] + spread * noise / np.linalg.norm(noise)
        vectors.append(vector / np.linalg.norm(vector))
    return items, table_of(items, np.array(vectors, dtype=np.float32))


def table_of(items: Sequence[ChunkText], vectors: np.ndarray) -> EmbeddingTable:
    return EmbeddingTable(
        tuple(item.chunk.chunk_id for item in items), tuple(sha256_hex(item.text.encode()) for item in items), vectors, "test"
    )


def sizes_of(groups: Sequence[Topic] | Sequence[Community]) -> list[int]:
    return [len(group.chunk_ids) for group in groups]


def test_a_small_interest_survives_beside_a_large_one() -> None:
    """Clustering by a number of topics or by density swallowed the three groups of eight in one of eighty-one."""
    items, table = make_groups([81, 8, 8, 8])
    topics = find_topics(items, table, RULES)
    assert sizes_of(topics) == [81, 8, 8, 8]
    assert MISC not in {topic.label for topic in topics}
    text_of = {item.chunk.chunk_id: item.text for item in items}
    for topic in topics:
        assert len({text_of[chunk_id].split()[0] for chunk_id in topic.chunk_ids}) == 1


@pytest.mark.parametrize("sizes", [[1], [2], [5, 1, 1], [4, 4, 2], [1] * 9, [30, 3, 2, 1]])
def test_every_chunk_is_in_exactly_one_topic(sizes: list[int]) -> None:
    items, table = make_groups(sizes)
    placed = [chunk_id for topic in find_topics(items, table, RULES) for chunk_id in topic.chunk_ids]
    assert sorted(placed) == sorted(table.chunk_ids)


def test_what_is_too_small_for_a_topic_is_misc_and_comes_last() -> None:
    items, table = make_groups([3, 5, 2, 1])
    topics = find_topics(items, table, RULES)
    assert sizes_of(topics) == [5, 3, 3]
    assert [topic.label == MISC for topic in topics] == [False, False, True]
    assert topics[-1].keywords == ()


def test_labels_are_the_words_of_the_group() -> None:
    items, table = make_groups([9, 7, 5, 4])
    for topic, words in zip(find_topics(items, table, RULES), INTERESTS.values(), strict=True):
        assert set(topic.label.split(", ")) <= set(words.lower().split())
        assert 1 <= len(topic.keywords) <= KEYWORDS
        assert topic.label == ", ".join(topic.keywords[:3])


def test_a_group_of_stop_words_has_no_keywords() -> None:
    items = [ChunkText(make_chunk("1", text), text, "") for text in ("it is", "he was", "and they")]
    topics = find_topics(items, table_of(items, np.ones((3, 4), dtype=np.float32) / 2), RULES)
    assert [(topic.keywords, len(topic.chunk_ids)) for topic in topics] == [((), 3)]
    assert topics[0].label


def test_the_centre_of_a_topic_is_the_mean_direction_of_its_chunks() -> None:
    items, table = make_groups([6, 4])
    position = {chunk_id: i for i, chunk_id in enumerate(table.chunk_ids)}
    for topic in find_topics(items, table, RULES):
        mean = table.vectors[[position[chunk_id] for chunk_id in topic.chunk_ids]].mean(axis=0)
        np.testing.assert_allclose(topic.centroid, mean / np.linalg.norm(mean), atol=1e-5)


def test_the_same_chunks_give_the_same_topics() -> None:
    items, table = make_groups([20, 8, 3, 2])
    assert find_topics(items, table, RULES) == find_topics(items, table, RULES)


def test_a_topic_keeps_its_id_while_it_holds_the_same_chunks() -> None:
    """Its label was part of the id, and a label changes with the words of the other topics."""
    items, table = make_groups([6, 4])
    first = find_topics(items, table, RULES)
    keep = [i for i, chunk_id in enumerate(table.chunk_ids) if chunk_id in first[0].chunk_ids]
    alone = find_topics([items[i] for i in keep], table_of([items[i] for i in keep], table.vectors[keep]), RULES)
    assert alone[0].topic_id == first[0].topic_id
    assert alone[0].label != first[0].label
    assert len({topic.topic_id for topic in first}) == 2


def test_a_topic_called_misc_is_a_topic() -> None:
    """A group whose only word is that of the rest was taken for the rest: no shade told it, and its id did not stay."""
    items = [ChunkText(make_chunk("1", text), text, "") for text in ("misc", "Misc.", "the misc")]
    (topic,) = find_topics(items, table_of(items, np.ones((3, 4), dtype=np.float32) / 2), RULES)
    assert (topic.label != MISC, topic.keywords) == (True, ("misc",))


def test_one_chunk_is_misc() -> None:
    items, table = make_groups([1])
    (topic,) = find_topics(items, table, RULES)
    assert (topic.label, topic.chunk_ids) == (MISC, table.chunk_ids)
    (topic,) = find_topics(
        items, table, TopicSettings(min_similarity=0.3, min_chunks=1, rebuild_share=0.3, shade_similarity=0.6)
    )
    assert topic.label != MISC


def test_no_chunks_are_no_topics() -> None:
    assert find_topics([], table_of([], np.zeros((0, 4), dtype=np.float32)), RULES) == []


@pytest.mark.parametrize("change", ["fewer", "another order"])
def test_embeddings_of_other_chunks_are_refused(change: str) -> None:
    items, table = make_groups([3, 3])
    with pytest.raises(RetrievalError) as caught:
        find_topics(items[1:] if change == "fewer" else items[::-1], table, RULES)
    assert caught.value.code == "embeddings_do_not_match"


def test_texts_of_one_interest_come_together() -> None:
    texts = [f"{words} {extra}" for words in INTERESTS.values() for extra in ("today", "yesterday", "in March")]
    items = [ChunkText(make_chunk("1", text), text, "") for text in texts]
    topics = find_topics(
        items,
        table_of(items, FakeEmbedder().embed(texts)),
        TopicSettings(min_similarity=0.4, min_chunks=3, rebuild_share=0.3, shade_similarity=0.6),
    )
    assert sizes_of(topics) == [3, 3, 3, 3]


def test_of_many_chunks_a_sample_is_grouped_and_the_others_join_it() -> None:
    """The linkage holds a distance for each pair: a file of 20 MB, which is allowed, asked for 60 GB."""
    items, table = make_groups([81, 24, 16, 12])
    topics = find_topics(items, table, RULES, max_clustered=60)
    assert topics == find_topics(items, table, RULES), "groups this far apart do not depend on the sample"
    assert sizes_of(topics) == [81, 24, 16, 12]


@pytest.mark.parametrize("max_clustered", [1, 2, 7, 40, 41])
@pytest.mark.parametrize("min_chunks", [1, 3])
def test_with_a_sample_too_every_chunk_is_in_exactly_one_topic(max_clustered: int, min_chunks: int) -> None:
    items, table = make_groups([20, 8, *[1] * 13], spread=0.8)
    rules = TopicSettings(min_similarity=0.3, min_chunks=min_chunks, rebuild_share=0.3, shade_similarity=0.6)
    topics = find_topics(items, table, rules, max_clustered=max_clustered)
    placed = [chunk_id for topic in topics for chunk_id in topic.chunk_ids]
    assert sorted(placed) == sorted(table.chunk_ids)
    assert topics == find_topics(items, table, rules, max_clustered=max_clustered)
    assert MISC not in {topic.label for topic in topics[:-1]}


def test_a_chunk_that_is_near_no_group_of_the_sample_is_misc() -> None:
    items, table = make_groups([30, 1], spread=0.1)
    (far,) = [item.chunk.chunk_id for item in items if " 1 0" in item.text]
    sampled = sorted(table.chunk_ids)[:20]
    assert far not in sampled, "choose another seed"
    rules = TopicSettings(min_similarity=0.3, min_chunks=1, rebuild_share=0.3, shade_similarity=0.6)
    topics = find_topics(items, table, rules, max_clustered=20)
    assert [(topic.label == MISC, len(topic.chunk_ids)) for topic in topics] == [(False, 30), (True, 1)]
    assert topics[1].chunk_ids == (far,)


def test_the_sample_does_not_depend_on_the_order_of_the_chunks() -> None:
    items, table = make_groups([40, 20, 6], spread=0.8)
    turned = find_topics(items[::-1], table_of(items[::-1], table.vectors[::-1]), RULES, max_clustered=30)
    straight = find_topics(items, table, RULES, max_clustered=30)
    assert {frozenset(topic.chunk_ids) for topic in turned} == {frozenset(topic.chunk_ids) for topic in straight}
