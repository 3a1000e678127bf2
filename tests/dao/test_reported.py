"""Whose words a sentence holds: what somebody else is said to say is never its writer's will. The sentences are of nobody whom
the stance is tested with."""

from __future__ import annotations

import pytest

from lpm_kernel.dao.reported import is_told, sentences_of
from lpm_kernel.dao.stance_cues import read_cues

BENCH = {"bench", "park"}


def own(text: str) -> str:
    return " ".join(each.own for each in sentences_of(text, BENCH)).strip()


def takes_a_side(text: str) -> bool:
    found = [read_cues(each.own) for each in sentences_of(text, BENCH)]
    return any(cues.for_ or cues.against or cues.abstain for cues in found)


@pytest.mark.parametrize(
    "text",
    [
        "Petra said: I am against the bench.",
        "Petra said I am against it.",
        "Petra told us that I am against it, and laughed.",
        "My neighbour thinks I am for the bench.",
        "My neighbour thinks that the bench is a bad idea.",
        "My sister's old friend Ida believes it is a mistake.",
        "“I am against it,” said Petra.",
        "“I am against it. I always was.” That was Petra.",
        "'I am for it,' said the old man.",
        "I am against it, says Petra at every meeting.",
        "I vote no, wrote Femi on the blackboard.",
        "Yes, said my brother.",
        "Petra: I am against the bench.",
        "Dr Okafor (treasurer): I support the bench.",
        "According to Petra, it is a bad idea.",
        "In Petra's words, I am against it.",
        "He wrote “yes, from the first of May” on the wall.",
        "> I am against the bench.",
        "Everyone says no, count me in, and so on.",
        "As a joke the chair wrote: my vote is yes.",
    ],
)
def test_what_another_says_is_not_the_writers_will(text: str) -> None:
    """A twin voted as Petra wanted, because its person had written down what she said."""
    assert not takes_a_side(text), own(text)


@pytest.mark.parametrize(
    "text",
    [
        "I am against the bench.",
        "I think it is a mistake.",
        "I said: “I am against it.”",
        "“I am against it,” I said.",
        "I told Petra that I am against it.",
        "Petra says it is loud, but I am for it.",
        "The chair said it costs 400, and I am against it.",
        "As Petra said, I am against it.",
        "The committee wants the bench, and I support it.",
        "Bench: I am for it.",
        "My view: it is a mistake.",
        "Verdict: I am against it.",
        "I agree with Petra that the bench is good.",
        "I want “this” bench and no other; I am for it.",
        "Petra thinks otherwise; I am for it.",
    ],
)
def test_what_the_writer_says_beside_it_is(text: str) -> None:
    assert takes_a_side(text), own(text)


def test_a_sentence_that_is_mostly_anothers_is_told() -> None:
    for text, expected in (("Petra said: I am against the bench.", True), ("I am against the bench.", False)):
        ((found),) = sentences_of(text)
        assert is_told(found.text, found.own) is expected


def test_a_sentence_reads_under_its_heading() -> None:
    (found,) = sentences_of("## The bench\n\nI am for it.")
    assert (found.text, found.headed) == ("I am for it.", "The bench. I am for it.")
