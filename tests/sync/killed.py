"""A process that is killed at a chosen moment of its work on a change: `python -m tests.sync.killed MOMENT USER_ID`.

Belongs here: the moments. Addresses come from the environment.
Does not belong here: looking at what is left (`test_killed.py`).
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from lpm_kernel.erase import delete_user
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.open import open_stores
from lpm_kernel.sync.worker import work_changes_of


class Killing:
    """A store whose process ends in one call: `after` it has done its work, or before."""

    def __init__(self, store: Any, call: str, *, after: bool) -> None:
        self._store, self._call, self._after = store, call, after

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)
        if name != self._call:
            return real

        def killing(*arguments: Any, **named: Any) -> Any:
            if self._after:
                real(*arguments, **named)
            os.kill(os.getpid(), signal.SIGKILL)

        return killing


def main(moment: str, user_id: str, adapters: Path) -> None:
    stores = open_stores(load_settings())
    when, _, port = moment.partition(" ")
    calls = {"memories": "add_batch", "vectors": "delete_user", "graph": "delete_user"}
    broken = replace(stores, **{port: Killing(getattr(stores, port), calls[port], after=when == "after")})
    if port == "memories":
        work_changes_of(broken, user_id, targets=("memories",))
    else:
        delete_user(broken, user_id, adapters)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
