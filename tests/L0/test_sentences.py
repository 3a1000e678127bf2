"""Sentences: exact places, headings, and what stands in quotation marks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.L0.sentences import split_sentences

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
