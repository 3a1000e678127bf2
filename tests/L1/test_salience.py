"""Salience: each part does what the formula says, equal documents give equal numbers, the twin's own words count nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.artefacts import decode_records, encode_records
from lpm_kernel.errors import RetrievalError
from lpm_kernel.L0.embed import ChunkText, embed_chunks
from lpm_kernel.L1.records import ChunkSalience
from lpm_kernel.L1.salience import TRUST, UNDATED, score_salience, unscored_chunks
from lpm_kernel.records import Document, EmbeddingTable, Entity, Mention
from lpm_kernel.settings import SalienceSettings
from tests.fakes import FakeEmbedder, no_progress
from tests.L0.test_chunk import TEXTS
from tests.samples import make_document, make_items

RULES = SalienceSettings(half_life_days=100, same_meaning=0.6)
SENT = datetime(2026, 11, 1, tzinfo=UTC)
DIARY = "# Diary\n\n## 10 October 2025\n\nI swam at Clevedon.\n\n## 2 July 2025\n\nI oiled a clock.\n"


class Memory:
    def __init__(self, notes: Mapping[str, str], **of_all: Any) -> None:
        self.documents = [
            replace(make_document("1", name, text.encode(), "read"), **{"created_at": SENT, **of_all})
            for name, text in notes.items()
        ]
        self.items: list[ChunkText] = make_items("1", notes, 16)
        self.table: EmbeddingTable = embed_chunks(self.items, FakeEmbedder(), None, no_progress)[0]

    def named(self, name: str) -> Document:
        return next(document for document in self.documents if document.filename == name)

    def entity(self, text: str, kind: str = "GPE") -> Entity:
        mentions = tuple(
            Mention(item.chunk.document_sha256, item.chunk.chunk_id, 0, 1, text, "test", 1.0)
            for item in self.items
            if text in item.text
        )
        return Entity(text, "1", text, kind, (), mentions)

    def score(self, *entities: Entity, **options: Any) -> dict[str, ChunkSalience]:
        """By the words of the chunk."""
        scored = score_salience(self.documents, self.items, self.table, entities, RULES, **options)
        return {item.text: row for item, row in zip(self.items, scored, strict=True)}

    def of(self, words: str, *entities: Entity, **options: Any) -> ChunkSalience:
        return next(row for text, row in self.score(*entities, **options).items() if words in text)


def test_recency_halves_with_every_half_life_before_the_newest() -> None:
    memory = Memory({"diary.md": DIARY})
    assert (memory.of("swam").written, memory.of("swam").recency) == ("2025-10-10", 1.0)
    assert (memory.of("clock").written, memory.of("clock").recency) == ("2025-07-02", 0.5)
    later = memory.of("clock", now=date(2026, 1, 18))
    assert later.recency == pytest.approx(0.25)


def test_equal_documents_give_equal_numbers_on_whatever_day_they_are_sent() -> None:
    one, other = (
        Memory({"diary.md": DIARY, "list.txt": "onions, beans\n"}, created_at=day) for day in (SENT, SENT.replace(day=29))
    )
    assert one.score() == other.score()
    assert one.score() == one.score()
    assert (one.of("onions").written, one.of("onions").recency) == (None, UNDATED)


def test_a_message_was_written_when_it_was_sent() -> None:
    memory = Memory({"a.txt": "I swam at Clevedon.\n", "b-2025-01.txt": "I oiled a clock.\n"}, source="telegram")
    assert {row.written for row in memory.score().values()} == {"2026-11-01"}


def test_a_date_after_the_document_came_in_is_not_when_it_was_written() -> None:
    """A heading of a plan for years ahead would make all that was ever written old."""
    memory = Memory({"plan.md": "# Plan for 2040\n\nI want to sail.\n", "diary.md": DIARY})
    assert memory.of("sail").written is None
    assert memory.of("swam").recency == 1.0


def test_a_chunk_without_a_sentence_has_the_date_of_the_one_before() -> None:
    text = "# 3 May 2025\n\nI ran this in the shell, quickly enough.\n\n```\necho one two three four five six seven\n```\n"
    assert Memory({"a.md": text}).of("echo").written == "2025-05-03"


def test_what_recurs_over_documents_counts_more() -> None:
    notes = {f"{name}.txt": f"At Clevedon I met {name}.\n" for name in ("Bev", "Col", "Dad", "Eve")} | {
        "f.txt": "I saw Torquay.\n"
    }
    memory = Memory(notes)
    sea, once = memory.entity("Clevedon"), memory.entity("Torquay")
    assert memory.of("Bev", sea).recurrence > memory.of("Torquay", sea, once).recurrence == 0
    assert memory.of("Bev", sea).salience > memory.of("Torquay", sea).salience
    assert memory.of("Bev", memory.entity("Clevedon", "CARDINAL")).recurrence == 0, "a number is nothing they share"


def test_a_name_said_often_in_one_document_does_not_recur() -> None:
    memory = Memory({"a.txt": "Clevedon is by the sea. I swim at Clevedon. I like Clevedon.\n", "b.txt": "I saw Torquay.\n"})
    assert memory.of("Clevedon", memory.entity("Clevedon")).recurrence == 0


def test_what_other_documents_say_too_counts_more() -> None:
    words = "I swim in the cold sea every Sunday"
    memory = Memory({"a.txt": f"{words}.\n", "b.txt": f"{words}!\n", "c.txt": "The clock stopped.\n"})
    assert memory.of("swim").recurrence > memory.of("clock").recurrence == 0


def test_sources_are_trusted_in_their_order_and_the_twin_not_at_all() -> None:
    memory = Memory({"a-2025.txt": "I swam.\n"})
    got = []
    for source in TRUST:
        memory.documents = [replace(memory.documents[0], source=source)]
        got.append(memory.of("swam", now=date(2026, 11, 1)).trust)
    assert got == sorted(got, reverse=True)
    memory.documents = [replace(memory.documents[0], created_by="twin")]
    assert (memory.of("swam").trust, memory.of("swam").salience) == (0.0, 0.0)


def test_what_the_twin_wrote_makes_nothing_recur_and_nothing_old() -> None:
    notes = {
        "a-2025-01.txt": "I swam at Clevedon.\n",
        "b.txt": "The clock stopped.\n",
        "c-2026-09.txt": "You swam at Clevedon.\n",
    }
    memory = Memory(notes)
    before = memory.of("I swam", memory.entity("Clevedon"))
    assert (before.recency, before.recurrence > 0) == (pytest.approx(0.5 ** (608 / 100), abs=1e-6), True)
    twin = memory.named("c-2026-09.txt")
    memory.documents = [replace(document, created_by="twin") if document == twin else document for document in memory.documents]
    after = memory.of("I swam", memory.entity("Clevedon"))
    assert (after.recency, after.recurrence) == (1.0, 0.0)


@pytest.mark.parametrize(("weight", "factor"), [(0.0, 0.0), (1.0, 1.0), (1.5, 1.5)])
def test_a_weight_mutes_or_raises(weight: float, factor: float) -> None:
    memory = Memory({"diary.md": DIARY})
    plain = memory.of("clock")
    assert memory.of("clock", weights={plain.chunk_id: weight}).salience == pytest.approx(plain.salience * factor)
    assert memory.of("swam", weights={plain.chunk_id: weight}) == memory.of("swam")
    assert memory.of("clock", weights={plain.chunk_id: 99.0}).salience == 1.0


@given(st.dictionaries(st.sampled_from(["a-2025-02.md", "b.txt", "c-2024.md"]), TEXTS.filter(str.strip), min_size=1))
def test_whatever_was_written_every_chunk_has_one_number_from_0_to_1(notes: dict[str, str]) -> None:
    memory = Memory(notes)
    scored = score_salience(memory.documents, memory.items, memory.table, [], RULES)
    assert unscored_chunks(scored, memory.table.chunk_ids) == []
    assert [row.chunk_id for row in scored] == list(memory.table.chunk_ids)
    for row in scored:
        assert all(0 <= part <= 1 for part in (row.recency, row.recurrence, row.trust))
    assert decode_records(encode_records(scored), ChunkSalience) == scored


def test_a_chunk_without_a_number_or_with_two_is_found() -> None:
    memory = Memory({"diary.md": DIARY})
    rows = list(memory.score().values())
    assert unscored_chunks(rows[1:], memory.table.chunk_ids) == [rows[0].chunk_id]
    assert unscored_chunks([*rows, rows[0]], memory.table.chunk_ids) == [rows[0].chunk_id]
    assert unscored_chunks([replace(rows[0], salience=1.2), *rows[1:]], memory.table.chunk_ids) == [rows[0].chunk_id]


def test_chunks_of_other_documents_are_refused() -> None:
    memory = Memory({"diary.md": DIARY})
    with pytest.raises(RetrievalError, match="documents_do_not_match"):
        score_salience([], memory.items, memory.table, [], RULES)
    with pytest.raises(RetrievalError, match="embeddings_do_not_match"):
        score_salience(memory.documents, memory.items[1:], memory.table, [], RULES)
