"""Sentences of a user's documents, each with its exact bytes and with the date it was written and tells of.

Belongs here: finding sentences in chunks and dates for them, from the sentence, the headings over it and the file's name.
Does not belong here: which sentences are worth telling (`shades.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import groupby

from lpm_kernel.L0.chunk import text_pieces
from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L1.dates import date_of_title, find_date, first_day
from lpm_kernel.L1.records import DatedBy
from lpm_kernel.records import Citation, Document

TITLE_CHARACTERS = 60  # of a line without a full stop that stands over a paragraph, such as "1 April 2025"
LINE_LEVEL = 7  # of such a line: below every Markdown heading

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_HASHES = re.compile(r"\s*(#{1,6}) ")
_MARK = re.compile(r"\s*(?:[-*+•>]|\d{1,3}[.)])\s+")
_STATEMENT_END = re.compile(r"[.!…][\"”’')\]]*$")
_BEGINS_WELL = re.compile(r"[\"“‘']?[A-Z0-9£$€]")
_UNCLEAR_START = re.compile(
    r"(?:He|She|It|They|That|This|These|Those|His|Her|Its|Their|Which|Who|Then|But|And|So|Or|Both|Afterwards)\b"
)
_SOMEBODY_ELSE = re.compile(r"\b(?:he|she|it|they|him|them|this|these|those)\b", re.IGNORECASE)
_FIRST_PERSON = re.compile(r"\b(?:I|[Mm]y|[Mm]e|[Mm]ine|[Mm]yself|[Ww]e|[Oo]ur|[Uu]s)\b")
MIN_WORDS, MAX_WORDS = 6, 40


@dataclass(frozen=True, slots=True)
class Sentence:
    """`text` is the cited bytes with white space made single."""

    text: str
    citation: Citation
    date: str | None
    dated_by: DatedBy | None
    written: str | None

    @property
    def is_statement(self) -> bool:
        """Whole, and clear without the sentence before it."""
        return (
            MIN_WORDS <= len(self.text.split()) <= MAX_WORDS
            and bool(_STATEMENT_END.search(self.text))
            and bool(_BEGINS_WELL.match(self.text))
            and not _UNCLEAR_START.match(self.text)
            and self.text.count("“") == self.text.count("”")
            and self.text.count('"') % 2 == 0
        )

    @property
    def is_of_oneself(self) -> bool:
        return bool(_FIRST_PERSON.search(self.text))

    @property
    def is_clear(self) -> bool:
        """Names whom and what it is about."""
        return not _SOMEBODY_ELSE.search(self.text)


@dataclass
class _Dateline:
    """The dates of the headings that a sentence stands under; a heading ends those of its own level and below."""

    of_file: str | None = None
    file_dated_by: DatedBy = "filename"
    came_in: date | None = None
    headings: list[tuple[int, str | None]] = field(default_factory=list)

    @classmethod
    def of(cls, filename: str, document: Document | None) -> _Dateline:
        if document and document.source != "upload":
            return cls(document.created_at.date().isoformat(), "sent", document.created_at.date())
        return cls(date_of_title(filename), came_in=document.created_at.date() if document else None)

    @property
    def told(self) -> tuple[str | None, DatedBy]:
        """What the nearest dated heading says, else the file."""
        for _, day in reversed(self.headings):
            if day:
                return day, "heading"
        return self.of_file, self.file_dated_by

    @property
    def written(self) -> str | None:
        """That date, unless the document came in before it: then it is a plan's, and not when it was written."""
        day, _ = self.told
        return day if day and (self.came_in is None or first_day(day) <= self.came_in + timedelta(days=1)) else None

    def enter(self, level: int, title: str) -> None:
        self.headings = [(above, date) for above, date in self.headings if above < level]
        self.headings.append((level, date_of_title(title, self.told[0])))


def read_sentences(items: Sequence[ChunkText], documents: Sequence[Document] = ()) -> Iterator[Sentence]:
    """The sentences of whole documents, chunk by chunk; `items` hold each document's chunks in order. `documents` say when a
    message was sent, and when a file came in: what it dates later than that is a plan.

    Why none across two chunks: a citation names one chunk. Chunks end where sentences do, except within a very long one.
    Why none of fenced code: its comments look like headings and its output like prose, and neither is what the person says.
    """
    by_sha = {document.sha256: document for document in documents}
    for sha256, group in groupby(items, key=lambda item: item.chunk.document_sha256):
        members = list(group)
        dateline = _Dateline.of(members[0].chunk.filename, by_sha.get(sha256))
        in_code = False
        for item in members:
            for start, end, is_heading in text_pieces(item.text):
                fences = len(_FENCE.findall(item.text[start:end]))
                if in_code or fences:
                    in_code ^= fences % 2 == 1
                elif is_heading:
                    hashes = _HASHES.match(item.text, start, end)
                    dateline.enter(len(hashes[1]) if hashes else LINE_LEVEL, item.text[start:end])
                else:
                    start = _after_titles(item.text, start, end, dateline)
                    if item.text[start:end].strip():
                        yield _sentence(item, start, end, dateline)


def whole_chunk(item: ChunkText) -> Sentence:
    """All words of a chunk in which there is no sentence, such as a lone heading."""
    return _sentence(item, 0, len(item.text), _Dateline())


def _after_titles(text: str, start: int, end: int, dateline: _Dateline) -> int:
    """Where the words begin after the list mark and the short lines over them; a dated one is taken up."""
    mark = _MARK.match(text, start, end)
    if mark:
        return mark.end()
    while True:
        start += len(text[start:end]) - len(text[start:end].lstrip())
        line, _, rest = text[start:end].partition("\n")
        is_title = 0 < len(line) <= TITLE_CHARACTERS and line[0].isalnum() and line.rstrip()[-1] not in ".!?,;…"
        if not is_title or (rest.strip() and not (rest.lstrip()[0].isupper() or rest.lstrip()[0].isdigit())):
            return start
        day = date_of_title(line, dateline.told[0])
        if day and len(day) > 4:  # a year alone may be any number
            dateline.enter(LINE_LEVEL, line)
        elif not rest.strip():
            return start
        start += len(line) + 1
        if start >= end:
            return end


def _sentence(item: ChunkText, start: int, end: int, dateline: _Dateline) -> Sentence:
    words = item.text[start:end]
    start += len(words) - len(words.lstrip())
    words = words.strip()
    first = item.chunk.byte_start + len(item.text[:start].encode())
    told, dated_by = dateline.told
    text = " ".join(words.split())
    own = find_date(text, told)
    return Sentence(
        text=text,
        citation=Citation(
            chunk_id=item.chunk.chunk_id,
            document_sha256=item.chunk.document_sha256,
            filename=item.chunk.filename,
            byte_start=first,
            byte_end=first + len(words.encode()),
        ),
        date=own or told,
        dated_by="sentence" if own else dated_by if told else None,
        written=dateline.written,
    )
