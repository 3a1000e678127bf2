"""Compute: where a heavy stage runs. The stage is the same function wherever that is.

Belongs here: the Protocol; a request and a result are records, so they can cross a network (`L2/stage_calls.py`).
Does not belong here: the stages' own work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

Progress = Callable[[float, str], None]
"""Called with the share done (0 to 1) and a few words for a person; never with document text. What it raises ends the stage."""


class Compute(Protocol):
    def run(self, stage: str, request: Any, progress: Progress) -> Any:
        """Run one stage to its end and return its record. An interrupt or an error out of `progress` ends it, wherever it runs.

        Raises: SettingsError `stage_unknown`, before any work; whatever the stage raises, with its code.
        """
        ...
