"""PDFs in a process of their own: the same text, and a file that would take for ever or all memory is refused by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from lpm_kernel.errors import EngineError, IngestionError
from lpm_kernel.L0 import pdf, pdf_child
from lpm_kernel.L0.pdf import PdfBounds, read_pdf
from lpm_kernel.L0.read import PDF, pdf_bounds, read_document, reader_fingerprint
from lpm_kernel.settings import Settings

from .pdfs import make_identity_pdf, make_pdf, make_stream_pdf

BOUNDS = PdfBounds(seconds=20, memory_mb=1000, text_bytes=1_000_000)


def code_of(data: bytes, bounds: PdfBounds) -> str:
    with pytest.raises(IngestionError) as caught:
        read_pdf(data, bounds)
    assert not caught.value.retryable
    assert caught.value.message
    return caught.value.code


@pytest.mark.parametrize(
    "data",
    [
        make_pdf([f"This is page {i}, and it cost £{i}." for i in range(12)]),
        make_identity_pdf([0x41, 0xD83D, 0xDE00, 0xD801], to_unicode=True, plain="words " * 4),
    ],
    ids=["pages", "halves of characters"],
)
def test_a_process_of_its_own_reads_what_this_one_reads(data: bytes) -> None:
    assert read_pdf(data, BOUNDS) == read_pdf(data, None)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (make_pdf(["secret"], password="open sesame"), "pdf_encrypted"),
        (make_pdf(["cut off"] * 6)[:400], "pdf_broken"),
        (b"<html>", "pdf_broken"),
    ],
)
def test_a_refusal_of_that_process_has_the_same_name(data: bytes, code: str) -> None:
    assert code_of(data, BOUNDS) == code


def test_a_scan_is_refused_for_its_lack_of_text() -> None:
    with pytest.raises(IngestionError) as caught:
        read_document(make_pdf([None, None, None]), PDF, BOUNDS)
    assert caught.value.code == "no_text"


def test_a_pdf_that_never_ends_is_refused(settings: Settings) -> None:
    """Forty million drawing operators lie in 80 kB. Reading had no bound: a worse file would have held its run for ever."""
    endless = make_stream_pdf(b"q Q " * 20_000_000)
    assert len(endless) < settings.limits.document_size_mb * 1_000_000 / 100
    assert code_of(endless, PdfBounds(seconds=2, memory_mb=1000, text_bytes=10**6)) == "pdf_too_slow"


def test_a_pdf_that_unpacks_to_all_memory_is_refused() -> None:
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(b" " * 1_000_000) for _ in range(900)) + packer.flush()
    bomb = make_stream_pdf(packed, compressed=True)
    assert len(bomb) < 1_000_000
    assert code_of(bomb, PdfBounds(seconds=60, memory_mb=500, text_bytes=10**6)) == "pdf_too_heavy"


def test_a_pdf_of_more_text_than_allowed_is_refused() -> None:
    assert code_of(make_pdf(["words and words"] * 20), PdfBounds(seconds=20, memory_mb=1000, text_bytes=100)) == "pdf_too_heavy"


def test_a_process_that_dies_is_a_named_refusal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dying = tmp_path / "dying.py"
    dying.write_text("import os, sys\nsys.stdin.buffer.read()\nos.abort()\n")
    monkeypatch.setattr(pdf_child, "__file__", str(dying))
    assert code_of(make_pdf(["x"]), BOUNDS) == "pdf_broken"


def test_a_process_that_waits_without_working_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    waiting = tmp_path / "waiting.py"
    waiting.write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(pdf_child, "__file__", str(waiting))
    monkeypatch.setattr(pdf, "WALL_PER_CPU", 1)
    assert code_of(make_pdf(["x"]), PdfBounds(seconds=1, memory_mb=1000, text_bytes=10**6)) == "pdf_too_slow"


def test_that_process_is_given_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It reads files of strangers with a parser that had holes before."""
    telling = tmp_path / "telling.py"
    telling.write_text("import os, sys\nsys.stdin.buffer.read()\nprint()\nprint(sorted(os.environ))\n")
    monkeypatch.setattr(pdf_child, "__file__", str(telling))
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "s3cret")
    told = read_pdf(make_pdf(["x"]), BOUNDS)
    assert "PATH" in told
    assert "S3_SECRET_ACCESS_KEY" not in told


def test_that_process_needs_nothing_of_ours() -> None:
    """It is started by its path, from any folder, without the packages of this repository in reach."""
    ended = subprocess.run(
        [sys.executable, "-I", pdf_child.__file__, "20", "1000000000", "1000"],
        input=make_pdf(["Our cat is called Pilchard."]),
        capture_output=True,
        cwd=os.sep,
        env={},
        check=True,
    )
    assert ended.stdout.startswith(b"\nOur cat is called Pilchard.")


@pytest.mark.parametrize("bound", ["pdf_seconds", "pdf_memory_mb", "document_size_mb"])
def test_bounds_come_from_the_settings_and_are_part_of_the_reader(settings: Settings, bound: str) -> None:
    """A raised limit of size never freed a PDF that had unpacked to more text than was allowed."""
    limits = settings.limits
    assert pdf_bounds(limits) == PdfBounds(limits.pdf_seconds, limits.pdf_memory_mb, limits.document_size_mb * 1_000_000)
    raised = limits.model_copy(update={bound: getattr(limits, bound) + 1})
    assert reader_fingerprint(raised) != reader_fingerprint(limits) == reader_fingerprint(limits.model_copy())


@pytest.mark.parametrize(
    ("returncode", "code"),
    [
        (-signal.SIGXCPU, "pdf_too_slow"),
        (-signal.SIGKILL, "pdf_too_heavy"),
        (1, "reader_failed"),
        (-signal.SIGABRT, "pdf_broken"),
    ],
)
def test_how_the_reader_ended_is_not_told_of_the_file(monkeypatch: pytest.MonkeyPatch, returncode: int, code: str) -> None:
    """A reader that could not import its parser told the person to save the file again."""
    ended = subprocess.CompletedProcess([], returncode, b"", b"")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    with pytest.raises(IngestionError) as caught:
        read_pdf(b"%PDF-1.7", PdfBounds(1, 100, 1000))
    assert caught.value.code == code


def test_a_machine_that_starts_no_process_refuses_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise BlockingIOError("no process left")

    monkeypatch.setattr(subprocess, "run", full)
    with pytest.raises(EngineError) as caught:
        read_pdf(b"%PDF-1.7", PdfBounds(1, 100, 1000))
    assert caught.value.retryable
