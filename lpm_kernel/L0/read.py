"""Bytes to text: what a person wrote, out of Markdown, plain text and PDF files.

Belongs here: recognising a file, decoding it, and the named refusal when that cannot be done.
Does not belong here: limits on count and size (`intake.py`) and cutting into chunks (`chunk.py`).
"""

from __future__ import annotations

import codecs
import io
import re
from pathlib import PurePosixPath

from lpm_kernel.errors import IngestionError

MIME_OF_EXTENSION = {".md": "text/markdown", ".markdown": "text/markdown", ".txt": "text/plain", ".pdf": "application/pdf"}

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_UNMAPPED = re.compile(r"\(cid:\d+\)")  # what pdfminer writes for a glyph whose font does not say which character it is
MAX_UNMAPPED_SHARE = 0.1


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


def read_text(data: bytes, mime: str) -> str:
    """The text of one file, fit for UTF-8: line ends as "\\n", no byte order mark, no control characters.

    Raises: IngestionError with `document_empty`, `binary_content`, `encoding_unknown`, `pdf_encrypted`, `pdf_broken`,
    `pdf_fonts_unreadable` or `no_text`. None of them can be helped by a retry.
    """
    if not data:
        raise IngestionError("document_empty", "the file has no bytes")
    text = drop_unmapped(whole_characters(_read_pdf(data))) if mime == "application/pdf" else _decode(data)
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n"))
    if not text.strip():
        raise IngestionError("no_text", "the file holds no text; a scanned PDF needs text recognition first")
    return text


def whole_characters(text: str) -> str:
    """Halves of UTF-16 characters joined to characters; a half alone becomes U+FFFD, for UTF-8 has no form of it."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def drop_unmapped(text: str) -> str:
    """The text of a PDF without the glyphs that stand for no known character, such as the bullets of an old font.

    Raises: IngestionError `pdf_fonts_unreadable` when they are too many: what is left is no text that a person wrote.
    """
    kept, dropped = _UNMAPPED.subn("", text)
    unreadable = dropped + kept.count("\ufffd")
    if unreadable > MAX_UNMAPPED_SHARE * (dropped + sum(not c.isspace() for c in kept)):
        raise IngestionError(
            "pdf_fonts_unreadable",
            f"{unreadable} letters of the PDF do not say which characters they are; export it anew from the program it was "
            "written in, or let text recognition read it",
        )
    return kept


def _decode(data: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError as error:
                raise IngestionError(
                    "encoding_unknown", f"the file begins like {encoding} but is not: {error.reason}"
                ) from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = _decode_by_guess(data)
    if len(_CONTROL.findall(text)) > len(text) // 1000:
        raise IngestionError("binary_content", "the file is named as text but holds binary data")
    return text


def _decode_by_guess(data: bytes) -> str:
    from charset_normalizer import from_bytes

    if b"\x00" in data:
        raise IngestionError("binary_content", "the file is named as text but holds binary data")
    # Asked first alone: among its equals the detector prefers cp1250, which turns "£" into "Ł" and "ñ" into "ń".
    best = from_bytes(data, cp_isolation=["cp1252"]).best()
    if best is None:
        best = from_bytes(data).best()
    if best is None:
        raise IngestionError("encoding_unknown", "the text is not UTF-8 and its encoding cannot be told; save it as UTF-8")
    return str(best)


def _read_pdf(data: bytes) -> str:
    from pdfminer.high_level import extract_text
    from pdfminer.pdfdocument import PDFEncryptionError, PDFPasswordIncorrect

    if not data.lstrip().startswith(b"%PDF-"):
        raise IngestionError("pdf_broken", "the file is named .pdf but does not begin like a PDF")
    try:
        return extract_text(io.BytesIO(data))
    except (PDFPasswordIncorrect, PDFEncryptionError) as error:
        raise IngestionError("pdf_encrypted", "the PDF is protected by a password; upload a copy without one") from error
    except Exception as error:
        # A damaged PDF makes the parser raise almost anything; each of them means the same to the person who sent it.
        raise IngestionError("pdf_broken", f"the PDF cannot be read ({type(error).__name__}); try to save it again") from error
