"""Compute in this process.

Belongs here: a stage of `L2/stages.py` with the base model and the blobs of this machine.
Does not belong here: what the stages do (`L2/`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

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
        from lpm_kernel.L2.base_model import default_cache_dir, prepare_base
        from lpm_kernel.L2.stage_calls import find_stage

        work = find_stage(stage)
        base = prepare_base(self._models, self._cache_dir or default_cache_dir(os.environ), progress)
        return work(request, self._blobs, base, progress)
