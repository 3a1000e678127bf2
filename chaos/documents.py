"""Mutated documents through the reading of files: each becomes a text whose chunks are its every byte, or is refused by name.

Belongs here: what one file must become, and the tally of many. Needs no engine: the same functions that the assets call.
Does not belong here: the files (`mutate.py`), and the door of the API (`hostile_requests.py`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from chaos.mutate import Mutant
from lpm_kernel.errors import IngestionError, UserInputError
from lpm_kernel.L0.chunk import chunk_document
from lpm_kernel.L0.duplicates import sketch_text
from lpm_kernel.L0.intake import check_filename
from lpm_kernel.L0.pdf import PdfBounds
from lpm_kernel.L0.read import mime_of, read_document
from lpm_kernel.L0.sentences import split_sentences
from lpm_kernel.L0.voice import measure_voice
from lpm_kernel.records import Document, sha256_hex
from lpm_kernel.settings import ChunkingSettings

DATA = Path(__file__).resolve().parent.parent / "data" / "users"
BOUNDS = PdfBounds(seconds=5, memory_mb=400, text_bytes=20_000_000)
"""Tighter than the settings': a file that would use them up shows the same in less time."""
MAX_SECONDS = 60.0
"""For one file, on a machine that does other things: what takes longer would hold up all others of its user."""


@dataclass
class Tally:
    files: int = 0
    read: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    hows: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


def seed_files() -> list[tuple[str, bytes]]:
    """The demo people's documents: sound Markdown, text and PDF."""
    return [(path.name, path.read_bytes()) for path in sorted(DATA.glob("*/*")) if path.is_file()]


def read_mutants(mutants: Iterable[Mutant], chunking: ChunkingSettings, workers: int = 2) -> Tally:
    """Each of them read; what is neither read nor refused by a code stands in `wrong`."""
    tally = Tally()
    with ThreadPoolExecutor(workers) as pool:
        for mutant, (code, wrong, seconds) in pool.map(lambda each: (each, _read(each, chunking)), mutants):
            tally.files += 1
            tally.hows[mutant.how] += 1
            tally.read += not code and not wrong
            if code:
                tally.refused[code] += 1
            tally.wrong += [f"mutant {mutant.number} ({mutant.how}, {mutant.filename!r}): {each}" for each in wrong]
            tally.slowest_s = max(tally.slowest_s, seconds)
    return tally


def _read(mutant: Mutant, chunking: ChunkingSettings) -> tuple[str, list[str], float]:
    began = time.monotonic()
    try:
        code, wrong = "", _wrong_of(mutant, chunking)
    except (IngestionError, UserInputError) as error:
        code, wrong = error.code, [] if error.message else ["a refusal without a reason"]
        if error.code == "reader_failed":
            wrong = [f"our reader failed: {error.message}"]
    except Exception as error:  # whatever it is, the file has crashed the reading
        code, wrong = "", [f"{type(error).__name__}: {error}"[:300]]
    seconds = time.monotonic() - began
    if seconds > MAX_SECONDS:
        wrong = [*wrong, f"took {seconds:.0f} s"]
    return code, wrong, seconds


def _wrong_of(mutant: Mutant, chunking: ChunkingSettings) -> list[str]:
    """What is not as it must be of a file that was read. Raises: the refusals of reading."""
    name = check_filename(mutant.filename)
    mime = mime_of(name)
    text = read_document(mutant.data, mime, BOUNDS).text
    stored = text.encode()  # a lone half of a character would fail here, and in the store
    document = Document(
        "fuzz", sha256_hex(mutant.data), name, mime, len(mutant.data), "upload", "user", datetime(2026, 1, 1, tzinfo=UTC)
    )
    chunks = chunk_document(document, text, chunking)
    wrong = []
    edges = [0, *(chunk.byte_end for chunk in chunks)]
    if edges[-1] != len(stored) or any(chunk.byte_start != edge for chunk, edge in zip(chunks, edges, strict=False)):
        wrong.append("its chunks are not its every byte")
    if any(sha256_hex(stored[chunk.byte_start : chunk.byte_end]) != chunk.text_sha256 for chunk in chunks):
        wrong.append("a chunk is not its bytes")
    if any(text[sentence.start : sentence.end] == "" for sentence in split_sentences(text)):
        wrong.append("a sentence of nothing")
    with suppress(UserInputError):  # too little text for a voice: the stage says so, and goes on
        measure_voice([text])
    sketch_text(document.sha256, text)
    return wrong
