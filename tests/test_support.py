"""Whether a text says only what its sources say."""

from __future__ import annotations

import pytest

from lpm_kernel.support import find_flaw, read_claims

LINE = "My wage from Harrow Point is £34,500 a year, and I wouldn't go back for double. Joan mends bicycles on Fridays."


@pytest.mark.parametrize(
    "said",
    [
        "Nothing else: my wage is £34500 a year.",
        "It's £34,500 a year.",
        "On Fridays Joan mends my bicycle.",
        "Well, I would not really go back, not for double.",
        "They are called Joan and Harrow.",
        "",
    ],
)
def test_other_order_forms_and_small_words_are_no_flaw(said: str) -> None:
    assert find_flaw(said, [LINE, "earn nothing else"]) is None


@pytest.mark.parametrize(
    ("said", "flaw"),
    [
        ("It is £35,500 a year.", "number"),
        ("It is £34.500 a year.", "number"),
        ("It is 34 a year.", "number"),
        ("On Fridays my Bob mends bicycles.", "name"),
        ("I think that Fridays at Clevedon are for bicycles.", "name"),
        ("Joan steals bicycles on Fridays.", "word"),
        ("Tractors.", "word"),
    ],
)
def test_what_no_source_says_is_named_by_its_kind(said: str, flaw: str) -> None:
    assert find_flaw(said, [LINE, "I think at the"]) == flaw


def test_what_two_sources_say_together_is_said() -> None:
    assert find_flaw("Joan drinks tea.", ["Joan is here.", "She drinks tea."]) is None
    assert find_flaw("It suits.", ["x"], allowed_words=["suits"]) is None
    assert find_flaw("Anything", []) == "word"


@pytest.mark.parametrize("said", ["I don't", "I do not", "I can't", "We won't", "Never!", "Nobody came", "I cannot"])
def test_a_no_is_seen_in_all_its_forms(said: str) -> None:
    assert read_claims(said).negated


def test_a_word_that_only_holds_a_no_is_none() -> None:
    assert not read_claims("I noted the knot in the north.").negated
