"""Becomes the program that a specification file describes; run by path, with nothing but the standard library.

Why: supervisord reads commands and environments through an INI file in which quotes, `%`, ` ;` and ` #` have meanings of their
own. With this step a path or a secret may hold any character, and no secret stands on a command line.
Does not belong here: anything that needs a package; it runs without site-packages to start in milliseconds.
"""

from __future__ import annotations

import json
import os
import sys

LOG_BYTES = 20_000_000
BARE = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")


def become(path: str) -> None:
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib alone would double the start time
        specification = json.load(file)
    inherited = (
        dict(os.environ) if specification["inherit_environment"] else {k: os.environ[k] for k in BARE if k in os.environ}
    )
    environment = {**inherited, **specification["environment"]}
    if specification["log"] is not None:
        _write_to(specification["log"])
    os.chdir(specification["directory"])
    command = specification["command"]
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error}")


def _write_to(log: str) -> None:
    if os.path.exists(log) and os.path.getsize(log) > LOG_BYTES:  # noqa: PTH110, PTH202 - as above
        os.replace(log, f"{log}.1")  # noqa: PTH105
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


if __name__ == "__main__":
    become(sys.argv[1])
