"""How soon the API answers after its process was started, and how soon its model is loaded."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from bench.api_process import running_api
from lpm_kernel.stores.open import Stores

STARTS = 5


def run(stores: Stores) -> None:
    """Goal: less than 5 s to the first answer, which needs no model."""
    alive, cpu, ready = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(STARTS):
            with running_api(Path(folder), os.environ) as api:
                alive.append(api.alive_s)
                cpu.append(api.alive_cpu_s)
                ready.append(api.ready_s)
    print(f"  {STARTS} starts of the process; seconds, median and longest")
    print(f"  {'GET /healthz answers':28} {np.median(alive):6.2f} {max(alive):6.2f}   (goal 5)")
    print(f"  {'of them, of the processor':28} {np.median(cpu):6.2f} {max(cpu):6.2f}")
    print(f"  {'GET /readyz is 200':28} {np.median(ready):6.2f} {max(ready):6.2f}")
