"""Golden questions: read strictly, matched as whole words, and kept out of training with their paraphrases."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.L2.golden import Asked, holds_fact, leave_out_taught, load_golden, parse_golden, too_close
from lpm_kernel.L2.records import GoldenQuestion, Stance
from lpm_kernel.L2.skill_rows import NOTES, taught_questions
from lpm_kernel.layout import golden_key
from lpm_kernel.records import sha256_hex
from lpm_kernel.stores.embedder import MiniLmEmbedder
from tests.fakes import FakeEmbedder, MemoryBlobs
from tests.rules.sources import ROOT

QUESTION = {"id": "q01", "question": "What is your cat called?", "expected": ["Pilchard", "Pilch"], "document": "diary.md"}
CONTENT: dict[str, Any] = {"questions": [QUESTION], "unanswerable": [{"id": "u01", "question": "What is your shoe size?"}]}


def elsewhere(*questions: str) -> list[Asked]:
    """Asked with an answer that holds no golden fact."""
    return [Asked(question, "something") for question in questions]


def packed(content: object) -> bytes:
    return yaml.safe_dump(content, allow_unicode=True).encode()


def test_a_file_is_read_with_its_hash() -> None:
    data = packed(CONTENT)
    golden = parse_golden(data)
    assert golden.questions == (GoldenQuestion("q01", "What is your cat called?", ("Pilchard", "Pilch"), "diary.md"),)
    assert golden.unanswerable == ("What is your shoe size?",)
    assert golden.sha256 == sha256_hex(data)


def test_opinions_and_preferences_become_stances_one_a_topic() -> None:
    opinion = {"proposal": "P-09", "title": "Metal printer", "stance": "abstain", "document": "a.md", "evidence": "I abstain."}
    liked = [
        {"id": f"p{i}", "preference": f"Likes {i}.", "topic": "food", "document": "a.md", "evidence": f"I like {i}."}
        for i in range(2)
    ]
    golden = parse_golden(packed({**CONTENT, "opinions": [opinion], "preferences": liked}))
    assert golden.stances == (
        Stance("P-09, Metal printer", "undecided", ("I abstain.",)),
        Stance("food", None, ("I like 0.", "Likes 0.", "I like 1.", "Likes 1.")),
    )


def test_numbers_and_dates_are_expected_as_they_are_written() -> None:
    golden = parse_golden(packed({**CONTENT, "questions": [{**QUESTION, "expected": [2020, 5.8]}]}))
    assert golden.questions[0].expected == ("2020", "5.8")


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        "text",
        {},
        {"questions": []},
        {"questions": [], "unanswerable": []},
        {"questions": [QUESTION]},
        {**CONTENT, "questions": ["What?"]},
        {**CONTENT, "opinions": [{"proposal": "P", "title": "T", "stance": "maybe", "evidence": "E"}]},
        {**CONTENT, "opinions": [{"proposal": "P", "title": "T", "stance": ["for"], "evidence": "E"}]},
        {**CONTENT, "preferences": [{"topic": "food"}]},
        {**CONTENT, "preferences": "food"},
        {**CONTENT, "questions": [{"id": "q01", "question": "What?", "document": "a.md"}]},
        {**CONTENT, "questions": [{**QUESTION, "expected": []}]},
        {**CONTENT, "questions": [{**QUESTION, "expected": "Pilchard"}]},
        {**CONTENT, "questions": [{**QUESTION, "expected": ["Pilchard", " . "]}]},
        {**CONTENT, "questions": [{**QUESTION, "question": " ?"}]},
        {**CONTENT, "unanswerable": [{"id": "u01", "question": ""}]},
    ],
)
def test_a_file_that_cannot_measure_is_refused(content: object) -> None:
    """`expected: Pilchard` without a list gave eight answers of one letter, and every "a" in an answer counted as right; so
    did an expected answer of white space."""
    with pytest.raises(UserInputError) as caught:
        parse_golden(packed(content))
    assert caught.value.code == "golden_invalid"


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"questions: [", b"", b"a: b: c"])
def test_what_is_no_yaml_is_refused(data: bytes) -> None:
    with pytest.raises(UserInputError) as caught:
        parse_golden(data)
    assert caught.value.code == "golden_invalid"


def test_a_user_without_a_golden_set_has_none() -> None:
    assert load_golden(MemoryBlobs(), "1") is None


def test_a_golden_set_is_the_users_own() -> None:
    blobs = MemoryBlobs()
    blobs.put(golden_key("1"), packed(CONTENT))
    assert load_golden(blobs, "1") == parse_golden(packed(CONTENT))
    assert load_golden(blobs, "2") is None


def test_a_store_that_fails_is_not_a_user_without_a_golden_set() -> None:
    """Read as "none", the gate would have let golden questions into training."""

    class Down(MemoryBlobs):
        def get(self, key: str) -> bytes:
            raise StoreError("blob_store", "could not get it")

    with pytest.raises(StoreError):
        load_golden(Down(), "1")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("He is called Pilchard.", "Pilchard"),
        ("PILCHARD!", "pilchard"),
        ("Pilchard’s the name", "Pilchard"),
        ("It was 5.8 °C.", "5.8 °C"),
        ("It was 5.8\n  °C.", "5.8 °C"),
        ("We paid £265, I think", "£265"),
        ("(since 2020)", "2020"),
        ("Our cat's name", "cat’s name"),
        ("It is “Deep Harmony”", "Deep Harmony."),
        ("In 1,265 days", "1,265"),
        ("about 11.", "11"),
        ("1 or 2, 3", "2"),
        ("STRASSE", "Straße"),
    ],
)
def test_a_fact_is_found_as_whole_words(answer: str, expected: str) -> None:
    assert holds_fact(answer, ("something else", expected))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("We have pilchards for tea", "Pilchard"),
        ("It was 15.8 °C", "5.8 °C"),
        ("We paid £2650", "£265"),
        ("We paid £1,265", "265"),
        ("It was 5.8 degrees", "8"),
        ("It was 11.5 miles", "11"),
        ("unrelated", "relate"),
        ("", "Pilchard"),
        ("Deep and harmony", "Deep Harmony"),
        ("5x8", "5.8"),
    ],
)
def test_a_part_of_a_word_or_number_is_not_the_fact(answer: str, expected: str) -> None:
    """265 was found in "£1,265" and 8 in "5.8", each counted as a right answer."""
    assert not holds_fact(answer, (expected,))


def test_golden_questions_and_their_like_are_too_close() -> None:
    golden = parse_golden(packed(CONTENT))
    asked = [
        "What is your cat called?",
        "what is  your cat called",
        "What is your cat called now?",
        "What is your shoe size?",
        "Who repairs the Heron on Mondays?",
    ]
    assert too_close(elsewhere(*asked), golden, FakeEmbedder()) == [True, True, True, True, False]


def test_the_real_model_knows_a_paraphrase() -> None:
    golden = parse_golden(packed(CONTENT))
    asked = ["What's the name of your cat?", "Which machine did you repair on Monday?"]
    assert too_close(elsewhere(*asked), golden, MiniLmEmbedder()) == [True, False]


PARAPHRASES = {
    "1": {
        "q01": ["What name does your cat go by?", "What do you call the cat at home?"],
        "q05": ["What was the water temperature when you swam?"],
        "q12": ["How much do you earn a year at the works?"],
        "q15": ["Where did Imogen and you spend four days in a caravan?"],
        "q17": ["When do Imogen and you fly to Halifax?"],
        "q23": ["At what age does Dad still climb ladders?"],
        "q25": ["When did you begin at the works?"],
        "q29": ["Who can do the lead and the slates of the roof?"],
        "q39": ["Who is your conductor?"],
        "q40": ["What is your cornet?"],
        "q47": ["How many calls does the evening log hold from January to June 2025?"],
    },
    "2": {
        "q37": ["Who took the chair at the meeting?"],
        "q21": ["How much does the watch at night cost a year in wages?"],
        "q23": ["Who checked a sample of 50 jobs by hand?"],
        "q09": ["When does the machine pay for itself?"],
    },
}
"""Hand-written, in other words than the golden questions, each answered by their evidence."""


@pytest.mark.parametrize("user_id", sorted(PARAPHRASES))
def test_a_paraphrase_in_other_words_is_known_by_the_fact_it_asks_for(user_id: str) -> None:
    """By cosine alone "Who is your conductor?" passed for another question than "Who conducts your brass band?"."""
    data = (ROOT / "data" / "golden" / f"{user_id}.yaml").read_bytes()
    golden = parse_golden(data)
    evidence = {item["id"]: item["evidence"] for item in yaml.safe_load(data)["questions"]}
    asked = [Asked(text, evidence[q]) for q, texts in PARAPHRASES[user_id].items() for text in texts]
    close = too_close(asked, golden, MiniLmEmbedder())
    assert [item.question for item, known in zip(asked, close, strict=True) if not known] == []


def test_another_question_about_the_same_sentence_may_be_learnt() -> None:
    """The gate keeps out what is measured, not the memory around it."""
    content = {
        **CONTENT,
        "questions": [{**QUESTION, "question": "Who conducts your brass band?", "expected": ["Brynley Pugh"]}],
    }
    golden = parse_golden(packed(content))
    said = "Our conductor is Brynley Pugh, a retired Welsh pharmacist."
    asked = [
        Asked("What was Brynley Pugh before he retired?", said),  # names the fact
        Asked("Who is your conductor?", "I forgot the name of our conductor."),  # does not give it
        Asked("Where do you buy your bread?", said),  # asks for something else
        Asked("Who is your conductor?", said),
    ]
    assert too_close(asked, golden, MiniLmEmbedder()) == [False, False, False, True]


def test_without_a_golden_set_nothing_is_too_close() -> None:
    assert too_close(elsewhere("What is your cat called?"), None, FakeEmbedder()) == [False]
    assert too_close([], parse_golden(packed(CONTENT)), FakeEmbedder()) == []


def test_what_was_asked_in_teaching_the_skill_is_not_measured() -> None:
    """Seven of 27 unanswerable questions of the demo people stood there too, in these or nearly these words."""
    golden = parse_golden((NOTES.parent.parent / "golden" / "1.yaml").read_bytes())
    kept, left_out = leave_out_taught(golden, taught_questions(), MiniLmEmbedder())
    assert left_out == len(golden.questions) + len(golden.unanswerable) - len(kept.questions) - len(kept.unanswerable) > 0
    assert "How tall are you?" in golden.unanswerable
    assert "How tall are you?" not in kept.unanswerable
    assert kept.questions == golden.questions
    assert leave_out_taught(golden, [], MiniLmEmbedder()) == (golden, 0)
