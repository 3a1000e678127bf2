"""On which machine something was measured, and how busy others kept it."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def name_machine() -> str:
    """The processor, its cores, and the load of the last minute before the measurement."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    busy = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, load before {busy:.1f}, Python {platform.python_version()}"
