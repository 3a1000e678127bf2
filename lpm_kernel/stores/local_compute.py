"""Compute in this process.

Belongs here: the stages that may run elsewhere, as functions from a request record to a result record.
Does not belong here: what they do (`L2/`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lpm_kernel.errors import SettingsError
from lpm_kernel.settings import ModelSettings
from lpm_kernel.stores.blobs import Blobs
from lpm_kernel.stores.compute import Progress


class LocalCompute:
    """Runs a stage here and now, with the base model of the local cache."""

    def __init__(self, blobs: Blobs, models: ModelSettings, cache_dir: Path | None = None) -> None:
        self._blobs = blobs
        self._models = models
        self._cache_dir = cache_dir

    def run(self, stage: str, request: Any, progress: Progress) -> Any:
        """Raises: SettingsError `stage_unknown`; whatever the stage raises."""
        from lpm_kernel.L2 import stages
        from lpm_kernel.L2.base_model import default_cache_dir, prepare_base

        try:
            work = stages.STAGES[stage]
        except KeyError:
            raise SettingsError("stage_unknown", f"no stage {stage!r}; known are {', '.join(sorted(stages.STAGES))}") from None
        base = prepare_base(self._models, self._cache_dir or default_cache_dir(os.environ), progress)
        return work(request, self._blobs, base, progress)
