"""Choosing preferences: all that fit, those that bear on the question first, and a budget that holds."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.errors import UserInputError
from lpm_kernel.L0.chunk import count_tokens
from lpm_kernel.recall.preferences import choose_preferences
from lpm_kernel.records import Citation, Memory, Preference
from lpm_kernel.stores.memories import make_memory
from tests.fakes import FakeEmbedder

EMBEDDER = FakeEmbedder()
AT = datetime(2026, 1, 1, tzinfo=UTC)


def memory(text: str, importance: float = 0.5, domain: str = "chat") -> Memory:
    return make_memory("1", "preference", text, domain=domain, source="chat", importance=importance, created_at=AT)


def choose(question: str, items: list, budget: int = 600) -> list[str]:
    vectors = EMBEDDER.embed([item.text for item in items]) if items else np.zeros((0, EMBEDDER.dim), dtype=np.float32)
    return [x.text for x in choose_preferences(EMBEDDER.embed([question])[0], question, items, vectors, budget, count_tokens)]


def test_twenty_five_short_preferences_are_all_on_board_whatever_is_asked() -> None:
    items = [memory(f"I prefer a hand-made number {number} to any other that one may buy.") for number in range(25)]
    assert set(choose("Where shall we eat?", items)) == {item.text for item in items}


def test_what_bears_on_the_question_comes_first() -> None:
    items = [memory("I hate loud music."), memory("I eat no cheese."), memory("I only ride trains.")]
    assert choose("Which cheese do you eat?", items, budget=8) == ["I eat no cheese."]


def test_a_preference_is_near_where_its_domain_is() -> None:
    """By similarity alone one word about food hides another: "gluten" is no neighbour of "Where shall we eat in Rome?"."""
    question = np.array([1.0, 0, 0, 0], dtype=np.float32)
    food = [np.array([0.6, 0.8, 0, 0]), np.array([0.0, 1.0, 0, 0])]
    other = [np.array([0.01, 0, 1.0, 0]), np.array([0.01, 0, 0.9, 0.44])]
    vectors = np.array([v / np.linalg.norm(v) for v in [*food, *[food[0]] * 8, *other, *[other[0]] * 8]], dtype=np.float32)
    items = [memory(f"Preference {number}.") for number in range(len(vectors))]
    ranked = [item.text for item in choose_preferences(question, "?", items, vectors, 600, count_tokens)]
    assert ranked.index("Preference 1.") < ranked.index("Preference 10.")


def test_of_equals_the_firmer_and_the_named_one_come_first() -> None:
    assert choose("?", [memory("I like one."), memory("I like two.", 1.0)])[0] == "I like two."
    named = [memory("I like red.", domain="hats"), memory("I like dry.", domain="wines")]
    assert choose("Any wine?", named)[0] == "I like dry."


def test_the_same_words_are_on_board_once() -> None:
    assert choose("tea?", [memory("I love tea."), memory("i love tea")]) == ["I love tea."]


def test_preferences_of_documents_and_of_chats_are_chosen_alike() -> None:
    cited = Preference("p", "I love old maps.", "maps", "attitude", "for", 1.0, Citation("c", "d", "a.md", 0, 16))
    assert set(choose("maps?", [cited, memory("I hate tea.")])) == {"I love old maps.", "I hate tea."}


def test_one_that_is_too_long_leaves_its_place_to_others() -> None:
    assert choose("tea?", [memory("I love tea " * 50), memory("I eat no cheese.")], budget=20) == ["I eat no cheese."]


def test_no_preferences_are_none_and_vectors_of_others_are_refused() -> None:
    assert choose("tea?", []) == []
    with pytest.raises(UserInputError, match="vectors_not_matching"):
        choose_preferences(EMBEDDER.embed(["a"])[0], "a", [memory("I love tea.")], EMBEDDER.embed(["a", "b"]), 9, count_tokens)


@given(st.lists(st.text(alphabet="abc de", min_size=1).filter(str.strip), max_size=20), st.integers(0, 60))
def test_the_budget_is_never_passed_and_nothing_is_chosen_twice(texts: list[str], budget: int) -> None:
    chosen = choose("abc", [memory(text) for text in texts], budget)
    assert sum(count_tokens(text) + 1 for text in chosen) <= budget
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(texts)
