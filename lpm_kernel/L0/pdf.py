"""PDF to text, within bounds: a file that would take for ever, or all memory, is refused by name and stops no other.

Belongs here: starting the process that reads one PDF, and mending what PDFs do to characters.
Does not belong here: the parser (`pdf_child.py`).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lpm_kernel.errors import EngineError, IngestionError
from lpm_kernel.L0 import pdf_child

WALL_PER_CPU = 5
"""A process that waits without working is ended after so many times its processor time."""
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL")
MAX_UNMAPPED_SHARE = 0.1

_UNMAPPED = re.compile(r"\(cid:\d+\)")  # what pdfminer writes for a glyph whose font does not say which character it is


@dataclass(frozen=True, slots=True)
class PdfBounds:
    """What reading one PDF may cost. Units: seconds of processor time, MB of memory, bytes of UTF-8 text."""

    seconds: int
    memory_mb: int
    text_bytes: int


def read_pdf(data: bytes, bounds: PdfBounds | None) -> str:
    """The text of all pages. Without bounds it is read in this process: for files that we made ourselves.

    Raises: IngestionError `pdf_broken`, `pdf_encrypted`, `pdf_too_slow`, `pdf_too_heavy`, `pdf_fonts_unreadable`,
    `reader_failed`; EngineError `pdf_reader_not_started` (retryable).
    """
    if not data.lstrip().startswith(b"%PDF-"):
        raise IngestionError("pdf_broken", "the file is named .pdf but does not begin like a PDF")
    code, words = pdf_child.extract(data) if bounds is None else _extract_apart(data, bounds)
    if code:
        raise IngestionError(code, words)
    return drop_unmapped(whole_characters(words))


def _extract_apart(data: bytes, bounds: PdfBounds) -> tuple[str, str]:
    """Why a process: the parser can loop, and nothing inside Python can stop a thread. It is given no environment of ours."""
    numbers = (bounds.seconds, bounds.memory_mb * 1_000_000, bounds.text_bytes)
    command = [sys.executable, "-I", str(Path(pdf_child.__file__)), *map(str, numbers)]
    environment = {name: value for name in PASSED_ON if (value := os.environ.get(name))}
    too_slow = (
        "pdf_too_slow",
        f"the PDF was not read within {bounds.seconds} s of processor time; export it anew, or split it",
    )
    try:
        ended = subprocess.run(
            command, input=data, capture_output=True, env=environment, timeout=bounds.seconds * WALL_PER_CPU, check=False
        )
    except subprocess.TimeoutExpired:
        waited_s = bounds.seconds * WALL_PER_CPU
        return "pdf_too_slow", f"the PDF was not read within {waited_s} s of waiting; export it anew, or split it"
    except OSError as error:
        # of the machine, not of the file: the run is tried again
        raise EngineError(
            "pdf_reader_not_started", f"no process could be started to read a PDF ({type(error).__name__})", retryable=True
        ) from error
    if ended.returncode == -signal.SIGXCPU:
        return too_slow
    if ended.returncode == -signal.SIGKILL:
        return "pdf_too_heavy", "the reader of the PDF was ended from outside, as a machine does that runs out of memory"
    if ended.returncode > 0:
        return "reader_failed", f"our reader of PDFs ended with {ended.returncode}; a later version may not"
    if ended.returncode != 0:
        return "pdf_broken", f"the reader of the PDF ended with {ended.returncode}; try to save it again"
    code, _, words = ended.stdout.partition(b"\n")
    return code.decode(), words.decode(*pdf_child.UTF_8)


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
