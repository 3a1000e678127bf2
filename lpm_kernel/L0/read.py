"""Bytes to text: what a person wrote, out of Markdown, plain text and PDF files.

Belongs here: recognising a file, and the form in which every text is stored.
Does not belong here: encodings (`encodings.py`), PDF (`pdf.py`), limits on count and size (`intake.py`), chunks (`chunk.py`).
"""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import PurePosixPath
from typing import NamedTuple

from lpm_kernel.errors import IngestionError
from lpm_kernel.L0.encodings import decode_text
from lpm_kernel.L0.pdf import PdfBounds, read_pdf
from lpm_kernel.settings import LimitSettings

MIME_OF_EXTENSION = {".md": "text/markdown", ".markdown": "text/markdown", ".txt": "text/plain", ".pdf": "application/pdf"}
PDF = "application/pdf"
READER_VERSION = "2"

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


class ReadText(NamedTuple):
    text: str
    encoding: str | None
    """None for a PDF, which has many."""


def mime_of(filename: str) -> str:
    """Raises: IngestionError `type_unknown`."""
    extension = PurePosixPath(filename.lower()).suffix
    try:
        return MIME_OF_EXTENSION[extension]
    except KeyError:
        known = ", ".join(sorted(MIME_OF_EXTENSION))
        raise IngestionError(
            "type_unknown", f"{filename!r}: files of type {extension or '(none)'!r} are not read; known are {known}"
        ) from None


def reader_fingerprint(limits: LimitSettings) -> str:
    """What a refusal depends on besides the file: a file that one reader refused is tried again by another."""
    packages = (f"{name}-{importlib.metadata.version(name)}" for name in ("pdfminer.six", "chardet"))
    bounds = (f"{limits.pdf_seconds}s", f"{limits.pdf_memory_mb}MB", f"{limits.document_size_mb}MB of text")
    return "/".join((f"v{READER_VERSION}", *packages, *bounds))


def pdf_bounds(limits: LimitSettings) -> PdfBounds:
    return PdfBounds(limits.pdf_seconds, limits.pdf_memory_mb, limits.document_size_mb * 1_000_000)


def read_text(data: bytes, mime: str) -> str:
    """`read_document` for a file of our own: no bounds, and the text alone."""
    return read_document(data, mime, None).text


def read_document(data: bytes, mime: str, bounds: PdfBounds | None) -> ReadText:
    """The text of one file, fit for UTF-8: line ends as "\\n", no byte order mark, no control characters.

    Raises: IngestionError with `document_empty`, `binary_content`, `encoding_unknown`, `no_text`, or those of `read_pdf`.
    None of them can be helped by a retry.
    """
    if not data:
        raise IngestionError("document_empty", "the file has no bytes")
    text, encoding = (read_pdf(data, bounds), None) if mime == PDF else decode_text(data)
    if encoding is not None and len(_CONTROL.findall(text)) > len(text) // 1000:
        raise IngestionError("binary_content", "the file is named as text but holds binary data")
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n"))
    if not text.strip():
        raise IngestionError("no_text", "the file holds no text; a scanned PDF needs text recognition first")
    return ReadText(text, encoding)
