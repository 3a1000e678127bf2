"""PDF files of every sort a person may send, made on the spot.

Belongs here: bytes of sound and unsound PDFs.
Does not belong here: tests.
"""

from __future__ import annotations

import io
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
