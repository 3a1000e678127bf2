"""Stored texts to sentences: each with its exact bytes, the heading above it, and what stands in quotation marks.

Belongs here: where a sentence begins and ends.
Does not belong here: chunks (`chunk.py`), parsing (`lpm_kernel/english.py`) and what a sentence says (`voice.py`, ...).
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

from lpm_kernel.L0.blocks import find_blocks
from lpm_kernel.L0.chunk import sentence_ends, text_blocks

MAX_TITLE_CHARACTERS = 45  # a wrapped line of a PDF or a letter is longer
TITLE_LEVEL = 7  # of a short line over others, such as a date: below every Markdown heading

_HASHES = re.compile(r"\s*(#{1,6})[ \t]+([^\n]*)")
_BLOCK_MARK = re.compile(r"\s*(?:(?:[-*+•]|\d{1,3}[.)])[ \t]+)?\s*")
_TITLE_LINE = re.compile(
    rf"\s*(?![-*+•>]|\d+[.)]\s)(?=\w|[“\"])[^\n]{{1,{MAX_TITLE_CHARACTERS}}}?[^\n\s.!?…:;,”\"][ \t]*"
    r"(?:\n(?=[ \t]*[A-Z0-9“‘\"])|\Z)"
)
_OPENING = re.compile(r"[“\"«]")
_CLOSED_BY = {"“": "”", '"': '"', "«": "»"}
_DATED = re.compile(r"\b(?:19|20)\d\d$")  # of a letter or an entry, and not what it is about
_QUOTED_LINE = re.compile(r"\n*(?<![^\n])[ \t]*>[ \t>]*")  # of a letter that is answered, or of a book


@dataclass(frozen=True, slots=True)
class Heading:
    """Level 1 to 6 by its marks, TITLE_LEVEL without."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """Characters [start, end) of a stored text; a list item or a line of a poem without an end mark counts as one."""

    start: int
    end: int
    text: str
    """As it stands, each line break and tab a space, so that offsets inside it are offsets in the stored text."""
    heading: str | None
    """The nearest heading above, without its marks; None before the first."""
    quoted: tuple[tuple[int, int], ...]
    """Character ranges inside `text` between double quotation marks: words that are named or another's."""
    is_title: bool = False
    """A short line without an end mark above others: it reads as a heading, and may be a sentence of a hasty writer."""

    @property
    def is_of_another(self) -> bool:
        """Whether all of it stands in quotation marks or behind the mark of a quoted line."""
        return (0, len(self.text)) in self.quoted

    def is_quoted(self, position: int) -> bool:
        return any(start <= position < end for start, end in self.quoted)


def split_sentences(text: str) -> list[Sentence]:
    """Every sentence of paragraphs and list items, in order; Markdown headings are none.

    Shapes: ranges do not overlap, and `text[start:end]` has no white space around it.
    """
    return [part for part in read_parts(text) if isinstance(part, Sentence)]


def read_parts(text: str) -> Iterator[Heading | Sentence]:
    """Headings and sentences as they follow each other; a title is a sentence first and a heading then.

    Why none of fenced code: its comments look like headings and its output like prose, and neither is what the person says.
    """
    text = without_code(text)
    heading: str | None = None
    last = len(text.rstrip())
    for start, end, is_marked, is_quoted in _blocks(text):
        if is_marked:
            hashes = _HASHES.match(text, start, end)
            if hashes and (words := hashes[2].strip()):
                heading = words
                yield Heading(len(hashes[1]), words)
            continue
        while (
            not is_quoted and (titled := _TITLE_LINE.match(text, start, end)) and titled.end() < last
        ):  # above nothing: no title
            if title := _sentence(text, start, titled.end(), heading, [], is_title=True):
                yield title
                heading = heading if _DATED.search(title.text) else title.text
                yield Heading(TITLE_LEVEL, title.text)
            start = titled.end()
        mark = None if is_quoted else _BLOCK_MARK.match(text, start, end)
        first = mark.end() if mark else start
        quotes = [(start, end)] if is_quoted else find_quotes(text, first, end)
        for stop in sentence_ends(text, first, end) if first < end else ():
            if found := _sentence(text, first, stop, heading, quotes):
                yield found
            first = stop


def find_quotes(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Character ranges between double quotation marks, the marks included; one that is never closed quotes nothing.

    Why not one regular expression: of a page of opening marks each was looked through to the end, for seven seconds a page of
    100,000 and for hours in a file of the size that is allowed.
    """
    found: list[tuple[int, int]] = []
    closed_by = dict(_CLOSED_BY)
    while opening := _OPENING.search(text, start, end):
        mark = closed_by.get(opening[0])
        close = text.find(mark, opening.end(), end) if mark else -1
        start = close + 1 if close >= 0 else opening.end()
        if close >= 0:
            found.append((opening.start(), start))
        else:
            closed_by.pop(opening[0], None)  # nor is any further one
    return found


def without_code(text: str) -> str:
    """Fenced code made blank, each line break in its place, so that offsets stay."""
    pieces: list[str] = []
    done = 0
    for block in find_blocks(text):
        if block.is_code:
            pieces += [text[done : block.start], re.sub(r"[^\n]", " ", text[block.start : block.end])]
            done = block.end
    return "".join([*pieces, text[done:]])


def _sentence(
    text: str, start: int, end: int, heading: str | None, quotes: list[tuple[int, int]], *, is_title: bool = False
) -> Sentence | None:
    words = text[start:end]
    begin, finish = start + len(words) - len(words.lstrip()), start + len(words.rstrip())
    if begin >= finish:
        return None
    # those that end before it are passed over at once: a page may be one block of thousands of sentences, each with its own
    first, last = bisect_right(quotes, begin, key=itemgetter(1)), bisect_left(quotes, finish, key=itemgetter(0))
    inside = ((max(a, begin) - begin, min(b, finish) - begin) for a, b in quotes[first:last])
    plain = re.sub(r"\s", " ", text[begin:finish])
    return Sentence(begin, finish, plain, heading, tuple((a, b) for a, b in inside if a < b), is_title)


def _blocks(text: str) -> Iterator[tuple[int, int, bool, bool]]:
    """(start, end, is a Markdown heading, is quoted) of each block; a line behind ">" is a block without its mark."""
    for start, end, is_heading in text_blocks(text):
        is_quoted, end = False, start + len(text[start:end].rstrip())
        for mark in () if is_heading else _QUOTED_LINE.finditer(text, start, end):
            if mark.start() > start:
                yield start, mark.start(), False, is_quoted
            start, is_quoted = mark.end(), True
        if start < end:
            yield start, end, is_heading, is_quoted
