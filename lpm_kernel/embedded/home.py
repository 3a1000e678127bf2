"""TWIN_HOME: where everything of one set of engines lies, and who may work on it.

Belongs here: the layout of the folder, its permissions, files written whole or not at all, and the lock between two commands.
Does not belong here: what an engine keeps in its folder, and ports and secrets (`state.py`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpm_kernel.errors import EngineError
from lpm_kernel.stores.addresses import CONNECTION_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600


@dataclass(frozen=True, slots=True)
class Home:
    """The layout. `root` is absolute and free of links: it is also the name by which processes of this set are recognised."""

    root: Path

    @property
    def engines(self) -> Path:
        return self.root / "engines"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def supervisor(self) -> Path:
        return self.root / "supervisor"

    @property
    def state_file(self) -> Path:
        return self.engines / "state.json"

    @property
    def connection_file(self) -> Path:
        return self.root / CONNECTION_FILE

    @property
    def lock_file(self) -> Path:
        return self.supervisor / "lock"

    def log_file(self, program: str) -> Path:
        return self.logs / f"{program}.log"


def locate_home(root: Path) -> Home:
    """The layout under `root`; touches nothing."""
    return Home(root.resolve())


def open_home(root: Path) -> Home:
    """Create the folders that are missing, for this user only.

    Idempotent. Raises: EngineError `home_unwritable`.
    """
    home = locate_home(root)
    try:
        for folder in (home.root, home.engines, home.logs, home.supervisor):
            folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(f"no write permission on {folder}")
    except OSError as error:
        raise EngineError(
            "home_unwritable",
            f"cannot keep engines under {home.root}: {error}. Set TWIN_HOME to a folder this user may write",
        ) from error
    return home


def write_whole(path: Path, text: str, mode: int = PRIVATE_FILE) -> None:
    """The file holds all of `text` or what it held before, also after a power cut."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def locked(home: Home, timeout_s: float = 180.0) -> Iterator[None]:
    """One command at a time works on a home; the kernel frees the lock when its holder dies.

    Raises: EngineError `home_busy` (retryable) when another command holds it for longer than `timeout_s`.
    """
    descriptor = os.open(home.lock_file, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    try:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EngineError(
                        "home_busy",
                        f"another command has been starting or stopping the engines under {home.root} for {timeout_s:.0f} s: "
                        "wait for it or end it",
                        retryable=True,
                    ) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)
