"""Which processes of a home there are to kill: engines, the API, the daemon, its code server and the runs' own processes.

Belongs here: finding them now.
Does not belong here: choosing one (`killer.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

from chaos.killer import Targets
from lpm_kernel.embedded import engines, orphans
from lpm_kernel.embedded.home import locate_home

DAEMON, API = "dagster-daemon", "api"


def engine_targets(home: Path) -> dict[str, Callable[[], list[int]]]:
    return {name: partial(_heads, home, name) for name in engines.ENGINES}


def home_targets(home: Path) -> Targets:
    """Everything of a home that `twin up` has started."""
    return {
        **engine_targets(home),
        "api": partial(_heads, home, API),
        "daemon": partial(_heads, home, DAEMON),
        "worker": partial(_workers, home),
    }


def _heads(home: Path, name: str) -> list[int]:
    """Of PostgreSQL and the daemon, the one that the others hang on."""
    return [item.pid for item in orphans.heads(_found(home, name))]


def _workers(home: Path) -> list[int]:
    """The processes of runs: the code server starts them by Python's `spawn`."""
    return [item.pid for item in _found(home, DAEMON) if _is_spawned(item.process)]


def _is_spawned(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return any("spawn_main" in word for word in process.cmdline())
    return False


def _found(home: Path, name: str) -> Sequence[orphans.Found]:
    return [item for item in orphans.find(locate_home(home)) if item.name == name]
