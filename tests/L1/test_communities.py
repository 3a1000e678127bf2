"""Communities: every chunk in exactly one, small interests too, told by the user's own words, with ids that stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.artefacts import decode_record, decode_records, encode_record, encode_records
from lpm_kernel.errors import RetrievalError
from lpm_kernel.L0.embed import ChunkText, embed_chunks
from lpm_kernel.L1.biography import find_misplaced
from lpm_kernel.L1.chunk_graph import build_graph, rarity
from lpm_kernel.L1.communities import CommunityHistory, find_communities, foreign_lines
from lpm_kernel.L1.records import ChunkSalience, Community
from lpm_kernel.L1.topics import MISC
from lpm_kernel.records import Document, EmbeddingTable, Entity, Mention, sha256_hex
from lpm_kernel.settings import CommunitySettings
from tests.fakes import FakeEmbedder, no_progress
from tests.L0.test_chunk import TEXTS
from tests.L1.test_topics import make_groups, sizes_of, table_of
from tests.samples import make_chunk, make_document, make_items

RULES = CommunitySettings(neighbours=8, min_similarity=0.4, min_chunks=3, max_communities=20)


def documents_of(items: Sequence[ChunkText]) -> list[Document]:
    return [make_document("1", item.chunk.filename, item.text.encode(), "read") for item in items]


def find(items: Sequence[ChunkText], table: EmbeddingTable, entities: Sequence[Entity] = (), **options: Any) -> list[Community]:
    return find_communities(documents_of(items), items, table, entities, [], options.pop("rules", RULES), **options)[0]


def entity_of(name: str, items: Sequence[ChunkText], kind: str = "PERSON") -> Entity:
    mentions = tuple(
        Mention(item.chunk.document_sha256, item.chunk.chunk_id, 0, 1, name, "test", 1.0) for item in items if name in item.text
    )
    return Entity(name, "1", name, kind, (), mentions)


def test_small_interests_survive_beside_a_large_one() -> None:
    items, table = make_groups([81, 8, 8, 8])
    found = find(items, table)
    text_of = {item.chunk.chunk_id: item.text for item in items}
    small = [{text_of[chunk_id].split()[0] for chunk_id in community.chunk_ids} for community in found]
    assert all(len(words) == 1 for words in small), "no community holds two interests"
    assert [sizes for sizes in sizes_of(found) if sizes == 8] == [8, 8, 8]
    assert MISC not in {community.label for community in found}


@pytest.mark.parametrize("sizes", [[1], [2], [5, 1, 1], [4, 4, 2], [1] * 9, [30, 3, 2, 1]])
@pytest.mark.parametrize("limit", [1, 2, 20])
def test_every_chunk_is_in_exactly_one_community_and_there_are_not_too_many(sizes: list[int], limit: int) -> None:
    items, table = make_groups(sizes)
    found = find(items, table, rules=RULES.model_copy(update={"max_communities": limit}))
    assert sorted(chunk_id for community in found for chunk_id in community.chunk_ids) == sorted(table.chunk_ids)
    named = [community for community in found if community.label != MISC]
    assert len(named) <= limit
    assert all(len(community.chunk_ids) >= RULES.min_chunks for community in named)
    assert MISC not in {community.label for community in found[:-1]}


def test_of_too_many_the_small_one_joins_what_it_is_tied_to() -> None:
    items, table = make_groups([12, 9, 4])
    words = [item.text.split()[0] for item in items]
    cat = [item for item in items if "Pilchard" in item.text]
    sea = [item for item in items if "Clevedon" in item.text]
    tie = entity_of("Bev", [])
    mentions = [Mention(i.chunk.document_sha256, i.chunk.chunk_id, 0, 1, "Bev", "test", 1.0) for i in (cat[0], sea[0], sea[1])]
    bev = replace(tie, mentions=tuple(mentions))
    assert sizes_of(find(items, table, [bev])) == [12, 9, 4]
    found = find(items, table, [bev], rules=RULES.model_copy(update={"max_communities": 2}))
    assert sizes_of(found) == [13, 12]
    text_of = {item.chunk.chunk_id: item.text.split()[0] for item in items}
    assert {text_of[chunk_id] for chunk_id in found[0].chunk_ids} == {cat[0].text.split()[0], sea[0].text.split()[0]}
    assert len(set(words)) == 3


def test_a_thing_named_in_two_places_ties_them_though_they_mean_nothing_alike() -> None:
    items, table = make_groups([1] * 6, spread=0.1)
    assert [community.label for community in find(items, table)] == [MISC]
    bev = entity_of("again", items[:3])  # every text holds the word; the entity is named by three
    (tied, rest) = find(items, table, [bev])
    assert set(tied.chunk_ids) == {item.chunk.chunk_id for item in items[:3]}
    assert tied.key_entities == ("again",)
    assert rest.label == MISC


def test_what_is_named_everywhere_or_is_a_number_ties_nothing() -> None:
    items, table = make_groups([1] * 6, spread=0.1)
    everywhere, number = entity_of("again", items), entity_of("number", items[:3], "CARDINAL")
    assert [community.label for community in find(items, table, [everywhere, number])] == [MISC]
    assert (rarity(1, 100), rarity(100, 100), rarity(1, 1)) == (1.0, 0.0, 0.0)


def test_chunks_that_follow_each_other_are_tied_lightly() -> None:
    items = make_items("1", {"a.md": "One fish swims.\n\nTwo birds sing.\n", "b.md": "Three cats sleep.\n"}, 16)
    vectors = np.eye(len(items), 8, dtype=np.float32)
    graph = build_graph(items, table_of(items, vectors), [], RULES)
    assert graph.edges == {(i, i + 1): 0.1 for i in range(len(items) - 2)}


def test_equal_chunks_give_equal_communities_and_nothing_changed_changes_nothing() -> None:
    items, table = make_groups([30, 12, 8, 5, 2], spread=0.9)
    documents = documents_of(items)
    first, history, _ = find_communities(documents, items, table, [], [], RULES)
    assert find_communities(documents, items, table, [], [], RULES)[0] == first
    stored = decode_records(encode_records(first), Community), decode_record(encode_record(history), CommunityHistory)
    again, state, count = find_communities(documents, items, table, [], [], RULES, *stored)
    assert (again, state) == (first, history)
    assert count.ids_kept == len([community for community in first if community.label != MISC])


def test_communities_of_another_model_than_their_history_are_not_measured_against_each_other() -> None:
    items, table = make_groups([20, 8])
    documents = documents_of(items)
    before, _, _ = find_communities(documents, items, table, [], [], RULES)
    narrow = replace(table, vectors=table.vectors[:, :3] / np.linalg.norm(table.vectors[:, :3], axis=1, keepdims=True))
    narrow = replace(narrow, fingerprint="another/3")
    _, died, _ = find_communities(documents, items, narrow, [], [], RULES)
    others = [replace(community, community_id=f"gone-{i}", chunk_ids=("gone",)) for i, community in enumerate(before)]
    after, _, _ = find_communities(documents, items, narrow, [], [], RULES, others, died)
    assert sorted(c for community in after for c in community.chunk_ids) == sorted(table.chunk_ids)


@pytest.mark.parametrize("new", [1, 7, 21])
def test_an_id_stays_with_most_of_its_chunks(new: int) -> None:
    items, table = make_groups([40, 25, 20, 20])
    old = items[: 105 - new]
    documents = documents_of(items)
    before, history, _ = find_communities(documents, old, table_of(old, table.vectors[: 105 - new]), [], [], RULES)
    after, _, count = find_communities(documents, items, table, [], [], RULES, before, history)
    for community in before:
        if community.label != MISC:
            heir = max(after, key=lambda other: len(set(other.chunk_ids) & set(community.chunk_ids)))
            assert heir.community_id == community.community_id
    assert count.ids_kept == len(before)


@given(st.lists(st.lists(st.integers(0, 39), unique=True, min_size=1), min_size=1, max_size=5))
def test_whatever_comes_and_goes_every_chunk_is_placed_and_no_id_is_given_twice(steps: list[list[int]]) -> None:
    items, table = make_groups([16, 8, 6, *[1] * 10], spread=0.8)
    known: list[Community] = []
    history: CommunityHistory | None = None
    dead: set[str] = set()
    for step in steps:
        own = [items[i] for i in sorted(step)]
        part = table_of(own, table.vectors[sorted(step)])
        found, history, _ = find_communities(documents_of(own), own, part, [], [], RULES, known, history)
        assert sorted(c for community in found for c in community.chunk_ids) == sorted(part.chunk_ids)
        ids = [community.community_id for community in found if community.label != MISC]
        assert len(set(ids)) == len(ids)
        assert not dead & set(ids)
        dead |= {community.community_id for community in known if community.label != MISC} - set(ids)
        known = found


NOTES = {
    "diary-2025-02.md": "# Sea\n\n## 9 February 2025\n\nI swam in the cold sea at Clevedon with Bev. "
    "The sea at Clevedon was 5.8 °C and I stayed in for four minutes.\n",
    "diary-2025-03.md": "# Sea\n\n## 2 March 2025\n\nI swam in the sea at Clevedon again, for nine minutes, with Bev.\n",
    "clocks.md": "The French clock was bought in September 2024. I oiled the French clock and its mainspring.\n",
    "lists.txt": "- onions\n- beans\n",
    "code.md": "```\nprint(1)\nprint(2)\n```\n",
}


def told_of(notes: dict[str, str], twin: str = "", **rules: Any) -> tuple[list[Community], list[ChunkText], list[Document]]:
    items = [item for item in make_items("1", notes, 24) if item.text.strip()]
    table, _ = embed_chunks(items, FakeEmbedder(), None, no_progress)
    documents = [make_document("1", name, text.encode(), "read") for name, text in notes.items()]
    documents = [replace(d, created_by="twin") if d.filename == twin else d for d in documents]
    settings = RULES.model_copy(update={"min_chunks": 1, "min_similarity": 0.6, **rules})
    scored = [ChunkSalience(item.chunk.chunk_id, None, 0.5, 0.5, 1.0, 1.0, 0.5) for item in items]
    names = [entity_of(name, items) for name in ("Clevedon", "Bev")]
    return find_communities(documents, items, table, names, scored, settings)[0], items, documents


def stored(notes: dict[str, str]) -> dict[str, bytes]:
    return {sha256_hex(text.encode()): text.encode() for text in notes.values()}


def test_a_community_is_told_by_the_users_sentences_at_their_bytes() -> None:
    found, items, documents = told_of(NOTES)
    lines = [(line.text, (line.citation,)) for community in found for line in community.lines]
    assert lines
    assert find_misplaced(lines, [item.chunk for item in items], stored(NOTES)) == []
    assert foreign_lines(found, documents) == []
    (sea,) = [community for community in found if any("Clevedon" in line.text for line in community.lines)]
    assert sea.key_entities[0] in {"Clevedon", "Bev"}
    assert "clevedon" in sea.label or "sea" in sea.label
    assert sea.salience == 0.5


def test_a_community_in_which_nobody_says_a_sentence_has_no_line() -> None:
    found, _, _ = told_of({"code.md": NOTES["code.md"]})
    assert [community.lines for community in found] == [()]


def test_the_twins_own_words_are_placed_and_never_told() -> None:
    found, items, documents = told_of(NOTES, twin="clocks.md")
    assert sorted(c for community in found for c in community.chunk_ids) == sorted(item.chunk.chunk_id for item in items)
    assert not any("clock" in line.text for community in found for line in community.lines)
    honest, _, _ = told_of(NOTES)
    assert foreign_lines(honest, documents), "the check finds a line of a document that the twin made"


@given(st.dictionaries(st.sampled_from(["a-2025-02.md", "b.txt", "c-2024.md"]), TEXTS.filter(str.strip), min_size=1))
def test_whatever_was_written_each_line_is_at_its_bytes(notes: dict[str, str]) -> None:
    found, items, documents = told_of(notes)
    assert sorted(c for community in found for c in community.chunk_ids) == sorted(item.chunk.chunk_id for item in items)
    lines = [(line.text, (line.citation,)) for community in found for line in community.lines]
    assert find_misplaced(lines, [item.chunk for item in items], stored(notes)) == []
    assert foreign_lines(found, documents) == []


def test_an_interest_called_misc_is_an_interest() -> None:
    """A group whose only word is that of the rest was taken for the rest: no shade, no line, no id that stays."""
    items = [ChunkText(make_chunk("1", text), text, "") for text in ("misc", "Misc.", "the misc", "a misc")]
    (found,) = find(items, table_of(items, np.ones((4, 4), dtype=np.float32) / 2))
    assert found.label != MISC


def test_chunks_of_other_documents_or_embeddings_are_refused() -> None:
    items, table = make_groups([3, 3])
    with pytest.raises(RetrievalError, match="embeddings_do_not_match"):
        find_communities(documents_of(items), items[1:], table, [], [], RULES)
    with pytest.raises(RetrievalError, match="documents_do_not_match"):
        find_communities(documents_of(items)[1:], items, table, [], [], RULES)


def test_no_chunks_are_no_communities() -> None:
    assert find([], table_of([], np.zeros((0, 4), dtype=np.float32))) == []
