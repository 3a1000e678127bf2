"""The ranking of short texts: words in a window, meaning, who speaks, and that equal searches are equal."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.stores.stems import stems_of
from lpm_kernel.stores.text_index import TextIndex, index_text, speaker_of
from tests.fakes import FakeEmbedder
from tests.samples import RANKING

TALK = [
    ("a1", "Ann: Which trip did you like best?", "s1", 1),
    ("a2", "Bo: Lisbon, without a doubt.", "s1", 2),
    ("a3", "Ann: I only ever paint in the evening.", "s1", 3),
    ("b1", "Bo: The tram was late again.", "s2", 1),
    ("b2", "Ann: My sister keeps bees in the garden.", "s2", 2),
]
EMBEDDER = FakeEmbedder()


def index_of(talk: list[tuple[str, str, str, int]], **changes: float) -> TextIndex:
    vectors = EMBEDDER.embed([text for _, text, _, _ in talk]) if talk else np.zeros((0, 64), dtype=np.float32)
    return TextIndex([index_text(*turn) for turn in talk], vectors, RANKING.model_copy(update=changes))


def ids(index: TextIndex, question: str, k: int = 3, among: list[bool] | None = None) -> list[str]:
    mask = np.ones(len(index.items), dtype=bool) if among is None else np.array(among)
    return [
        index.items[position].item_id for position in index.rank(question, EMBEDDER.embed([question])[0], mask, k).positions
    ]


def test_an_answer_beside_the_words_of_the_question_is_found_by_its_window() -> None:
    """The turn that answers "which trip" is one word of a place; it shares nothing with the question but its neighbour."""
    words_only = {"meaning": 1e-9, "meaning_around": 0.0, "words": 1.0, "speaker": 0.0, "asking": 0.6}
    assert ids(index_of(TALK, **words_only), "the best trip", 1) == ["a2"]
    assert ids(index_of(TALK, **words_only | {"neighbours": 0, "asking": 0.0}), "the best trip", 1) == ["a1"]


def test_a_window_ends_with_its_session() -> None:
    index = index_of(TALK, words=1.0, meaning=1e-9, meaning_around=0.0, speaker=0.0)
    found = index.rank("evening paint", EMBEDDER.embed(["x"])[0], np.ones(5, dtype=bool), 5)
    scores = dict(zip([index.items[position].item_id for position in found.positions], found.scores, strict=True))
    assert scores["a2"] > scores["b1"] == pytest.approx(0, abs=1e-6)


def test_one_who_is_named_in_the_question_is_heard_first_unless_nobody_else_speaks() -> None:
    said = [("1", "Ann: I have a dog.", "s", 1), ("2", "Bo: I have a dog.", "t", 1)]
    assert ids(index_of(said, speaker=0.5), "What animal does Bo have?", 1) == ["2"]
    assert ids(index_of(said, speaker=0.5), "What animal does Ann have?", 1) == ["1"]
    alone = index_of([said[0], ("3", "Ann: Hello there.", "t", 1)], speaker=0.5)
    assert alone.rank("Ann", EMBEDDER.embed(["Ann"])[0], np.ones(2, dtype=bool), 2).scores[1] < 0.5


def test_words_are_weighed_as_the_formula_of_the_books() -> None:
    texts = ["kiln kiln clay", "clay wheel", "wheel glaze glaze glaze"]
    talk = [(str(i), text, f"s{i}", 1) for i, text in enumerate(texts)]
    index = index_of(talk, words=1.0, meaning=1e-9, meaning_around=0.0, speaker=0.0)
    found = index.rank("clay glaze", EMBEDDER.embed(["x"])[0], np.ones(3, dtype=bool), 3)

    def bm25(text: str) -> float:
        words, mean = text.split(), sum(len(t.split()) for t in texts) / 3
        total = 0.0
        for word in ("clay", "glaze"):
            held = sum(word in t.split() for t in texts)
            times = words.count(word)
            total += (
                math.log(1 + (3 - held + 0.5) / (held + 0.5)) * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * len(words) / mean))
            )
        return total

    wanted = {str(i): bm25(text) for i, text in enumerate(texts)}
    low, high = min(wanted.values()), max(wanted.values())
    got = dict(zip([index.items[p].item_id for p in found.positions], found.scores, strict=True))
    assert got == {key: pytest.approx((value - low) / (high - low), abs=1e-5) for key, value in wanted.items()}


def test_only_candidates_are_ranked_and_stretched() -> None:
    index = index_of(TALK)
    assert ids(index, "bees in the garden", 5, [True, True, True, True, False]) == sorted(
        ids(index, "bees in the garden", 4, [True, True, True, True, False]),
        key=ids(index, "bees in the garden", 5, [True, True, True, True, False]).index,
    )
    assert "b2" not in ids(index, "bees in the garden", 5, [True, True, True, True, False])
    assert ids(index, "bees", 5, [False] * 5) == []
    assert ids(index_of([]), "bees") == []


@given(st.permutations(range(6)), st.integers(1, 6))
def test_the_order_in_which_texts_come_changes_nothing(order: list[int], k: int) -> None:
    """Ties are decided by id: of equal texts a different one was shown after each restart."""
    same = [(f"m{i}", "the very same words", None, 0) for i in range(4)] + [
        ("m4", "other words", None, 0),
        ("m5", "bees", None, 0),
    ]
    plain, mixed = index_of(same), index_of([same[i] for i in order])  # type: ignore[list-item]
    assert ids(mixed, "the very same words", k) == ids(plain, "the very same words", k)
    assert len(ids(plain, "the very same words", k)) == k


@pytest.mark.parametrize(
    ("text", "speaker"),
    [
        ("Ann: hello", "ann"),
        ("Ann Lee: hello", "ann"),
        ("at 10: go", None),
        ("10:30 it is", None),
        ("no label", None),
        (": x", None),
    ],
)
def test_a_speaker_is_the_label_before_a_colon(text: str, speaker: str | None) -> None:
    assert speaker_of(text) == speaker


def test_stems_join_the_forms_of_a_word_and_leave_out_what_says_nothing() -> None:
    assert stems_of("She's been painting the Paintings of Anna's") == ["paint", "paint", "anna"]
    assert stems_of("Where is it?") == []
