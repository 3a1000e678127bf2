"""Topics built on those of last time: ids that stay, a fraction of the work, and no drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.artefacts import decode_record, encode_record
from lpm_kernel.errors import RetrievalError
from lpm_kernel.L0.embed import ChunkText, embed_chunks
from lpm_kernel.L1.linkage import NEVER, join_nearest
from lpm_kernel.L1.topic_update import TopicHistory, update_topics
from lpm_kernel.L1.topics import MISC, find_topics
from lpm_kernel.records import EmbeddingTable, Topic
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.embedder import MiniLmEmbedder
from tests.fakes import no_progress
from tests.L1.test_topics import RULES, make_groups, sizes_of, table_of
from tests.samples import make_chunk, make_items

ALL_PAIRS_OF_105 = 105 * 104 // 2


def part(items: Sequence[ChunkText], table: EmbeddingTable, keep: Sequence[int]) -> tuple[list[ChunkText], EmbeddingTable]:
    """Of the same model: an update with a table of another one is a full grouping, and agrees with it whatever it does."""
    own = [items[i] for i in keep]
    return own, replace(table_of(own, table.vectors[list(keep)]), fingerprint=table.fingerprint)


def agreement(one: Sequence[Topic], other: Sequence[Topic]) -> float:
    """Adjusted Rand index of two groupings of the same chunks: 1 when they are equal up to their names, 0 by chance."""
    from sklearn.metrics import adjusted_rand_score

    group_of = [{chunk_id: t.topic_id for t in topics for chunk_id in t.chunk_ids} for topics in (one, other)]
    assert group_of[0].keys() == group_of[1].keys()
    return float(adjusted_rand_score([group_of[0][c] for c in group_of[0]], [group_of[1][c] for c in group_of[0]]))


def group_of(topics: Sequence[Topic], chunk_ids: set[str]) -> Topic:
    return max(topics, key=lambda topic: len(chunk_ids.intersection(topic.chunk_ids)))


@pytest.mark.parametrize("spread", [0.35, 0.9])
@pytest.mark.parametrize("new", [1, 7, 21])
def test_an_update_equals_a_full_grouping_up_to_names_at_a_fraction_of_the_work(new: int, spread: float) -> None:
    """The incremental path of an earlier system gave back only the groups that it touched, all others were lost; it could not
    read its own stored groups; and so the product always began anew."""
    items, table = make_groups([81, 8, 8, 8], spread)
    before, history, first = update_topics(*part(items, table, range(105 - new)), RULES, [], None)
    assert first.rebuilt == "first time"
    after, _, count = update_topics(items, table, RULES, before, history)
    assert (count.rebuilt, count.added, count.removed) == (None, new, 0)
    assert agreement(after, find_topics(items, table, RULES)) >= 0.9
    assert count.pairs_compared < ALL_PAIRS_OF_105 / 5
    assert count.topics_touched <= min(new, 4)


@pytest.mark.slow
def test_on_a_real_persons_notes_an_update_equals_a_full_grouping_up_to_names(request: pytest.FixtureRequest) -> None:
    """On groups made for tests an update that could only add to the topics of last time was as good as a full grouping. On
    notes of a person, where topics have borders, it agreed to 0.74 at worst."""
    folder = Path(request.config.rootpath) / "data" / "users" / "1"
    notes = {path.name: path.read_text() for path in sorted(folder.iterdir()) if path.suffix in (".md", ".txt")}
    items = make_items("1", notes, 56)
    table, _ = embed_chunks(items, MiniLmEmbedder(), None, no_progress)
    rules = load_settings().topics
    full = find_topics(items, table, rules)
    found: list[float] = []
    for name in notes:
        known = [i for i, item in enumerate(items) if item.chunk.filename != name]
        before, history, _ = update_topics(*part(items, table, known), rules, [], None)
        after, _, count = update_topics(items, table, rules, before, history)
        if count.rebuilt is None:  # grouped anew it agrees by itself
            assert count.pairs_compared < len(items) * (len(items) - 1) // 2
            found.append(agreement(after, full))
    assert len(found) > len(notes) / 2
    assert min(found) >= 0.9


def test_topics_that_a_change_does_not_touch_stay_to_the_letter() -> None:
    items, table = make_groups([20, 9, 8, 7])
    sea = {item.chunk.chunk_id for item in items if "Clevedon" in item.text}
    (last, *_) = [i for i in range(len(items)) if table.chunk_ids[i] in sea]
    before, history, _ = update_topics(*part(items, table, [i for i in range(len(items)) if i != last]), RULES, [], None)
    after, _, count = update_topics(items, table, RULES, before, history)
    touched = group_of(after, sea)
    assert set(touched.chunk_ids) == sea
    assert touched.topic_id == group_of(before, sea).topic_id
    assert [t for t in after if t.topic_id != touched.topic_id] == [t for t in before if t.topic_id != touched.topic_id]
    assert (count.topics_touched, count.ids_kept) == (1, 4)


@given(st.lists(st.lists(st.integers(0, 59), unique=True, min_size=1), min_size=1, max_size=6))
def test_whatever_comes_and_goes_every_chunk_is_in_one_topic_and_no_id_is_given_twice(steps: list[list[int]]) -> None:
    """A topic whose chunks had all gone left its id free; the next topic took it, with all that others had kept about it."""
    items, table = make_groups([20, 12, 8, *[1] * 20], spread=0.8)
    known: list[Topic] = []
    history: TopicHistory | None = None
    dead: set[str] = set()
    for step in steps:
        own = part(items, table, sorted(step))
        found, history, _ = update_topics(*own, RULES, known, history)
        history = decode_record(encode_record(history), TopicHistory)
        assert sorted(c for topic in found for c in topic.chunk_ids) == sorted(own[1].chunk_ids)
        ids = [topic.topic_id for topic in found]
        assert len(set(ids)) == len(ids)
        assert not dead & set(ids)
        dead |= {topic.topic_id for topic in known if topic.label != MISC} - set(ids)
        known = found


def test_nothing_changed_nothing_compared() -> None:
    items, table = make_groups([20, 8, 3, 2])
    before, history, _ = update_topics(items, table, RULES, [], None)
    again, state, count = update_topics(items, table, RULES, before, history)
    assert (again, state) == (before, history)
    assert (count.pairs_compared, count.topics_touched) == (0, 0)


def test_a_new_interest_becomes_a_topic_beside_the_old_ones() -> None:
    items, table = make_groups([40, 12, 8, 5])
    brass = [i for i in range(len(items)) if "cornet" in items[i].text]
    before, history, _ = update_topics(*part(items, table, [i for i in range(65) if i not in brass]), RULES, [], None)
    after, _, count = update_topics(items, table, RULES, before, history)
    assert count.rebuilt is None
    assert sizes_of(after) == [40, 12, 8, 5]
    assert {topic.topic_id for topic in before} < {topic.topic_id for topic in after}


def test_small_leftovers_wait_in_misc_until_they_are_enough() -> None:
    items, table = make_groups([30, 3])
    small = [i for i in range(33) if "Clevedon" in items[i].text]
    one_less = [i for i in range(33) if i != small[0]]
    before, history, _ = update_topics(*part(items, table, one_less), RULES, [], None)
    assert [topic.label == MISC for topic in before] == [False, True]
    after, _, count = update_topics(items, table, RULES, before, history)
    assert count.rebuilt is None
    assert [(topic.label == MISC, len(topic.chunk_ids)) for topic in after] == [(False, 30), (False, 3)]


def test_what_is_left_of_a_topic_that_became_too_small_is_misc() -> None:
    items, table = make_groups([30, 4])
    small = [i for i in range(34) if "Clevedon" in items[i].text]
    before, history, _ = update_topics(items, table, RULES, [], None)
    after, state, count = update_topics(
        *part(items, table, [i for i in range(34) if i not in small[:2]]), RULES, before, history
    )
    assert count.rebuilt is None
    assert [(topic.label == MISC, len(topic.chunk_ids)) for topic in after] == [(False, 30), (True, 2)]
    assert group_of(before, {table.chunk_ids[small[3]]}).topic_id in state.used_ids


def test_a_topic_whose_document_was_edited_keeps_its_id() -> None:
    """An edited document is cut anew, so all of its chunks have new ids, though they say nearly the same."""
    items, table = make_groups([30, 6])
    edited = [
        replace(item, chunk=make_chunk("1", f"{item.text} (edited)")) if "Clevedon" in item.text else item for item in items
    ]
    before, history, _ = update_topics(items, table, RULES, [], None)
    for rebuild_share in (0.5, 0.0):
        rules = RULES.model_copy(update={"rebuild_share": rebuild_share})
        after, _, count = update_topics(edited, table_of(edited, table.vectors), rules, before, history)
        assert (count.rebuilt is None) == (rebuild_share == 0.5)
        assert [topic.topic_id for topic in after] == [topic.topic_id for topic in before]


def test_ids_stay_with_most_of_the_chunks_when_all_are_grouped_anew() -> None:
    items, table = make_groups([20, 8, 8, 6])
    before, history, _ = update_topics(*part(items, table, range(36)), RULES, [], None)
    always = RULES.model_copy(update={"rebuild_share": 0.0})
    after, _, count = update_topics(items, table, always, before, history)
    assert count.rebuilt
    for topic in before:
        if topic.label != MISC:
            assert group_of(after, set(topic.chunk_ids)).topic_id == topic.topic_id


def test_all_are_grouped_anew_once_enough_came_or_went() -> None:
    """Changes add up over runs, not only within one; without a bound small errors of many updates would too."""
    items, table = make_groups([60, 20, 12, 8])
    found, history, _ = update_topics(*part(items, table, range(60)), RULES, [], None)
    reasons = []
    for size in (70, 78, 80, 82):
        found, history, count = update_topics(*part(items, table, range(size)), RULES, found, history)
        reasons.append(bool(count.rebuilt))
    assert reasons == [False, False, True, False]
    assert (history.chunks_at_rebuild, history.changed_since) == (80, 2)


@pytest.mark.parametrize("change", ["settings", "model", "not stored", "no history"])
def test_what_cannot_be_built_on_is_grouped_anew(change: str) -> None:
    items, table = make_groups([20, 8])
    before, history, _ = update_topics(items, table, RULES, [], None)
    rules = RULES.model_copy(update={"min_chunks": 2}) if change == "settings" else RULES
    table = replace(table, fingerprint="another model") if change == "model" else table
    known = before[:1] if change == "not stored" else before
    after, _, count = update_topics(items, table, rules, known, None if change == "no history" else history)
    assert count.rebuilt
    assert after[0].topic_id == before[0].topic_id
    assert sizes_of(after) == [20, 8]


def test_topics_of_another_model_than_their_history_are_not_measured_against_each_other() -> None:
    """A run wrote its history and died before its topics were stored; each run after it then multiplied centres of 64 numbers
    with centres of 3 and failed, and nothing would ever have written another history."""
    items, table = make_groups([20, 8])
    before, _, _ = update_topics(items, table, RULES, [], None)
    narrow = replace(table, vectors=table.vectors[:, :3] / np.linalg.norm(table.vectors[:, :3], axis=1, keepdims=True))
    narrow = replace(narrow, fingerprint="another/3")
    _, died, _ = update_topics(items, narrow, RULES, [], None)
    others = [replace(topic, topic_id=f"gone-{i}", chunk_ids=("gone",)) for i, topic in enumerate(before)]
    after, _, count = update_topics(items, narrow, RULES, others, died)
    assert count.rebuilt
    assert sorted(c for topic in after for c in topic.chunk_ids) == sorted(table.chunk_ids)


def test_too_many_loose_chunks_are_grouped_by_a_sample() -> None:
    items, table = make_groups([30, 8])
    before, history, _ = update_topics(*part(items, table, range(30)), RULES, [], None)
    _, _, count = update_topics(items, table, RULES, before, history, max_clustered=5)
    assert count.rebuilt == "too many loose chunks"


def test_an_update_with_embeddings_of_other_chunks_is_refused() -> None:
    items, table = make_groups([3, 3])
    with pytest.raises(RetrievalError, match="embeddings_do_not_match"):
        update_topics(items[1:], table, RULES, [], None)


def test_joining_from_single_members_is_average_linkage() -> None:
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.metrics import adjusted_rand_score

    _, table = make_groups([20, 8, 8, 5], spread=1.2)
    similarity = table.vectors @ table.vectors.T
    clustering = AgglomerativeClustering(
        n_clusters=None,  # type: ignore[arg-type]
        metric="cosine",
        linkage="average",
        distance_threshold=0.7,
    )
    assert adjusted_rand_score(clustering.fit_predict(table.vectors), join_nearest(similarity, [1] * 41, 0.3)) == 1.0


def test_two_groups_that_must_not_join_do_not_join_by_a_third() -> None:
    similarity = np.array([[1.0, NEVER, 0.9], [NEVER, 1.0, 0.8], [0.9, 0.8, 1.0]])
    assert join_nearest(similarity, [5, 5, 1], 0.3) == [0, 1, 0]
