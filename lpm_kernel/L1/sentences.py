"""Sentences of a user's documents, each with its exact bytes and with the date it was written and tells of.

Belongs here: finding sentences in chunks and dates for them, from the sentence, the headings over it and the file's name.
Does not belong here: which sentences are worth telling (`shades.py`).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import accumulate, groupby

from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L0.sentences import TITLE_LEVEL, Heading, read_parts, split_sentences
from lpm_kernel.L1.dates import date_of_title, find_date, first_day
from lpm_kernel.L1.records import DatedBy
from lpm_kernel.records import Citation, Document

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
        day = date_of_title(title, self.told[0])
        if level == TITLE_LEVEL and not (day and len(day) > len("2025")):
            return  # no mark says that it is a heading, and a year alone may be any number
        self.headings = [(above, known) for above, known in self.headings if above < level]
        self.headings.append((level, day))


def read_sentences(items: Sequence[ChunkText], documents: Sequence[Document] = ()) -> Iterator[Sentence]:
    """The sentences of whole documents, without titles and others' words; `items` hold each document's chunks in order.
    `documents` say when a message was sent, and when a file came in: what it dates later than that is a plan.

    Why none across two chunks: a citation names one chunk. Chunks end where sentences do, except within a very long one.
    """
    by_sha = {document.sha256: document for document in documents}
    for sha256, group in groupby(items, key=lambda item: item.chunk.document_sha256):
        members = list(group)
        dateline = _Dateline.of(members[0].chunk.filename, by_sha.get(sha256))
        borders = list(accumulate(len(item.text) for item in members))
        for part in read_parts("".join(item.text for item in members)):
            if isinstance(part, Heading):
                dateline.enter(part.level, part.text)
            elif not (part.is_title or part.is_of_another):
                for position in range(bisect_right(borders, part.start), len(members)):
                    item, first = members[position], borders[position] - len(members[position].text)
                    if first >= part.end:
                        break
                    start, end = max(part.start - first, 0), min(part.end - first, len(item.text))
                    if item.text[start:end].strip():
                        yield _sentence(item, start, end, dateline)


def is_all_of_others(text: str) -> bool:
    """Whether every sentence in it is somebody else's: a quoted mail, a poem in quotation marks."""
    said = split_sentences(text)
    return bool(said) and all(sentence.is_of_another for sentence in said)


def whole_chunk(item: ChunkText) -> Sentence:
    """All words of a chunk in which there is no sentence, such as a lone heading."""
    return _sentence(item, 0, len(item.text), _Dateline())


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
