"""Whether the lines answer: the signs of it, and when it is asked at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.recall.confidence import FoundLine, judge, read_signs, seeks_knowledge

NEAR = [FoundLine("Ann: I bought a red kiln in May.", 0.7, 1.0), FoundLine("Bo: I sold my boat.", 0.3, 0.4)]


def test_a_line_with_the_words_and_the_meaning_is_trusted_and_a_far_one_is_not() -> None:
    far = [FoundLine("Bo: The tram was late.", 0.1, 1.0)]
    assert judge("Who bought the red kiln?", NEAR) > 0.6
    assert judge("What is your shoe size?", far) < 0.25
    assert judge("What is your shoe size?", []) == 0.0


def test_what_somebody_else_said_is_no_answer_about_the_one_who_is_named() -> None:
    """An answer about Bo was made of what Ann had said."""
    theirs, others = judge("What did Ann buy, a red kiln?", NEAR), judge("What did Bo buy, a red kiln?", NEAR)
    assert others < theirs - 0.2
    signs = read_signs("What did Bo buy, a red kiln?", NEAR)
    assert signs.gap_in_words < 0 > signs.gap_in_all


def test_a_question_that_names_nobody_is_judged_by_words_and_meaning_alone() -> None:
    signs = read_signs("Who bought the red kiln?", NEAR)
    assert (signs.said_by_named, signs.gap_in_words, signs.gap_in_all) == (1.0, 0.0, 0.0)
    assert (signs.closest, signs.words_in_one) == (0.7, 1.0)


def test_nothing_is_not_judged() -> None:
    with pytest.raises(ValueError, match="no lines"):
        read_signs("Who?", [])


@given(
    st.text(max_size=40),
    st.lists(st.builds(FoundLine, st.text(max_size=30), st.floats(-1, 1), st.floats(0, 1)), max_size=25),
)
def test_confidence_is_a_share_whatever_is_said(question: str, lines: list[FoundLine]) -> None:
    assert 0 <= judge(question, lines) <= 1


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("Where do you work?", True),
        ("what is your cat called", True),
        ("You work in Bristol?", True),
        ("Hello?", False),
        ("I moved to Porto in May.", False),
        ("Count, please.", False),
        ("How are you?", False),
        ("Good morning! How are you today?", False),
        ("What a lovely day!", False),
        ("How about that.", False),
        ("Can you write me a poem?", False),
        ("Could you please help me with my taxes?", False),
        ("Can you swim?", True),
        ("How is your father?", True),
        ("", False),
    ],
)
def test_only_a_question_can_be_one_that_nobody_knows(said: str, asked: bool) -> None:
    assert seeks_knowledge(said) is asked
