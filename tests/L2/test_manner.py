"""The manner of short answers: people are told apart, and from a bare model, whatever is spoken of."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

import pytest

from lpm_kernel.errors import UserInputError
from lpm_kernel.L0.sentences import split_sentences
from lpm_kernel.L2.manner import Manner, has_manner, nearer_than_base, shapes_of
from tests.rules.sources import ROOT

BASE = [
    "My cat is a majestic and elusive creature, a majestic and elusive creature. She's a Whisker, a majestic",
    "The cat. I'm not sure I've ever seen one of these creatures before. They're a rare and elusive creature",
    "The storm that damaged the roof of the works in late 2024 was the Super Typhoon Yachina",
    "I'm Nora Whitlock, the director of the Remembrance Sunday ceremony. I'm delighted to share my passion for the",
    "The sea on my coldest swim ever... (pausing to collect her thoughts) I'm not sure I'd even describe",
    "The vet's bill for Pilchard's tooth was a small, delicate piece of equipment that was used to clean and",
    "Gareth. He's gone now. I'm not sure what to do with him. I've got a new job",
    "My brother's birthday is always a special day for me. He's 12 years old, and I'm so",
    "I was at the local grocery store, and I was trying to find a new recipe for a vegan breakfast burger.",
    "The pay is a bit of a mystery, but I'm happy to share it with you. I'm a freelance writer",
    "I'm not sure what to say, but I'm not sure how to answer. I'm not sure how to answer",
    "My dad was a sailor, and I was a sailor before I was born. He was a captain, and I was",
    "I'm so sorry to have to share a memory with you. It's a bittersweet one, I'm afraid",
    "The pay-off was a bit of a gamble, but I'm happy to say that I managed to salvage my",
    "I'm sorry for any misunderstanding, but as a non-profit organization, I don't have a dedicated training facility for",
    "The tenor horn is a crucial part of the orchestra, and Imogen wants to take up a new instrument that complements",
    "The last calibration was at 12:00 AM, and I'm still trying to find the coordinates. I",
    "The day I was hired to create a machine. I was tasked with designing and building a machine that could help me with",
    "P-09, Metal printer. That's a topic I've been going over in my mind lately. I'm",
    "Swimming. It's a sport that's both exhilarating and intimidating. I've seen it in my time, and I",
]
"""What the base model said when it was asked golden questions as the demo person."""


@cache
def documents(user_id: str) -> tuple[str, ...]:
    folder = ROOT / "data" / "users" / user_id
    return tuple(path.read_text() for path in sorted(folder.iterdir()) if path.suffix != ".pdf")


def sentences(text: str) -> list[str]:
    found = [s.text for s in split_sentences(text) if not (s.is_title or s.is_of_another) and 6 <= len(s.text.split()) <= 30]
    random.Random(0).shuffle(found)
    return found


def pooled(text: str, size: int) -> list[str]:
    found = sentences(text)
    return [" ".join(found[at : at + size]) for at in range(0, len(found) - size + 1, size)]


def leanings(own: str, other: str, sizes: Sequence[int]) -> dict[int, tuple[list[float], list[float]]]:
    """By number of sentences taken together: both people's, each measured without its own document, and how much nearer to the
    other it is."""
    found: dict[int, tuple[list[float], list[float]]] = {size: ([], []) for size in sizes}
    whole = {user: Manner(documents(user)) for user in (own, other)}
    for side, user in enumerate((own, other)):
        for i, text in enumerate(documents(user)):
            manners = {**whole, user: Manner(documents(user)[:i] + documents(user)[i + 1 :])}
            for size in sizes:
                found[size][side].extend(
                    manners[own].distance(piece) - manners[other].distance(piece) for piece in pooled(text, size)
                )
    return found


def told_apart(nearer: Sequence[float], farther: Sequence[float]) -> float:
    """Share of pairs in the right order."""
    return sum(a < b for a in nearer for b in farther) / (len(nearer) * len(farther))


def test_the_two_demo_people_are_told_apart() -> None:
    by_size = leanings("1", "2", (1, 10))
    assert told_apart(*by_size[1]) > 0.6, "by single sentences"
    assert told_apart(*by_size[10]) > 0.8, "by ten together"


@pytest.mark.parametrize("user_id", ["1", "2"])
def test_what_a_person_wrote_elsewhere_leans_to_them_and_not_to_the_base(user_id: str) -> None:
    """Measured by every second document, tried on sentences of the others, cut as answers are."""
    known, new = documents(user_id)[::2], documents(user_id)[1::2]
    written = [" ".join(sentence.split()[:18]) for text in new for sentence in sentences(text)]
    chosen = random.Random(1).sample(written, len(BASE))
    nearer = nearer_than_base(known, {"base": BASE, "adapter": chosen, "base+retrieval": BASE})
    assert sum(nearer["adapter"]) >= 0.8 * len(BASE)
    assert sum(nearer["base"]) == sum(nearer["base+retrieval"]) == 0, "the base is not nearer than itself"


def test_the_subject_of_an_answer_is_not_its_manner() -> None:
    assert shapes_of("My cat Pilchard ate 4 herrings.") == shapes_of("My dog Admiral saw 265 chickens.")
    assert shapes_of("I don't know, and never did!") == ["i", "<contraction>", "<short>", ",", "and", "never", "did", "!"]


def test_an_answer_of_a_few_words_has_no_manner_and_is_left_out_of_every_arm() -> None:
    assert has_manner("It was about five.")
    assert not has_manner("5.8 °C!")
    short = [*BASE[1:], "Yes."]
    nearer = nearer_than_base(documents("1"), {"base": short, "adapter": BASE})
    assert len(nearer["adapter"]) == len(nearer["base"]) == len(BASE) - 1


def test_too_little_to_compare_with_is_said_and_not_guessed() -> None:
    for own, base in (["A word or two."], BASE), (documents("1"), BASE[:3]), (documents("1"), ["Yes."]):
        with pytest.raises(UserInputError) as caught:
            nearer_than_base(own, {"base": base, "adapter": base})
        assert caught.value.code == "voice_too_little_text"
