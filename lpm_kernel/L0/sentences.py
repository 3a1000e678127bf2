"""Stored texts to sentences: each with its exact bytes, the heading above it, and what stands in quotation marks.

Belongs here: where a sentence begins and ends.
Does not belong here: chunks (`chunk.py`), parsing (`lpm_kernel/english.py`) and what a sentence says (`voice.py`, ...).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lpm_kernel.L0.chunk import sentence_ends

MAX_TITLE_CHARACTERS = 45  # a wrapped line of a PDF or a letter is longer

_BLOCK_END = re.compile(r"\n[ \t]*\n\s*|\n(?=[ \t]*(?:(?:[-*+•>]|\d+[.)])[ \t]|#{1,6} ))")
_HEADING = re.compile(r"[ \t]*#{1,6}[ \t]+([^\n]*)")
_BLOCK_MARK = re.compile(r"\s*(?:(?:[-*+•>]|\d+[.)])[ \t]+)?\s*")
_TITLE_LINE = re.compile(
    rf"\s*(?=[^\W\d_]|[“\"])[^\n]{{1,{MAX_TITLE_CHARACTERS}}}?[^\n\s.!?…:;,”\"][ \t]*(?:\n(?=[ \t]*[A-Z“‘\"])|\Z)"
)
_QUOTED = re.compile(r"“[^”]*”|\"[^\"]*\"|«[^»]*»")


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

    def is_quoted(self, position: int) -> bool:
        return any(start <= position < end for start, end in self.quoted)


def split_sentences(text: str) -> list[Sentence]:
    """Every sentence of paragraphs and list items, in order; Markdown headings are none.

    Shapes: ranges do not overlap, and `text[start:end]` has no white space around it.
    """
    return list(_sentences(text))


def _sentences(text: str) -> Iterator[Sentence]:
    heading: str | None = None
    last = len(text.rstrip())
    for start, end in _blocks(text):
        if marked := _HEADING.fullmatch(text, start, end):
            heading = marked.group(1).strip() or heading
            continue
        titled = _TITLE_LINE.match(text, start, end)
        if titled and titled.end() < last:  # above nothing it is no title
            title = _sentence(text, start, titled.end(), heading, [], is_title=True)
            if title:
                yield title
                heading = title.text
            start = titled.end()
        mark = _BLOCK_MARK.match(text, start, end)
        first = mark.end() if mark else start
        quotes = [match.span() for match in _QUOTED.finditer(text, first, end)]
        for stop in sentence_ends(text, first, end) if first < end else ():
            if found := _sentence(text, first, stop, heading, quotes):
                yield found
            first = stop


def _sentence(
    text: str, start: int, end: int, heading: str | None, quotes: list[tuple[int, int]], *, is_title: bool = False
) -> Sentence | None:
    words = text[start:end]
    begin, finish = start + len(words) - len(words.lstrip()), start + len(words.rstrip())
    if begin >= finish:
        return None
    inside = ((max(a, begin) - begin, min(b, finish) - begin) for a, b in quotes)
    plain = re.sub(r"\s", " ", text[begin:finish])
    return Sentence(begin, finish, plain, heading, tuple((a, b) for a, b in inside if a < b), is_title)


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Headings, paragraphs and list items."""
    start = 0
    for border in _BLOCK_END.finditer(text):
        if border.end() > start:
            yield from _without_heading(text, start, border.start())
            start = border.end()
    yield from _without_heading(text, start, len(text))


def _without_heading(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A heading's line ends its block, whether or not a blank line follows."""
    marked = _HEADING.match(text, start, end)
    if marked:
        yield start, marked.end()
        start = marked.end()
    if start < end:
        yield start, end
