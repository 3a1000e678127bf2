"""The biography: who the person is and what they did last, in their own sentences and nothing else.

Belongs here: choosing lines from shades so that every shade is told, the status, and what is wrong with lines and citations.
Does not belong here: choosing sentences within a shade (`shades.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lpm_kernel.L1.dates import days_between
from lpm_kernel.L1.records import Biography, BiographyLine, Shade
from lpm_kernel.records import Chunk, Citation, Document

STATUS_DAYS = 45
STATUS_LINES = 6


def write_biography(user_id: str, shades: Sequence[Shade]) -> Biography:
    """At least one line a shade, in the order of the shades; the status from what was written last.

    Why no clock: "last" is counted from the newest date in the documents, so equal documents give an equal biography.
    Why never a line of ours: where there is no shade or no date, the reason stands there and nothing is made up.
    """
    lines: list[BiographyLine] = []
    told: set[str] = set()
    for shade in shades:
        fresh = [line for line in shade.lines if line.text not in told] or list(shade.lines[:1])
        told.update(line.text for line in fresh)
        lines.extend(fresh)
    status, as_of = _status(shades)
    no_shade = None if shades else "no shade: the documents give no topic yet; add more or longer ones"
    no_date = None if status else "no sentence of a shade stands under a date, in its document or in the file's name"
    return Biography(user_id, tuple(lines), no_shade, status, as_of, no_shade or no_date)


def _status(shades: Sequence[Shade]) -> tuple[tuple[BiographyLine, ...], str | None]:
    """Of each shade the line written last, newest first, if written within STATUS_DAYS of the newest of all."""
    written = [(event.written, shade, event) for shade in shades for event in shade.timeline if event.written]
    if not written:
        return (), None
    as_of = max(date for date, _, _ in written)
    latest: dict[str, tuple[str, BiographyLine]] = {}
    for date, shade, event in written:
        line = BiographyLine(shade.shade_id, shade.name, event.text, (event.citation,), event.date)
        if days_between(as_of, date) <= STATUS_DAYS and date >= latest.get(shade.shade_id, ("",))[0]:
            latest[shade.shade_id] = (date, line)
    newest = sorted(latest.values(), key=lambda item: item[0], reverse=True)
    return tuple(line for _, line in newest[:STATUS_LINES]), as_of


def find_untold_shades(shades: Sequence[Shade], biography: Biography) -> list[str]:
    """Shades that no line of the biography tells with a citation of one of their own chunks."""
    chunks_of = {shade.shade_id: set(shade.chunk_ids) for shade in shades}
    told = {
        line.shade_id
        for line in biography.lines
        if any(citation.chunk_id in chunks_of.get(line.shade_id, ()) for citation in line.citations)
    }
    return [shade.shade_id for shade in shades if shade.shade_id not in told]


def cited_texts(shades: Sequence[Shade], biography: Biography) -> Iterable[tuple[str, tuple[Citation, ...]]]:
    """Every text of L1 that claims to be the user's words, with its citations."""
    for shade in shades:
        yield from ((line.text, line.citations) for line in shade.lines)
        yield from ((event.text, (event.citation,)) for event in shade.timeline)
    yield from ((line.text, line.citations) for line in (*biography.lines, *biography.status))


def find_foreign(texts: Iterable[tuple[str, tuple[Citation, ...]]], documents: Sequence[Document]) -> list[str]:
    """Citations of documents that the user did not make, as places."""
    own = {document.sha256 for document in documents if document.created_by == "user"}
    places = (place for _, citations in texts for place in citations)
    return [f"{p.filename} [{p.byte_start}, {p.byte_end})" for p in places if p.document_sha256 not in own]


def find_misplaced(
    texts: Iterable[tuple[str, tuple[Citation, ...]]], chunks: Sequence[Chunk], stored: Mapping[str, bytes]
) -> list[str]:
    """Citations without their words: bytes outside the chunk they name, or other words there. Empty means all are right.

    Why it names places and not words: what a check finds is shown to whoever may see runs, and documents are private.
    """
    by_id = {chunk.chunk_id: chunk for chunk in chunks}
    wrong: list[str] = []
    for text, citations in texts:
        if not citations:
            wrong.append("a line without a citation")
        for place in citations:
            chunk = by_id.get(place.chunk_id)
            inside = (
                chunk is not None
                and chunk.document_sha256 == place.document_sha256
                and chunk.byte_start <= place.byte_start < place.byte_end <= chunk.byte_end
            )
            said = stored[place.document_sha256][place.byte_start : place.byte_end] if inside else b""
            if not inside or " ".join(said.decode(errors="replace").split()) != text:
                wrong.append(f"{place.filename} [{place.byte_start}, {place.byte_end})")
    return wrong
