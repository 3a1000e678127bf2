"""Sentences: exact places, headings, and what stands in quotation marks."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.L0.sentences import TITLE_LEVEL, Heading, find_quotes, read_parts, split_sentences, without_code

NOTES = """# Food

I like soup. Dr. Osei said “I hate soup. It is wet.” and left!

Weekly shop
I never go on a Saturday,
since it is full.
- oats, the big bag
- tea
## Band
No 4 is over
"""


def test_paragraphs_and_list_items_become_sentences_and_headings_stay_above_them() -> None:
    found = [(sentence.heading, sentence.text) for sentence in split_sentences(NOTES)]
    assert found == [
        ("Food", "I like soup."),
        ("Food", "Dr. Osei said “I hate soup."),
        ("Food", "It is wet.” and left!"),
        ("Food", "Weekly shop"),
        ("Weekly shop", "I never go on a Saturday, since it is full."),
        ("Weekly shop", "oats, the big bag"),
        ("Weekly shop", "tea"),
        ("Band", "No 4 is over"),
    ]
    assert [sentence.text for sentence in split_sentences(NOTES) if sentence.is_title] == ["Weekly shop"]


def test_quotation_marks_reach_over_the_end_of_a_sentence() -> None:
    quoted = {sentence.text: sentence for sentence in split_sentences(NOTES) if sentence.quoted}
    assert set(quoted) == {"Dr. Osei said “I hate soup.", "It is wet.” and left!"}
    first = quoted["Dr. Osei said “I hate soup."]
    assert first.is_quoted(first.text.index("hate"))
    assert not first.is_quoted(first.text.index("said"))


@given(st.text(alphabet=st.sampled_from(list('aB .!?\n\t-#“”"1)é😀•\r')), max_size=200))
def test_every_sentence_is_the_text_at_its_place_and_none_overlap(text: str) -> None:
    end = 0
    for sentence in split_sentences(text):
        place = text[sentence.start : sentence.end]
        assert sentence.start >= end
        assert place == place.strip() != ""
        assert place.split() == sentence.text.split()
        assert len(place) == len(sentence.text)
        assert all(0 <= a < b <= len(place) for a, b in sentence.quoted)
        end = sentence.end


def test_no_word_outside_headings_is_lost() -> None:
    kept = " ".join(sentence.text for sentence in split_sentences(NOTES)).split()
    assert kept == [word for word in NOTES.replace("# Food", "").replace("## Band", "").split() if word not in ("-", "#")]


def texts_of(text: str) -> list[str]:
    return [sentence.text for sentence in split_sentences(text)]


def test_fenced_code_is_nobodys_words_and_its_comments_are_no_headings() -> None:
    """Voice counted a pasted script as the person's manner, and its comments named what preferences were about."""
    text = "# Logs\n\nI ran this.\n\n```bash\n# I love tabs\necho I hate spaces.\n```\n\nI like it.\n\n~~~\nI never end."
    assert [(sentence.heading, sentence.text) for sentence in split_sentences(text)] == [
        ("Logs", "I ran this."),
        ("Logs", "I like it."),
    ]
    assert texts_of("```x``` is short.\n\nI like it.") == ["```x``` is short.", "I like it."]


@given(st.text(alphabet=st.sampled_from(list("a`~\n #.A")), max_size=80))
def test_code_made_blank_moves_nothing(text: str) -> None:
    blank = without_code(text)
    assert len(blank) == len(text)
    assert all(a in (b, " ") for a, b in zip(blank, text, strict=True))
    assert blank.count("\n") == text.count("\n")


def test_lines_behind_a_mark_are_quoted_whole() -> None:
    """The letter that is answered, in an e-mail, was read as the words of the one who answers."""
    found = split_sentences("You wrote:\n> I love meetings. They are\n> > long.\n\nI do not.")
    assert [sentence.text for sentence in found if not sentence.quoted] == ["You wrote:", "I do not."]
    assert [sentence.text for sentence in found if sentence.quoted] == ["I love meetings.", "They are", "long."]
    assert all(s.is_quoted(i) for s in found if s.quoted for i in range(len(s.text)))


def test_each_short_line_over_a_text_is_a_title_and_a_date_is_not_what_it_is_about() -> None:
    found = split_sentences("Repair log\nFriday 3 May 2024\nThe big clock\nI oiled it.\n")
    assert [sentence.text for sentence in found if sentence.is_title] == ["Repair log", "Friday 3 May 2024", "The big clock"]
    assert [sentence.heading for sentence in found] == [None, "Repair log", "Repair log", "The big clock"]


def test_headings_come_with_their_level_between_the_sentences() -> None:
    parts = list(read_parts("# Food\nI like soup.\n### Tea\nShopping\nOats and tea.\n"))
    assert [(part.level, part.text) for part in parts if isinstance(part, Heading)] == [
        (1, "Food"),
        (3, "Tea"),
        (TITLE_LEVEL, "Shopping"),
    ]


@pytest.mark.parametrize("fence", ["````", "``````", "~~~~"])
def test_a_longer_fence_holds_shorter_ones(fence: str) -> None:
    """Of code about code the inner fence closed the outer one, and "I love tabs." became a preference of the writer."""
    text = f"I keep bees.\n\n{fence}md\n```\nI love tabs.\n```\nI hate spaces.\n{fence}\n"
    assert [sentence.text for sentence in split_sentences(text)] == ["I keep bees."]


@given(st.text(alphabet='“”"«»ab ', max_size=40), st.data())
def test_quotes_run_from_a_mark_to_the_first_that_closes_it(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    plain = re.compile(r"“[^”]*”|\"[^\"]*\"|«[^»]*»")
    assert find_quotes(text, start, end) == [match.span() for match in plain.finditer(text, start, end)]


@pytest.mark.parametrize("unit", ["“", '"a". ', "“a.” ", "«"])
def test_a_page_of_quotation_marks_takes_no_longer_than_any_page(unit: str) -> None:
    """Each opening mark was looked through to the end: seven seconds for 100,000 of them, hours for the largest file."""
    began = time.process_time()
    split_sentences(unit * (300_000 // len(unit)))
    assert time.process_time() - began < 20
