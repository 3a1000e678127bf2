"""Preferences: what a sentence says of its writer, what it does not, and exact bytes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.L0 import preferences
from lpm_kernel.L0.preferences import extract_preferences, find_foreign_preferences
from lpm_kernel.L0.read import mime_of, read_text
from lpm_kernel.records import Document, Preference
from lpm_kernel.settings import settings_path
from tests.samples import make_document, make_items

DAYS = ("Mon", "Tues", "Wednes", "Thurs", "Fri", "Satur", "Sun")


def extract(texts: dict[str, str], created_by: dict[str, str] | None = None) -> list[Preference]:
    documents: list[Document] = [
        replace(make_document("1", name, text.encode(), "read"), created_by=(created_by or {}).get(name, "user"))
        for name, text in texts.items()
    ]
    chunks = [item.chunk for item in make_items("1", texts, 24)]
    return extract_preferences(documents, chunks, {d.sha256: texts[d.filename].encode() for d in documents})


def told(text: str) -> tuple[str, str, str] | None:
    found = extract({"notes.md": text})
    return (found[0].kind, found[0].polarity, found[0].domain) if found else None


@pytest.mark.parametrize(
    ("sentence", "kind", "polarity", "domain"),
    [
        ("I prefer trains to planes.", "attitude", "for", "trains"),
        ("I really hate cold coffee.", "attitude", "against", "cold coffee"),
        ("I do not like crowded pubs.", "attitude", "against", "crowded pubs"),
        ("I cannot stand loud music.", "attitude", "against", "loud music"),
        ("I don't mind the rain.", "attitude", "for", "rain"),
        ("I like metal better than plastic.", "attitude", "for", "metal"),
        ("I am fond of old maps.", "attitude", "for", "old maps"),
        ("Long meetings annoy me.", "attitude", "against", "Long meetings"),
        ("I prefer not to watch films.", "attitude", "against", "films"),
        ("I prefer to avoid crowded markets.", "attitude", "against", "crowded markets"),
        ("I have a strong aversion to wasps.", "attitude", "against", "wasps"),
        ("I have no interest in golf.", "attitude", "against", "golf"),
        ("I am not a fan of musicals.", "attitude", "against", "musicals"),
        ("I find airports tedious.", "attitude", "against", "airports"),
        ("I don't eat shellfish.", "rule", "against", "shellfish"),
        ("I only buy second-hand books.", "rule", "for", "second-hand books"),
        ("I want to learn Welsh.", "wish", "for", "Welsh"),
        ("I don't want a bigger car.", "wish", "against", "bigger car"),
        ("I would rather write letters than e-mails.", "choice", "for", "letters"),
        ("I would buy the smaller printer.", "choice", "for", "smaller printer"),
        ("I never drink beer on weekdays.", "rule", "against", "beer"),
        ("I always read the contract first.", "rule", "for", "contract"),
        ("I no longer eat meat.", "rule", "against", "meat"),
        ("On Sundays I bake bread.", "rule", "for", "bread"),
        ("My rule is one coffee a day.", "rule", "for", "one coffee"),
        ("I am against the new car park.", "stance", "against", "new car park"),
        ("I am in favour of longer breaks.", "stance", "for", "longer breaks"),
        ("My favourite season is autumn.", "attitude", "for", "autumn"),
        ("I have always loved old radios.", "attitude", "for", "old radios"),
        ("I've never liked olives.", "attitude", "against", "olives"),
        ("I cannot live without tea.", "attitude", "for", "tea"),
        ("I voted against the budget.", "stance", "against", "budget"),
        ("I abstain on P-14.", "stance", "undecided", "P-14"),
        ("Every contract should be public.", "norm", "for", "contract"),
        ("Nobody should hold two keys.", "norm", "against", "two keys"),
    ],
)
def test_a_sentence_that_takes_a_side_is_read_with_its_side_and_its_thing(
    sentence: str, kind: str, polarity: str, domain: str
) -> None:
    assert told(sentence) == (kind, polarity, domain)


@pytest.mark.parametrize(
    "sentence",
    [
        "She likes old maps.",
        "Tomasz says that I hate meetings.",
        "He said “I love meetings” and sat down.",
        "Do I like meetings?",
        "If I like the play, we can stay.",
        "I hated school.",
        "I thought I would last until Easter.",
        "I have been away for a month.",
        "I would like to thank you for the letter.",
        "In April I would have voted no.",
        "It looks like rain to me.",
        "I do not know the answer.",
        "I have loved somebody.",
        "My favourite shop was the baker's.",
        "I find my keys in the morning.",
        "The bus leaves at nine.",
    ],
)
def test_a_sentence_of_somebody_else_or_of_no_side_is_left_out(sentence: str) -> None:
    assert told(sentence) is None


@pytest.mark.parametrize(
    "words",
    [
        "Songs I love, by year",
        "Things I do not like",
        "Rooms I never enter",
        "Books I would buy again",
        "What I would pay for",
        "What, where and what I would do again.",
        "Manners I want to see everywhere:",
        "I hate the following:",
        "Why I love running",
        "What kind of lamp would I like most",
    ],
)
def test_a_heading_the_words_over_a_list_and_an_unmarked_question_name_no_preference(words: str) -> None:
    """ "Pieces I love, in no order" was among the firmest preferences of a profile: the pieces themselves stood below."""
    assert told(f"{words}\n\n- one\n- two\n") is None
    assert told(f"Before it.\n\n{words}\n\n- one\n- two\n") is None


@pytest.mark.parametrize(
    "sentence",
    [
        "Dogs I like, but cats I hate.",
        "What I love most is the sea.",
        "It is a place I love.",
        "I like soup, which I always eat hot.",
        "On Sundays I bake bread",
        "Every Monday I bake bread",
        "Never would I eat an octopus.",
        "Here is my rule: I never lend books.",
        "I want two safeguards:",
    ],
)
def test_a_sentence_whose_order_is_that_of_a_heading_is_still_a_sentence(sentence: str) -> None:
    assert told(sentence) is not None


def test_a_document_that_the_twin_wrote_says_nothing_of_the_user() -> None:
    """Output of a twin that becomes its own truth would make it drift from the person."""
    texts = {"mine.md": "I love old maps.\n", "reply.md": "I hate old maps.\n"}
    assert [item.text for item in extract(texts, {"reply.md": "twin"})] == ["I love old maps."]


def test_a_preference_without_a_named_thing_goes_by_its_heading_or_its_file() -> None:
    assert told("# Swimming\n\nI love it.\n") == ("attitude", "for", "Swimming")
    assert told("I love it.\n") == ("attitude", "for", "notes")


def test_the_same_words_in_two_documents_are_one_preference() -> None:
    found = extract({"a.md": "I love old maps.\n", "b.md": "Well. I love  old\nmaps.\n"})
    assert [(item.text, item.citation.filename) for item in found] == [("I love old maps.", "a.md")]


def test_a_firmer_word_is_a_firmer_preference() -> None:
    strength = {item.text: item.strength for item in extract({"a.md": "I love tea. I like soup. I really like bread."})}
    assert strength["I love tea."] > strength["I really like bread."] > strength["I like soup."]


@given(st.text(alphabet=st.sampled_from(list("aé😀. \nß")), max_size=60), st.sampled_from(["\n", "\r\n", "\n\n- ", " "]))
def test_a_citation_is_exact_bytes_whatever_stands_around_it(before: str, border: str) -> None:
    text = f"{before}.\n\nI love café{border}life in Gdańsk.\n\n{before}"
    found = [item for item in extract({"notes.md": text}) if "love" in item.text]
    assert len(found) == 1
    place = found[0].citation
    cited = text.encode()[place.byte_start : place.byte_end].decode()
    assert " ".join(cited.split()) == found[0].text
    assert cited.startswith("I love café")


def test_no_name_of_a_demo_person_stands_in_the_rules() -> None:
    """Rules that know the demo would look better on it than on anybody else."""
    users = settings_path({}).absolute().parent / "data" / "users"
    told_there = " ".join(read_text(path.read_bytes(), mime_of(path.name)) for path in users.glob("[12]/*"))
    names = (
        set(re.findall(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b", told_there))
        - {f"{day}day{s}" for day in DAYS for s in ("", "s")}
        - {"English"}
    )
    package = Path(preferences.__file__).parent
    files = [*package.glob("preference*.py"), *(package / f"{name}.py" for name in ("grammar", "voice", "sentences"))]
    words = {file.name: set(re.findall(r"\b[A-Z][a-z]+\b", file.read_text())) & names for file in files}
    assert {name: found for name, found in words.items() if found} == {}


def test_a_preference_that_is_not_at_its_place_is_foreign() -> None:
    texts = {"notes.md": "I love old maps.\n"}
    (item,) = extract(texts)
    document = make_document("1", "notes.md", texts["notes.md"].encode(), "read")
    stored = {document.sha256: texts["notes.md"].encode()}
    assert find_foreign_preferences([item], [document], stored) == []
    moved = replace(item, citation=replace(item.citation, byte_start=1))
    assert find_foreign_preferences([moved], [document], stored) == [item.preference_id]
    assert find_foreign_preferences([item], [replace(document, created_by="twin")], stored) == [item.preference_id]
    assert find_foreign_preferences([item], [], stored) == [item.preference_id]


def test_what_stands_in_code_or_in_a_letter_that_is_answered_is_not_the_writers() -> None:
    text = "```\nI love tabs.\n```\n\n> I hate old maps.\n\nI love old maps.\n"
    assert [item.text for item in extract({"notes.md": text})] == ["I love old maps."]
