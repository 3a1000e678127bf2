"""As whom PostgreSQL runs: it refuses to run as root, and its initdb needs a user that has a name.

Belongs here: choosing between this user, a user namespace and the account `nobody`, and the command prefix of each.
Does not belong here: anything about databases.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpm_kernel.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMESPACE_CURE = (
    "run as a plain user, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1; in a container: a seccomp "
    "profile that permits `unshare`)"
)


@dataclass(frozen=True, slots=True)
class Account:
    prefix: tuple[str, ...] = ()
    """Put before every command of PostgreSQL. It ends in an exec, so the process id stays the server's own."""
    owner_uid: int | None = None
    """Who must own the data folder; None: whoever runs this."""


def choose_account(data: Path, binary: Path, *, namespaces: Callable[[], bool] | None = None) -> Account:
    """How to run `binary` (postgres) on the folder `data`, which may not exist yet. `namespaces` asks whether they are allowed.

    Why three ways: a user namespace maps root to a harmless account without creating one and without opening any folder, so it
    works under /root; where a container forbids namespaces, root steps down to `nobody`, which must then reach data and
    binaries; a plain user needs neither. The owner of existing data decides, so that it stays readable.
    Raises: EngineError `postgres_account` when none of them works, `postgres_owner` when the data is another user's.
    """
    euid = os.geteuid()
    owner = data.stat().st_uid if data.exists() else None
    if euid != 0 and owner not in (None, euid):
        raise EngineError("postgres_owner", f"{data} belongs to uid {owner}, not to uid {euid}: start as that user")
    if euid != 0 and _has_name(euid):
        return Account()
    if euid == 0 and owner not in (None, 0):
        return _stepped_down(owner, data, binary)
    if (namespaces or namespaces_allowed)():
        return Account(prefix=_namespace())
    if euid == 0:
        return _stepped_down(pwd.getpwnam("nobody").pw_uid if _named("nobody") else None, data, binary)
    raise EngineError("postgres_account", f"uid {euid} has no account and user namespaces are refused: {NAMESPACE_CURE}")


def namespaces_allowed() -> bool:
    """Whether this user may run a command in a user namespace."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*_namespace(), "true"], capture_output=True, check=False).returncode == 0


def nobody_may(test: str, path: Path) -> bool:
    """Whether root, stepped down to `nobody`, passes `test` (as in test(1): -x, -w) on the path."""
    if shutil.which("setpriv") is None or not _named("nobody"):
        return False
    return _passes(_step_down(pwd.getpwnam("nobody").pw_uid), test, path)


def _namespace() -> tuple[str, ...]:
    inside = next(
        (entry.pw_uid for entry in sorted(pwd.getpwall(), key=lambda e: e.pw_name != "nobody") if entry.pw_uid), 65534
    )
    return ("unshare", "--user", f"--map-user={inside}", f"--map-group={inside}", "--")


def _stepped_down(uid: int | None, data: Path, binary: Path) -> Account:
    if uid is None or not _has_name(uid) or shutil.which("setpriv") is None:
        raise EngineError(
            "postgres_account", f"PostgreSQL cannot run as root, and there is no account to use: {NAMESPACE_CURE}"
        )
    prefix = _step_down(uid)
    for folder in _opened_for_passing(data):
        # execute only: others may pass through to the data, not list what lies here
        folder.chmod(folder.stat().st_mode | 0o011)
    for test, path in (("-x", binary), ("-x", data.parent)):
        if not _passes(prefix, test, path):
            raise EngineError(
                "postgres_account",
                f"PostgreSQL cannot run as root, user namespaces are refused, and uid {uid} cannot reach {path}: "
                f"{NAMESPACE_CURE}, or install and set TWIN_HOME outside of root's own folder",
            )
    return Account(prefix, uid)


def _step_down(uid: int) -> tuple[str, ...]:
    return ("setpriv", f"--reuid={uid}", f"--regid={pwd.getpwuid(uid).pw_gid}", "--clear-groups", "--")


def _passes(prefix: tuple[str, ...], test: str, path: Path) -> bool:
    return subprocess.run([*prefix, "test", test, str(path)], capture_output=True, check=False).returncode == 0


def _opened_for_passing(data: Path) -> tuple[Path, ...]:
    """The folders of ours above the data: TWIN_HOME/engines/postgres, TWIN_HOME/engines, TWIN_HOME."""
    return tuple(data.parents[:3])


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _named(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())
