"""Blocks of a text that are no prose: fenced code and tables, by their bounds and lines.

Belongs here: where such a block begins and ends in Markdown.
Does not belong here: what becomes of it in a chunk (`chunk.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

_FENCE = re.compile(r"[ \t>]*(`{3,}(?=[^`\n]*$)|~{3,})[^\n]*$")
_CLOSING = re.compile(r"[ \t>]*(`{3,}|~{3,})[ \t]*$")
_DELIMITER_ROW = re.compile(r"[ \t>]*(?=[^\n]*\|)\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")


class Block(NamedTuple):
    """Characters [start, end) of a text; `stops` are the ends of its lines that may be parted, the last of them is `end`.

    An opening fence has the first line of code with it, a closing one the last; a table's head has its first row; blank lines
    stay with the line before them.
    """

    start: int
    end: int
    stops: tuple[int, ...]
    is_code: bool


def find_blocks(text: str) -> Iterator[Block]:
    """Fenced code and tables, in order. Why: "# a comment" in code is no heading, and a table's row needs its head.

    A fence that is never closed goes on to the end of the text, as Markdown has it.
    """
    edges = [*dict.fromkeys((0, *(match.end() for match in re.finditer("\n", text)), len(text)))]
    lines = [text[start:end] for start, end in pairwise(edges)]
    first = 0
    while first < len(lines):
        fence = _FENCE.match(lines[first].rstrip())
        last = _closing_line(lines, first, fence[1]) if fence else _last_row(lines, first)
        if last is None:
            first += 1
            continue
        after = last + 1
        while after < len(lines) and not lines[after].strip():
            after += 1
        inner = range(first + 1, last - 1) if fence else range(first + 2, last)
        stops = [edges[line + 1] for line in inner if lines[line + 1].strip()]
        yield Block(edges[first], edges[after], (*stops, edges[after]), fence is not None)
        first = after


def _closing_line(lines: Sequence[str], first: int, mark: str) -> int:
    for number in range(first + 1, len(lines)):
        closing = _CLOSING.match(lines[number].rstrip())
        if closing and closing[1].startswith(mark):
            return number
    return len(lines) - 1


def _last_row(lines: Sequence[str], first: int) -> int | None:
    """The last line of the table that begins here; None when none does."""
    if "|" not in lines[first] or first + 1 >= len(lines) or not _DELIMITER_ROW.match(lines[first + 1].rstrip()):
        return None
    last = first + 1
    while last + 1 < len(lines) and "|" in lines[last + 1]:
        last += 1
    return last
