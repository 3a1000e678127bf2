"""Tables of an archive: that none of them becomes far more when it is decoded than it is.

Belongs here: that one question, asked in a process of its own (`table_child.py`).
Does not belong here: what a table says; whoever reads it looks at that.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lpm_kernel.archive import table_child
from lpm_kernel.errors import EngineError, UserInputError

MOST_TIMES = 4
"""Of its size that a table may take decoded: vectors hardly pack, and the ids beside them a little."""
FREE_BYTES = 64 * 2**20
"""That any may take."""
WAIT_S = 600.0
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL")


def check_table(path: Path) -> None:
    """Raises: UserInputError `archive_bomb`, `archive_damaged`; EngineError `table_reader_not_started` (retryable)."""
    most_bytes = FREE_BYTES + MOST_TIMES * path.stat().st_size
    command = [sys.executable, "-I", str(Path(table_child.__file__)), str(path), str(most_bytes)]
    environment = {name: value for name in PASSED_ON if (value := os.environ.get(name))}
    try:
        child = subprocess.run(command, capture_output=True, env=environment, timeout=WAIT_S, check=False)
        ended, said, complained = child.returncode, child.stdout, child.stderr
    except subprocess.TimeoutExpired as error:
        ended, said, complained = table_child.TOO_LARGE, error.stdout or b"", b""
    except OSError as error:
        raise _not_started(type(error).__name__) from error
    if table_child.READY not in said:
        raise _not_started(_last_line(complained) or f"it ended with {ended}")
    if ended == table_child.DAMAGED:
        raise UserInputError("archive_damaged", "the archive is damaged: a table in it cannot be read; export it again")
    if ended != table_child.FITS:  # also one that was ended for its memory or time
        raise UserInputError("archive_bomb", f"a table in it becomes more than {MOST_TIMES} times larger when it is read")


def _not_started(reason: str) -> EngineError:
    return EngineError("table_reader_not_started", f"no process could be started to look at a table: {reason}", retryable=True)


def _last_line(complained: bytes) -> str:
    """What Python said when it could not go on: which module is lacking, say. Nothing of the file was read by then."""
    lines = complained.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else ""
