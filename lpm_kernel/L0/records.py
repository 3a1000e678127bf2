"""What flows within L0, and to those who send documents.

Belongs here: a record that the first stages exchange with the ways in.
Does not belong here: what later stages read (`lpm_kernel/records.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lpm_kernel.records import Refusal


@dataclass(frozen=True, slots=True)
class UploadResult:
    """What became of one file of an upload."""

    filename: str
    status: Literal["stored", "duplicate", "refused"]
    sha256: str | None
    size_bytes: int
    refusal: Refusal | None = None
