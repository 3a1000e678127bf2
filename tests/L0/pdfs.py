"""PDF files of every sort a person may send, made on the spot.

Belongs here: bytes of sound and unsound PDFs.
Does not belong here: tests.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence

from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas


def make_pdf(pages: Sequence[str | None], *, password: str | None = None, key_bits: int = 128) -> bytes:
    """One line of text a page; None is a page with a drawing and no text, as a scan without recognition."""
    encryption = None if password is None else StandardEncryption(password, "owner's password", strength=key_bits)
    buffer = io.BytesIO()
    canvas = Canvas(buffer, encrypt=encryption, invariant=1)
    for line in pages:
        if line is None:
            canvas.rect(50, 50, 400, 600, fill=1)
        else:
            canvas.drawString(72, 720, line)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def make_identity_pdf(codes: Sequence[int], *, to_unicode: bool, plain: str = "") -> bytes:
    """A page whose glyphs are numbers: `/ToUnicode /Identity-H` says each is its own code point; without it nobody knows.

    `plain` is a line in a font that every reader knows.
    """
    shown = "".join(f"{code:04x}" for code in codes)
    content = f"BT /F1 12 Tf 72 720 Td <{shown}> Tj ET BT /F2 12 Tf 72 600 Td ({plain}) Tj ET"
    mapping = "/ToUnicode /Identity-H " if to_unicode else ""
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        "/Resources << /Font << /F1 5 0 R /F2 8 0 R >> >> >>",
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        f"<< /Type /Font /Subtype /Type0 /BaseFont /Odd /Encoding /Identity-H {mapping}/DescendantFonts [6 0 R] >>",
        "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Odd /FontDescriptor 7 0 R "
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> >>",
        "<< /Type /FontDescriptor /FontName /Odd /Flags 4 /FontBBox [0 0 1000 1000] /Ascent 800 /Descent -200 "
        "/CapHeight 700 /StemV 80 /ItalicAngle 0 >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    return _assemble([body.encode() for body in objects])


def make_stream_pdf(content: bytes, *, compressed: bool = False) -> bytes:
    """One page with these drawing operators, packed; `compressed`: they are packed already."""
    packed = content if compressed else zlib.compress(content, 9)
    return _assemble(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << >> >>",
            b"<< /Length %d /Filter /FlateDecode >>\nstream\n%b\nendstream" % (len(packed), packed),
        ]
    )


def _assemble(objects: Sequence[bytes]) -> bytes:
    pdf, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(pdf))
        pdf += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\n"
    return pdf + f"{end}startxref\n{len(pdf)}\n%%EOF\n".encode()
