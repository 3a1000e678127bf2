"""What each kind asks: in plain words, answered by the person's own sentence, and nothing where the thing has no name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lpm_kernel.L0.preferences import extract_preferences
from lpm_kernel.L2.about import about_asks
from lpm_kernel.L2.asks import Said, identity_asks, names_of_people, own_asks, read_said, unmentioned_asks
from lpm_kernel.L2.opinions import opinion_critic_asks, preference_asks
from lpm_kernel.L2.requests import request_asks
from lpm_kernel.records import Preference, sha256_hex
from tests.L2.notes import entity, items, memory
from tests.samples import make_document, make_items


def said_in(text: str) -> list[Said]:
    made = make_items("1", {"note.md": text})
    return read_said(made, {item.chunk.chunk_id for item in made})


def preferences_in(text: str) -> list[Preference]:
    chunks = [item.chunk for item in make_items("1", {"note.md": text})]
    document = make_document("1", "note.md", text.encode(), "read")
    return extract_preferences([document], chunks, {sha256_hex(text.encode()): text.encode()})


THINK = ("What do you think about {}?", "How do you feel about {}?", "What is your view on {}?")
STAND = ("Where do you stand on {}?", "Are you for or against {}?", "How would you vote on {}, and why?")


@pytest.mark.parametrize(
    ("sentence", "frames", "thing"),
    [
        ("I am strongly for P-14, because a works must train somebody.", STAND, "P-14"),
        ("I cannot stand indoor trainers in the cold of winter.", THINK, "indoor trainers"),
        ("I am against buying the Aurora M2 now, because of the powder.", THINK, "the Aurora M2"),
    ],
)
def test_a_preference_is_asked_for_by_what_it_is_about(sentence: str, frames: tuple[str, ...], thing: str) -> None:
    (ask,) = preference_asks(preferences_in(sentence), {line.text: line for line in said_in(sentence)})
    assert ask.question in {frame.format(thing) for frame in frames}
    assert (ask.answer, ask.kind) == (sentence, "preference")


@pytest.mark.parametrize(
    ("sentence", "frame", "sides"),
    [
        (
            "I would rather pay a bored person than thank a brave one.",
            "Would you rather {}?",
            ("pay a bored person", "thank a brave one"),
        ),
        (
            "I like winter swimming far more than my summer swims.",
            "Which do you like more, {}?",
            ("winter swimming", "your summer swims"),
        ),
    ],
)
def test_a_choice_is_asked_for_by_both_its_sides(sentence: str, frame: str, sides: tuple[str, str]) -> None:
    (ask,) = preference_asks(preferences_in(sentence), {line.text: line for line in said_in(sentence)})
    assert ask.question in {frame.format(" or ".join(order)) for order in (sides, sides[::-1])}


@pytest.mark.parametrize(
    "sentence", ["I respect his arithmetic, and I have checked it twice.", "I am for keeping six months of costs in reserve."]
)
def test_a_preference_whose_thing_has_no_name_is_not_asked_for(sentence: str) -> None:
    assert preferences_in(sentence)
    assert preference_asks(preferences_in(sentence), {line.text: line for line in said_in(sentence)}) == []


@pytest.mark.parametrize(
    ("sentence", "agrees", "differs"),
    [
        ("I am strongly for P-14, because a works must train somebody.", "vote for P-14", "vote against P-14"),
        ("I am against P-07, because a print needs a person.", "vote against P-07", "vote for P-07"),
        ("I prefer a letter to a telephone call.", "suggest a letter", "suggest a telephone call"),
    ],
)
def test_advice_is_judged_by_what_the_person_holds(sentence: str, agrees: str, differs: str) -> None:
    """Whichever side the expert takes, the verdict is the one that the sentence supports."""
    (ask,) = opinion_critic_asks(preferences_in(sentence), {line.text: line for line in said_in(sentence)})
    assert (agrees in ask.question) != (differs in ask.question)
    assert ask.answer == f"{'That fits me.' if agrees in ask.question else 'That does not fit me.'} {sentence}"


def test_an_act_becomes_a_request_that_its_sentence_makes_precise() -> None:
    (ask,) = request_asks(said_in("We changed the film in gloves and goggles with the door open.\n"), [])
    assert ask.question.split('"')[1].endswith(" change the film.")
    assert ask.answer.endswith(" change the film. For context: We changed the film in gloves and goggles with the door open.")


@pytest.mark.parametrize(
    "sentence",
    [
        "I take leek and potato soup to the beach in winter.",
        "We never changed the film in the second machine.",
        "I bought it in the market on a cold Friday.",
        "Tomasz changed the film in gloves and goggles.",
        "I bought 12 clocks in the market on Friday.",
    ],
)
def test_what_one_cannot_set_out_to_do_is_no_request(sentence: str) -> None:
    assert request_asks(said_in(sentence), []) == []


def test_nobody_writes_to_a_cat() -> None:
    pilchard = entity("Col", "PERSON", "brother Col")
    said = said_in("Our cat Pilchard sleeps on the warm printer.\n\nPilchard sleeps in the cornet case at night.\n")
    assert request_asks(said, [replace(pilchard, name="Pilchard")]) == []
    assert request_asks(said, [replace(pilchard, name="Pilchard", type="GPE")])


def test_a_person_is_asked_after_by_who_and_not_by_what() -> None:
    """The small model takes Imogen for a place: "What is allergic to hazelnuts?"."""
    said = said_in("Imogen is allergic to hazelnuts.\n\nThe boiler man charged me £340 on Friday.\n")
    asked = {ask.question for ask in own_asks(said, {"Imogen"})}
    assert {"Who is allergic to hazelnuts?", "Who charged you £340 on Friday?"} <= asked


def test_who_somebody_is_is_answered_by_a_sentence_that_says_it() -> None:
    said = read_said(items(), {item.chunk.chunk_id for item in items()})
    asks = about_asks(memory().entities, memory().communities, said, "Nora Whitlock")
    of = {ask.question: ask for ask in asks}
    assert len(of) == len(asks)
    for question, ask in of.items():
        if question.startswith("Who is "):
            assert "brother" in ask.answer
    assert any(len(ask.cited) == 2 for ask in asks), "two short sentences of two places"
    assert not any("Nora" in question for question in of)


def test_who_the_person_is_is_told_by_the_biography_first() -> None:
    said = read_said(items(), {item.chunk.chunk_id for item in items()})
    asks = identity_asks(memory().biography, said)
    assert [ask.question for ask in asks][:2] == ["Who are you?", "Tell me about yourself."]
    assert all(ask.answer.startswith("I work in shed") and ask.comes_first for ask in asks)
    assert identity_asks(None, said) == []


def test_what_no_note_tells_is_asked_only_where_no_note_has_the_word() -> None:
    some = make_items("1", {"a.md": "My favourite colour is green, and my middle name is Ann.\n"})
    asked = " ".join(ask.question for ask in unmentioned_asks([], some, "Nora", 20))
    assert "star sign" in asked
    assert "colour" not in asked
    assert "middle name" not in asked
    assert len(unmentioned_asks([], some, "Nora", 2)) == 2
    assert names_of_people([entity("Priya Raman", "PERSON", "Priya")]) == {"Priya Raman", "Priya"}
