from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lpm_kernel.embedded.launch import LOG_BYTES
from lpm_kernel.embedded.program import Program
from lpm_kernel.embedded.supervisor import LAUNCHER
from lpm_kernel.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

PRINT_ALL = "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ), os.getpid()]))"


def launch(tmp_path: Path, **changes: object) -> subprocess.CompletedProcess[str]:
    specification = {
        "command": [sys.executable, "-c", PRINT_ALL],
        "directory": str(tmp_path),
        "environment": {},
        "inherit_environment": False,
        "log": None,
        **changes,
    }
    path = tmp_path / "specification.json"
    path.write_text(json.dumps(specification))
    return subprocess.run(
        [sys.executable, "-I", "-S", str(LAUNCHER), str(path)],
        env={"PATH": os.environ["PATH"], "STRAY": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_arguments_and_environment_keep_every_character(tmp_path: Path) -> None:
    unkind = "a 'b' \"c\" %d ; #e $F `g` \\ ü\n"
    done = launch(tmp_path, command=[sys.executable, "-c", PRINT_ALL, unkind], environment={"UNKIND": unkind})
    arguments, directory, environment, _ = json.loads(done.stdout)
    assert arguments == [unkind]
    assert environment["UNKIND"] == unkind
    assert directory == str(tmp_path)


@pytest.mark.parametrize(("inherit", "expected"), [(True, "1"), (False, None)])
def test_an_engine_sees_nothing_of_the_callers_environment_and_a_service_all(
    tmp_path: Path, inherit: bool, expected: str | None
) -> None:
    environment = json.loads(launch(tmp_path, inherit_environment=inherit).stdout)[2]
    assert environment.get("STRAY") == expected
    assert "PATH" in environment


def test_a_log_of_its_own_is_added_to_and_rotated_when_it_is_large(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    launch(tmp_path, log=str(log), command=["echo", "first"])
    assert log.read_text() == "before\nfirst\n"
    os.truncate(log, LOG_BYTES + 1)
    launch(tmp_path, log=str(log), command=["sh", "-c", "echo second >&2"])
    assert log.read_text() == "second\n"
    assert (tmp_path / "log.1").stat().st_size == LOG_BYTES + 1


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = launch(tmp_path, command=["no-such-command"])
    assert done.returncode != 0
    assert "no-such-command" in done.stderr


@pytest.mark.parametrize("name", ["", "Postgres", "a b", "../x", "supervisord", "a:b"])
def test_a_program_name_that_would_break_files_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(EngineError) as raised:
        Program(name=name, command=("true",), directory=tmp_path)
    assert raised.value.code == "program_name"


def test_a_program_without_a_command_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as raised:
        Program(name="empty", command=(), directory=tmp_path)
    assert raised.value.code == "program_command"


def test_a_program_does_not_show_its_environment(tmp_path: Path) -> None:
    assert "word" not in repr(Program(name="a", command=("true",), directory=tmp_path, environment={"PASSWORD": "word"}))
