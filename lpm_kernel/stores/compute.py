"""Compute: where a heavy stage runs. The stage is the same function wherever that is.

Belongs here: the Protocol and its classes; a request and a result are records, so they can cross a network.
Does not belong here: the stages' own work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

Progress = Callable[[float, str], None]
"""Called with the share done (0 to 1) and a few words for a person; never with document text."""


class Compute(Protocol):
    def run(self, stage: str, request: Any, progress: Progress) -> Any:
        """Run one stage to its end and return its record.

        Raises: SettingsError `stage_unknown`; whatever the stage raises.
        """
        ...
