"""Chunks: every byte once, in order, cut where the text itself has a border."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.L0.blocks import find_blocks
from lpm_kernel.L0.chunk import chunk_document, chunker_fingerprint, count_tokens, split_spans
from lpm_kernel.records import sha256_hex
from lpm_kernel.settings import ChunkingSettings
from tests.samples import make_document

LIMIT = ChunkingSettings(max_tokens=24)

WORDS = st.sampled_from(
    ["cat", "Row C", "£184,000", "naïve", "猫が好き", "😀👩‍👩‍👧", "Dr.", "e.g.", "x" * 90, "http://a.b/c?d=e", "2026-01-02"]
)
ENDS = st.sampled_from(
    [
        " ",
        "  ",
        ". ",
        "! ",
        "?” ",
        "\n",
        "\n\n",
        "\n \t\n",
        "\n- ",
        "\n3. ",
        "\n## ",
        "\n# A\n\n## B\n",
        "… ",
        "\n```\n",
        "\n| a | b |\n|---|---|\n",
        "\r",
    ]
)
PROSE = st.lists(st.tuples(WORDS, ENDS), max_size=60).map(lambda parts: "".join(word + end for word, end in parts))
TEXTS = st.one_of(st.text(max_size=400), PROSE)


def pieces_of(text: str, max_tokens: int = LIMIT.max_tokens) -> list[str]:
    return [text[start:end] for start, end in split_spans(text, max_tokens)]


@given(TEXTS, st.sampled_from([16, 24, 56]))
def test_spans_follow_each_other_from_the_first_character_to_the_last(text: str, max_tokens: int) -> None:
    spans = split_spans(text, max_tokens)
    edges = [0, *(end for _, end in spans)]
    assert spans == list(pairwise(edges))
    assert edges[-1] == len(text)
    assert all(start < end for start, end in spans)


@given(TEXTS, st.sampled_from([16, 24, 56]))
def test_no_span_has_more_tokens_than_allowed(text: str, max_tokens: int) -> None:
    assert all(count_tokens(piece) <= max_tokens for piece in pieces_of(text, max_tokens))


@given(TEXTS)
def test_byte_ranges_decode_to_the_text_exactly(text: str) -> None:
    data = text.encode()
    document = make_document("1", content=data)
    chunks = chunk_document(document, text, LIMIT)
    parts = [data[chunk.byte_start : chunk.byte_end] for chunk in chunks]
    assert b"".join(parts) == data
    assert "".join(part.decode() for part in parts) == text
    assert [chunk.byte_start for chunk in chunks] == [0, *(chunk.byte_end for chunk in chunks)][: len(chunks)]
    for index, (chunk, part) in enumerate(zip(chunks, parts, strict=True)):
        assert chunk.chunk_index == index
        assert chunk.text_sha256 == sha256_hex(part)
        assert chunk.tokens == count_tokens(part.decode()) <= LIMIT.max_tokens
    assert chunks == chunk_document(document, text, LIMIT)
    assert len({chunk.chunk_id for chunk in chunks}) == len(chunks)


def test_an_empty_text_has_no_chunks() -> None:
    assert chunk_document(make_document("1"), "", LIMIT) == []


def test_special_tokens_in_a_text_are_plain_characters() -> None:
    text = "before <|endoftext|> after"
    assert pieces_of(text) == [text]
    assert count_tokens("<|endoftext|>") > 1


def test_an_id_is_of_user_document_and_rules() -> None:
    document, text = make_document("1"), "Our cat is called Pilchard. " * 20
    ids = [
        {chunk.chunk_id for chunk in chunk_document(changed, text, chunking)}
        for changed, chunking in (
            (document, LIMIT),
            (replace(document, user_id="2"), LIMIT),
            (replace(document, sha256=sha256_hex(b"other")), LIMIT),
            (document, ChunkingSettings(max_tokens=25)),
        )
    ]
    assert len(set.union(*ids)) == sum(map(len, ids))
    assert chunker_fingerprint(LIMIT) != chunker_fingerprint(ChunkingSettings(max_tokens=25))
    renamed = chunk_document(replace(document, filename="renamed.md"), text, LIMIT)
    assert {chunk.chunk_id for chunk in renamed} == ids[0]


def test_a_heading_stays_with_the_words_under_it() -> None:
    text = "A first paragraph that is long enough to stand alone.\n\n## Sunday 4 May\n\nThe tooth cost £265.\n"
    assert pieces_of(text) == [text[: text.index("##")], text[text.index("##") :]]


def test_a_heading_stays_with_the_first_words_of_a_sentence_that_is_too_long_beside_it() -> None:
    """The heading became a chunk of its own: a date that answers nothing, and an entry that lost its date."""
    sentence = " ".join(f"word{i}" for i in range(10)) + " end. "
    text = f"## 9 February 2025, at home\n\n{sentence}"
    assert count_tokens(sentence) <= LIMIT.max_tokens < count_tokens(text)
    first, *rest = pieces_of(text)
    assert first.startswith("## 9 February 2025, at home\n\nword0 word1")
    assert rest


@given(
    st.lists(
        st.sampled_from(["# A\n\n", "## Sunday\n", "Short. ", "A sentence of some more words than that. ", "One.\n\n"]),
        max_size=30,
    )
)
def test_no_chunk_is_of_headings_alone_when_words_follow(parts: list[str]) -> None:
    text = "".join(parts)
    for piece, after in pairwise(pieces_of(text)):
        lines = [line for line in piece.splitlines() if line.strip()]
        assert not all(line.startswith("#") for line in lines) or after.startswith("#")


def test_a_new_heading_begins_a_new_chunk() -> None:
    text = "# One\n\nShort.\n\n# Two\n\nShort too.\n"
    assert pieces_of(text) == ["# One\n\nShort.\n\n", "# Two\n\nShort too.\n"]


def test_headings_under_each_other_stay_together() -> None:
    text = "# Diary, May 2025\n\n## Sunday 4 May\n\nI have changed my mind.\n"
    assert pieces_of(text) == [text]


def test_sentences_are_packed_while_they_fit_and_never_parted() -> None:
    sentences = [f"The cat number {i} sleeps on the bench. " for i in range(12)]
    pieces = pieces_of("".join(sentences))
    assert 1 < len(pieces) < len(sentences)
    assert all(piece.endswith("bench. ") for piece in pieces)


@pytest.mark.parametrize(
    "sentence",
    [
        "We met Mr. Pemberton and Mrs. Lark at St. George with Dr. Mbeki. ",
        "He wrote No. 5 and Fig. 2 and Nos. 7, approx. £20, ca. 1920, p. 12. ",
        "It was J. S. Bach who wrote it, e.g. The Art of Fugue. ",
    ],
)
def test_an_abbreviation_does_not_end_a_sentence(sentence: str) -> None:
    tokens = count_tokens(sentence)
    filler = "word " * (40 - tokens + 2) + "end. "
    assert tokens < 40 < count_tokens(filler + sentence)
    assert pieces_of(filler + sentence, 40) == [filler, sentence]


@pytest.mark.parametrize("end", [". ", "! ", "? ", "… ", ".” ", '." ', ".\n", ".) "])
@pytest.mark.parametrize("start", ["The", "“The", "£5", "7", "(A"])
def test_a_sentence_ends_before_what_can_begin_one(end: str, start: str) -> None:
    first, second = (
        "one two three four five six seven eight nine ten eleven" + end,
        start + " other words that go on and on for a while. ",
    )
    assert pieces_of(first + second, 20) == [first, second]


def test_list_items_are_borders() -> None:
    items = [f"- item {i} with some words that make it long enough to matter\n" for i in range(6)]
    assert all(piece.startswith("- ") and piece.endswith("\n") for piece in pieces_of("".join(items)))


CODE = "```python\n# no heading\nfor cat in cats:\n\n    print(cat)\n```\n"
TABLE = "| Month | Jobs |\n|---|---|\n| May | 455 |\n| June | 498 |\n"


@pytest.mark.parametrize("block", [CODE, TABLE, CODE.replace("`", "~"), CODE.replace("```", "````")])
def test_code_and_tables_are_whole_where_they_fit(block: str) -> None:
    """A comment in code was taken for a heading, and a table was cut wherever the limit fell, away from its head."""
    text = f"Some words before it that leave little room.\n\n{block}\nAnd words behind it, of a new paragraph.\n"
    limit = count_tokens(block) + 2
    assert count_tokens(text) > limit
    assert any(block.strip() in piece for piece in pieces_of(text, limit))


def test_long_code_is_parted_between_its_lines_and_keeps_its_fence() -> None:
    code = "".join(f"    line_{i} = call({i})\n" for i in range(20))
    pieces = pieces_of(f"```python\n{code}```\n")
    assert len(pieces) > 2
    assert pieces[0].startswith("```python\n    line_0")
    assert all(piece.endswith(("\n", "```\n")) and piece.strip("`\npytho") for piece in pieces)
    assert "line_19" in pieces[-1]
    assert pieces[-1].endswith("```\n")


def test_a_long_table_is_parted_between_its_rows_and_its_head_has_a_row() -> None:
    rows = "".join(f"| month {i} | {i} jobs |\n" for i in range(20))
    pieces = pieces_of(f"| Month | Jobs |\n|---|---|\n{rows}")
    assert "| month 0 |" in pieces[0]
    assert all(piece.startswith("|") and piece.endswith("|\n") for piece in pieces)


def test_a_fence_that_is_never_closed_is_code_to_the_end() -> None:
    code = "```\n# one\n# two\n# three\n"
    assert pieces_of(f"Words.\n\n{code}")[-1].endswith(code)


@pytest.mark.parametrize(
    "text",
    [
        "a | b\nno table\n",
        "```one line``` and words\n\n# A heading\n",
        "|\n",
        "|---|\n|---|\n",
        "```",
        "```\n",
        "~~~\n~~~",
        "> ```\n> x\n> ```\n",
    ],
)
def test_what_looks_like_a_block_loses_nothing(text: str) -> None:
    for limit in (16, 56):
        assert "".join(pieces_of(text, limit)) == text
    blocks = list(find_blocks(text))
    assert all(block.start < block.stops[0] and block.stops[-1] == block.end for block in blocks)


@given(
    st.lists(
        st.sampled_from(["```", "~~~", "````", "| a | b |", "|---|---|", "words", "", "# x", "> ```", "  - y"]), max_size=14
    )
)
def test_blocks_follow_each_other_and_their_lines_rise(lines: list[str]) -> None:
    text = "\n".join(lines)
    edge = 0
    for block in find_blocks(text):
        assert edge <= block.start < block.end
        assert list(block.stops) == sorted(set(block.stops))
        assert block.start < block.stops[0]
        assert block.stops[-1] == (edge := block.end)
    assert "".join(pieces_of(text, 16)) == text


@pytest.mark.parametrize("text", ["x" * 9000, "猫" * 4000, "😀" * 2000, "a b" * 5000, "\n" * 9000, " " * 9000, "́" * 3000])
def test_degenerate_text_stays_within_the_largest_limit(text: str) -> None:
    """Counting such a word takes the tokenizer time that grows faster than its length; the cut must not multiply it."""
    pieces = pieces_of(text, 2000)
    assert "".join(pieces) == text
    assert max(map(count_tokens, pieces)) <= 2000


OFFLINE = """
import socket
def refused(*arguments, **named):
    raise OSError("no network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused
from lpm_kernel.L0.chunk import count_tokens
print(count_tokens("Our cat is called Pilchard."))
"""


def test_tokens_are_counted_without_a_network_and_without_a_cache(tmp_path: Path) -> None:
    """tiktoken itself downloads its table at first use: a machine of its own would not have cut one document."""
    environment = {
        **os.environ,
        "TIKTOKEN_CACHE_DIR": str(tmp_path),
        "DATA_GYM_CACHE_DIR": str(tmp_path),
        "TMPDIR": str(tmp_path),
    }
    ended = subprocess.run([sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout == f"{count_tokens('Our cat is called Pilchard.')}\n"


def test_what_is_too_long_alone_is_cut_after_white_space() -> None:
    text = "word " * 200
    pieces = pieces_of(text)
    assert all(piece.endswith("word ") and piece.startswith("word ") for piece in pieces)
    assert len(pieces) == -(-count_tokens(text) // LIMIT.max_tokens)
    assert len(pieces_of("x1" * 300)) > 1


def test_a_long_file_without_sentences_takes_no_time_out_of_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of 200 kB without a full stop took three minutes: each cut counted the tokens of all the rest."""
    counted = 0

    def count(text: str) -> int:
        nonlocal counted
        counted += len(text)
        return len(text) // 4 + 1

    monkeypatch.setattr("lpm_kernel.L0.chunk.count_tokens", count)
    text = "2026-01-02 10:11:12 INFO machine row C temp 51 ok\n" * 400
    assert "".join(pieces_of(text)) == text
    assert counted < 60 * len(text)
