"""Sentences: their exact bytes, and the dates they stand under."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.L1.sentences import Sentence, read_sentences, whole_chunk
from lpm_kernel.records import sha256_hex
from tests.L0.test_chunk import TEXTS
from tests.samples import make_items

DIARY = """# Diary, February 2025

## Sunday 2 February

Gannet dropped three plates. On 30 January it had dropped two!

## Recipes

- Soup wants
  an onion.

# Later

In 1998 I wore the wrong shoes.
"""
LOG = """MAINTENANCE LOG
Kept by Nora.

1 April 2025
Changed all six nozzles in row three. It took
all night.

7 April 2025
Heron failed.
"""


def dated(filename: str, text: str, max_tokens: int = 24) -> list[tuple[str, str | None, str | None, str | None]]:
    sentences = read_sentences(make_items("1", {filename: text}, max_tokens))
    return [(s.text, s.date, s.dated_by, s.written) for s in sentences]


def test_a_sentence_has_the_date_of_the_nearest_heading_over_it() -> None:
    assert dated("diary-2025-02.md", DIARY) == [
        ("Gannet dropped three plates.", "2025-02-02", "heading", "2025-02-02"),
        ("On 30 January it had dropped two!", "2025-01-30", "sentence", "2025-02-02"),
        ("Soup wants an onion.", "2025-02", "heading", "2025-02"),
        ("In 1998 I wore the wrong shoes.", "1998", "sentence", "2025-02"),
    ]


def test_a_short_line_over_a_paragraph_dates_it_too() -> None:
    assert dated("log-2024.txt", LOG)[-3:] == [
        ("Changed all six nozzles in row three.", "2025-04-01", "heading", "2025-04-01"),
        ("It took all night.", "2025-04-01", "heading", "2025-04-01"),
        ("Heron failed.", "2025-04-07", "heading", "2025-04-07"),
    ]


def test_the_date_in_a_file_name_is_the_last_resort() -> None:
    assert dated("diary-2025-02.md", "I oiled a clock.") == [("I oiled a clock.", "2025-02", "filename", "2025-02")]
    assert dated("clocks.md", "I oiled a clock.") == [("I oiled a clock.", None, None, None)]


def test_fenced_code_is_nobodys_words_and_its_comments_are_no_headings() -> None:
    text = "# 3 May 2025\n\nI ran this.\n\n```bash\n# Built 2026-07-12\n\nIt says Hello World here.\n```\n\nI was glad.\n"
    assert [(words, date) for words, date, *_ in dated("a.md", text)] == [
        ("I ran this.", "2025-05-03"),
        ("I was glad.", "2025-05-03"),
    ]


def test_dates_do_not_run_on_from_one_document_into_the_next() -> None:
    items = make_items("1", {"a.md": "# 3 May 2025\n\nI swam in the sea.", "b.md": "I oiled a clock."})
    assert [sentence.date for sentence in read_sentences(items)] == ["2025-05-03", None]


@given(TEXTS, st.sampled_from([16, 24, 56]))
def test_every_sentence_is_its_bytes_within_its_chunk(text: str, max_tokens: int) -> None:
    items = make_items("1", {"a-2025-02.md": text}, max_tokens)
    stored = text.encode()
    chunks = {item.chunk.chunk_id: item.chunk for item in items}
    found = [*read_sentences(items), *(whole_chunk(item) for item in items)]
    for sentence in found:
        place, chunk = sentence.citation, chunks[sentence.citation.chunk_id]
        assert chunk.byte_start <= place.byte_start <= place.byte_end <= chunk.byte_end
        assert " ".join(stored[place.byte_start : place.byte_end].decode().split()) == sentence.text
        assert place.document_sha256 == sha256_hex(stored)


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("I stayed in for nineteen minutes.", True),
        ("“I don't know yet,” I said at the meeting.", True),
        ("It stayed in for nineteen minutes.", False),
        ("Then I asked what the neighbours had done.", False),
        ("and stayed in for nineteen minutes.", False),
        ("Did I stay in for nineteen minutes?", False),
        ("I said “yes to all of that.", False),
        ("I swam.", False),
    ],
)
def test_a_statement_is_whole_and_clear_alone(text: str, statement: bool) -> None:
    (sentence,) = read_sentences(make_items("1", {"a.md": text}))
    assert isinstance(sentence, Sentence)
    assert sentence.is_statement is statement


def test_a_wrapped_line_before_a_name_is_no_title() -> None:
    """Lines of a PDF are wrapped: the words before a name at a line's start were taken for a title and dropped."""
    text = "For many years and with much pleasure I worked at\nFilbert and Sons and learnt what I know.\n"
    assert [words for words, *_ in dated("a.md", text, 56)] == [" ".join(text.split())]


def test_a_sentence_longer_than_a_chunk_is_told_in_the_parts_that_each_chunk_holds() -> None:
    text = "I like soup " + "and bread " * 60 + "and tea.\n\nI swam."
    sentences = list(read_sentences(make_items("1", {"a.md": text}, 24)))
    assert len(sentences) > 2
    assert " ".join(sentence.text for sentence in sentences) == " ".join(text.split())


def test_the_letter_that_is_answered_is_not_told_as_the_writers_own() -> None:
    """Biographies are in the person's own sentences: "I" behind a quotation mark is somebody else."""
    text = "You wrote to me.\n> I sold my boat last year.\n\n“I never sail again.” I kept mine.\n"
    assert [words for words, *_ in dated("a.md", text, 56)] == ["You wrote to me.", "I kept mine."]
