from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from lpm_kernel.embedded.home import locate_home, locked, open_home, write_whole
from lpm_kernel.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_home_is_private_to_its_user(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    for folder in (home.root, home.engines, home.logs, home.supervisor):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_opening_a_home_twice_changes_nothing(tmp_path: Path) -> None:
    first = open_home(tmp_path / "home")
    (first.engines / "kept").touch()
    assert open_home(tmp_path / "home") == first
    assert (first.engines / "kept").exists()


def test_locating_a_home_touches_nothing(tmp_path: Path) -> None:
    locate_home(tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_a_link_and_its_target_are_one_home(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "home")
    assert locate_home(tmp_path / "link") == locate_home(tmp_path / "home")


def test_a_home_that_cannot_be_made_names_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match="TWIN_HOME") as raised:
        open_home(tmp_path / "file" / "home")
    assert raised.value.code == "home_unwritable"


def test_a_file_is_written_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "before")
    write_whole(path, "after")
    assert path.read_text() == "after"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "before")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "half \ud800")
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_two_commands_do_not_work_on_one_home_together(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    with locked(home), pytest.raises(EngineError) as raised, locked(home, timeout_s=0.1):
        pass
    assert raised.value.code == "home_busy"
    assert raised.value.retryable


def test_the_second_command_goes_on_when_the_first_is_done(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    order: list[str] = []

    def second() -> None:
        with locked(home):
            order.append("second")

    thread = threading.Thread(target=second)
    with locked(home):
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
