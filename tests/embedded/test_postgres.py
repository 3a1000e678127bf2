from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import psutil
import pytest

from lpm_kernel.embedded import postgres
from lpm_kernel.embedded.home import Home, open_home
from lpm_kernel.embedded.state import State
from lpm_kernel.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

STATE = State({"postgres": 15000}, {"postgres_superuser": "word"})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home whose data folder looks made, without the two seconds of initdb."""
    home = open_home(tmp_path / "home")
    postgres.data_folder(home).mkdir(parents=True)
    (postgres.data_folder(home) / "PG_VERSION").write_text("18\n")
    return home


def write_lock(home: Home, pid: int) -> Path:
    lock = postgres.data_folder(home) / "postmaster.pid"
    lock.write_text(f"{pid}\n{lock.parent}\n1795299800\n15000\n\n127.0.0.1\n")
    return lock


@pytest.mark.slow
def test_an_interrupted_initdb_is_begun_anew_and_leaves_no_password_behind(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    draft = postgres.folder(home) / "data.new"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("half")
    postgres.prepare(home, STATE, postgres.find_account(home))
    assert postgres.has_data(home)
    assert (postgres.data_folder(home) / "PG_VERSION").read_text() == "18\n"
    assert [path.name for path in postgres.folder(home).iterdir()] == ["data"]


def test_data_that_is_there_is_never_made_again(home: Home) -> None:
    (postgres.data_folder(home) / "kept").touch()
    postgres.prepare(home, STATE, postgres.find_account(home))
    assert (postgres.data_folder(home) / "kept").exists()


@pytest.mark.slow
def test_a_folder_that_is_not_ours_is_refused_and_kept(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    postgres.data_folder(home).mkdir(parents=True)
    (postgres.data_folder(home) / "letters").touch()
    with pytest.raises(EngineError, match="move it away"):
        postgres.prepare(home, STATE, postgres.find_account(home))
    assert (postgres.data_folder(home) / "letters").exists()


def test_a_lock_file_that_names_a_stranger_is_dropped(home: Home) -> None:
    """After a restart of a container the process id in postmaster.pid is somebody else's, and PostgreSQL believes in it."""
    lock = write_lock(home, os.getpid())
    postgres.prepare(home, STATE, postgres.find_account(home))
    assert not lock.exists()


def test_a_lock_file_of_a_zombie_is_dropped(home: Home) -> None:
    """A killed postmaster whose parent does not reap it keeps its number for ever, and PostgreSQL takes it for alive."""
    with subprocess.Popen(["true"], cwd=postgres.data_folder(home)) as dead:
        while psutil.Process(dead.pid).status() != psutil.STATUS_ZOMBIE:
            pass
        lock = write_lock(home, dead.pid)
        postgres.prepare(home, STATE, postgres.find_account(home))
        assert not lock.exists()


def test_a_lock_file_of_a_server_on_this_very_folder_is_respected(home: Home) -> None:
    with subprocess.Popen(["sleep", "60"], cwd=postgres.data_folder(home)) as alive:
        lock = write_lock(home, alive.pid)
        with pytest.raises(EngineError) as raised:
            postgres.prepare(home, STATE, postgres.find_account(home))
        alive.kill()
    assert raised.value.code == "postgres_running"
    assert lock.exists()
