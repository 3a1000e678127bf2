"""Sentences to questions: spoken to the writer, answered word for word, and silent where grammar is not plain."""

from __future__ import annotations

import re

import pytest

from lpm_kernel.L2.questions import MAX_WORDS, MIN_WORDS, AskedSentence, ask_about

NOTES = """# Diary, February 2025

I played the Last Post alone in Victoria Park on Remembrance Sunday. She cracked the top note.

- Gannet dropped three plates on Friday.
- Check the oven

> Priya Raman keeps the accounts
of the cooperative.

Did you see it? “I mended it,” I told Imogen. We got Pilchard from a rescue in Portishead in 2019!
"""


def questions_of(text: str) -> list[str]:
    return [item.question for item in ask_about([text])[0]]


@pytest.mark.parametrize(
    ("sentence", "question"),
    [
        (
            "I played the Last Post alone in Victoria Park on Remembrance Sunday.",
            "What did you play alone in Victoria Park on Remembrance Sunday?",
        ),
        ("We got Pilchard from a rescue in Portishead in 2019.", "When did you get Pilchard from a rescue in Portishead?"),
        ("My brother Col lives in Nova Scotia.", "Where does your brother Col live?"),
        ("Gannet dropped three plates on Friday.", "How many plates did Gannet drop on Friday?"),
        ("Priya Raman keeps the accounts of the cooperative.", "Who keeps the accounts of the cooperative?"),
        ("I prefer a person in the building during every print.", "What do you prefer during every print?"),
        ("In spring I repaired the clock of my father.", "What did you repair in spring?"),
    ],
)
def test_a_plain_sentence_is_turned_around(sentence: str, question: str) -> None:
    assert AskedSentence(question, sentence) in ask_about([sentence])[0]


@pytest.mark.parametrize(
    ("sentence", "question"),
    [
        ("We don't want cameras at the gate.", "What do you not want at the gate?"),
        ("I can't read the gauge in the dark.", "What can you not read in the dark?"),
    ],
)
def test_a_contracted_not_finds_its_place(sentence: str, question: str) -> None:
    """It was asked "What do youn't want at the gate?"."""
    assert question in questions_of(sentence)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n\n",
        "# I bought four clocks in May.",
        "She went to the shop on Friday.",
        "It cost £265 at the vet.",
        "Did you buy four clocks in May?",
        "“I am here,” said Col.",
        "Check the oven",
        "I slept.",
        "I bought " + "a clock and " * 20 + "a bell in May.",
    ],
)
def test_nothing_is_asked_where_the_grammar_is_not_plain(text: str) -> None:
    assert ask_about([text]) == [[]]


def test_every_question_is_whole_and_spoken_to_the_writer() -> None:
    asked = ask_about([NOTES])[0]
    assert len(asked) >= 8
    first_person = re.compile(r"\b(?:I|me|my|mine|we|us|our|ours)\b")
    for item in asked:
        assert re.match(r"(?:Who|What|When|Where|How many|How much)\b.*[^\s.,;!?]\?$", item.question), item
        assert not first_person.search(item.question), item
        assert not re.search(r"\b(?:she|he|it|they)\b", item.question), item
        assert MIN_WORDS <= len(item.question.split()) <= MAX_WORDS, item
    assert len({item.question for item in asked}) == len(asked)


def test_every_answer_is_a_sentence_of_the_text() -> None:
    """Rows are checked against their source word for word; a list mark or heading inside would fail them."""
    plain = " ".join(re.sub(r"(?m)^[-> ]+", "", NOTES).split())
    answers = {item.sentence for item in ask_about([NOTES])[0]}
    assert "Priya Raman keeps the accounts of the cooperative." in answers
    assert "Gannet dropped three plates on Friday." in answers
    assert all(answer in plain for answer in answers)
    assert not any("Diary" in answer or "cracked" in answer for answer in answers)


def test_texts_keep_their_place() -> None:
    sentence = "My brother Col lives in Nova Scotia."
    alone = ask_about([sentence])[0]
    assert ask_about(["", sentence, "She went.", sentence]) == [[], alone, [], alone]


def test_the_same_texts_give_the_same_questions() -> None:
    assert ask_about([NOTES, "I keep bees."]) == ask_about([NOTES, "I keep bees."])
