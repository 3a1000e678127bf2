"""Recall: a question to the lines of one user's notes, or a named reason why there are none."""

from __future__ import annotations

import pytest

from lpm_kernel.errors import RetrievalError, StoreError, UserInputError
from lpm_kernel.L0.embed import embed_chunks, vector_entries
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.vectors import Hit, Vectors
from tests.fakes import FakeEmbedder, MemoryVectors, no_progress
from tests.samples import make_items

RULES = load_settings().recall.model_copy(update={"lines": 2})
NOTES = {
    "diary-2025-02.md": "Our one-eyed cat is called Pilchard.\n\nThe sea at Clevedon was 5.8 °C and I stayed in for four.\n",
    "letter-to-col.txt": "Dear Col, the band plays in Victoria Park on Sunday, and I have the cornet part.\n",
    "machines.md": "Gannet dropped three plates on Friday because its gripper was worn.\n",
}


def remember(user_id: str, notes: dict[str, str], vectors: Vectors, embedder: Embedder, generation: str = "g") -> None:
    items = make_items(user_id, notes, 24)
    table, _ = embed_chunks(items, embedder, None, no_progress)
    vectors.sync(user_id, generation, vector_entries(items, table), table.fingerprint)


@pytest.fixture
def memory() -> tuple[MemoryVectors, FakeEmbedder]:
    vectors, embedder = MemoryVectors(), FakeEmbedder()
    remember("1", NOTES, vectors, embedder)
    return vectors, embedder


def test_the_best_line_comes_first_with_its_place(memory: tuple[MemoryVectors, FakeEmbedder]) -> None:
    lines = recall_evidence("1", "g", "What is your one-eyed cat called?", *memory, RULES)
    assert [line.score for line in lines] == sorted((line.score for line in lines), reverse=True)
    best = lines[0]
    assert best.citation.filename == "diary-2025-02.md"
    stored = NOTES["diary-2025-02.md"].encode()
    assert stored[best.citation.byte_start : best.citation.byte_end].decode() == best.text
    assert "Pilchard" in best.text


def test_the_number_of_lines_is_the_setting_unless_another_is_asked_for(memory: tuple[MemoryVectors, FakeEmbedder]) -> None:
    assert len(recall_evidence("1", "g", "the band on Sunday", *memory, RULES)) == 2
    assert len(recall_evidence("1", "g", "the band on Sunday", *memory, RULES, lines=3)) == 3


def test_a_user_without_memory_is_a_named_error_and_no_empty_answer(memory: tuple[MemoryVectors, FakeEmbedder]) -> None:
    with pytest.raises(RetrievalError) as caught:
        recall_evidence("2", "g", "What is your cat called?", *memory, RULES)
    assert caught.value.code == "memory_empty"
    vectors, embedder = memory
    with pytest.raises(RetrievalError):
        recall_evidence("1", "another", "What is your cat called?", vectors, embedder, RULES)
    with pytest.raises(RetrievalError):
        recall_evidence("1", "g", "What is your cat called?", vectors, FakeEmbedder("another/64"), RULES)


def test_a_question_without_words_is_refused(memory: tuple[MemoryVectors, FakeEmbedder]) -> None:
    with pytest.raises(UserInputError) as caught:
        recall_evidence("1", "g", "  ", *memory, RULES)
    assert caught.value.code == "text_empty"


def test_a_store_that_fails_is_not_a_memory_without_answers() -> None:
    class Down(MemoryVectors):
        def search(self, user_id: str, generation: str, question: str, vector: object, **_: object) -> list[Hit]:
            raise StoreError("tables_unavailable", "PostgreSQL did not answer")

    with pytest.raises(StoreError):
        recall_evidence("1", "g", "What is your cat called?", Down(), FakeEmbedder(), RULES)


@pytest.mark.parametrize(
    ("question", "fact"),
    [
        ("What is your cat called?", "Pilchard"),
        ("How cold was the water when you swam?", "5.8 °C"),
        ("Where is the concert?", "Victoria Park"),
        ("Which robot let something fall?", "Gannet"),
    ],
)
def test_the_real_stores_find_the_fact(stores: Stores, user_id: str, question: str, fact: str) -> None:
    remember(user_id, NOTES, stores.vectors, stores.embedder)
    lines = recall_evidence(user_id, "g", question, stores.vectors, stores.embedder, stores.settings.recall, lines=1)
    assert fact in lines[0].text
