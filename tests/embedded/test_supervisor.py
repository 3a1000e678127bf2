from __future__ import annotations

import dataclasses
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from lpm_kernel.embedded import orphans, supervisor
from lpm_kernel.embedded.home import Home, open_home
from lpm_kernel.embedded.program import Program
from lpm_kernel.embedded.state import State, choose_port, with_ports, with_secrets
from lpm_kernel.embedded.supervisor import Supervisor
from lpm_kernel.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SLEEP = "import time; time.sleep(600)"
LISTEN = "import socket, time; server = socket.create_server(('127.0.0.1', {port})); time.sleep(600)"
FORK_AND_SLEEP = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); time.sleep(600)"
)


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.03)


def python(home: Home, name: str, code: str, **changes: object) -> Program:
    program = Program(name=name, command=(sys.executable, "-c", code), directory=home.root, stop_wait_s=5, start_seconds=1)
    return dataclasses.replace(program, **changes)  # type: ignore[arg-type]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = open_home(tmp_path / 'it\'s a 50% ;# "home"')
    yield home
    orphans.stop_found(home, patience_s=5)


@pytest.fixture
def watcher(home: Home) -> Iterator[Supervisor]:
    state = with_ports(with_secrets(State(), supervisor.SECRETS), supervisor.PORTS)
    watcher = Supervisor(home, state)
    watcher.start()
    yield watcher
    watcher.shut_down()


def test_it_starts_answers_and_ends(watcher: Supervisor, home: Home) -> None:
    assert watcher.responds()
    assert watcher.infos() == []
    watcher.shut_down()
    assert watcher.pid() is None
    assert not watcher.responds()
    watcher.shut_down()
    assert orphans.find(home) == []


def test_a_wrong_password_takes_no_orders(watcher: Supervisor, home: Home) -> None:
    stranger = Supervisor(home, State(watcher._state.ports, {"supervisor": "guess"}))
    assert not stranger.responds()
    with pytest.raises(EngineError) as raised:
        stranger.infos()
    assert "guess" not in str(raised.value)


def test_a_killed_program_comes_back_with_another_id(watcher: Supervisor, home: Home) -> None:
    program = python(home, "sleeper", SLEEP, start_retries=9)
    watcher.start_programs([program])
    before = watcher.info("sleeper").pid
    assert before
    os.kill(before, signal.SIGKILL)
    until(lambda: (info := watcher.info("sleeper")).state == "running" and info.pid != before)


def test_launching_again_leaves_what_runs_and_restarts_what_changed(watcher: Supervisor, home: Home) -> None:
    same, other = python(home, "same", SLEEP), python(home, "other", SLEEP)
    watcher.start_programs([same, other])
    first = {info.name: info.pid for info in watcher.infos()}
    watcher.start_programs([same, dataclasses.replace(other, environment={"A": "1"})])
    second = {info.name: info.pid for info in watcher.infos()}
    assert second["same"] == first["same"]
    assert second["other"] != first["other"]


def test_programs_are_added_to_a_running_set(watcher: Supervisor, home: Home) -> None:
    one = choose_port(set())
    two = choose_port({one})
    watcher.start_programs([python(home, "engine", SLEEP, port=one)])
    engine = watcher.info("engine").pid
    watcher.start_programs([python(home, "service", SLEEP, port=two)])
    assert {info.name: info.state for info in watcher.infos()} == {"engine": "running", "service": "running"}
    assert watcher.info("engine").pid == engine
    assert watcher.ports() == {"engine": one, "service": two}


def test_a_program_that_dies_at_once_fails_with_the_end_of_its_log_and_no_secret(watcher: Supervisor, home: Home) -> None:
    secret = watcher._state.secrets["supervisor"]
    code = f"import sys; print('cannot find the moon'); print({secret!r}); sys.exit(3)"
    with pytest.raises(EngineError, match="cannot find the moon") as raised:
        watcher.start_programs([python(home, "broken", code, start_retries=0, start_seconds=10)])
    assert raised.value.code == "program_failed"
    assert secret not in str(raised.value)


def test_a_program_that_never_answers_is_named_with_its_last_reason(watcher: Supervisor, home: Home) -> None:
    def ready() -> bool:
        raise ConnectionError("nobody home")

    program = python(home, "mute", "print('still thinking', flush=True); " + SLEEP, ready=ready, ready_timeout_s=5.0)
    with pytest.raises(EngineError, match="nobody home") as raised:
        watcher.start_programs([program])
    assert raised.value.code == "program_not_ready"
    assert "still thinking" in raised.value.message


def test_a_probe_whose_client_is_not_installed_is_not_asked_for_minutes(watcher: Supervisor, home: Home) -> None:
    def ready() -> bool:
        raise ImportError("no pq wrapper available")

    with pytest.raises(EngineError, match="no pq wrapper") as raised:
        watcher.start_programs([python(home, "fine", SLEEP, ready=ready)])
    assert raised.value.code == "probe_broken"


def answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def test_a_fixed_port_that_somebody_else_holds_is_named_before_anything_is_started(watcher: Supervisor, home: Home) -> None:
    """A second home's `twin up` found its UI and API answering, and said so: they were those of the first home."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        taken = python(home, "ui", SLEEP, port=port, port_setting="serving.ui_port", ready=lambda: answers(port))
        with pytest.raises(EngineError) as raised:
            watcher.start_programs([python(home, "daemon", SLEEP), taken])
        assert raised.value.code == "port_taken"
        assert f"port {port}" in raised.value.message
        assert "serving.ui_port" in raised.value.message
        assert f"process {os.getpid()}" in raised.value.message
        assert watcher.infos() == []
    served = dataclasses.replace(taken, command=(sys.executable, "-c", LISTEN.format(port=port)))
    watcher.start_programs([served])
    watcher.start_programs([served])
    assert watcher.info("ui").state in {"starting", "running"}


def test_a_port_held_by_the_program_itself_lets_it_be_changed(watcher: Supervisor, home: Home, free_port: int) -> None:
    code = LISTEN.format(port=free_port)
    program = python(home, "ui", code, port=free_port, port_setting="serving.ui_port", ready=lambda: answers(free_port))
    watcher.start_programs([program])
    before = watcher.info("ui").pid
    watcher.start_programs([dataclasses.replace(program, environment={"TWIN_VERSION_HASH": "2"})])
    assert watcher.info("ui").pid != before


def test_an_answer_from_another_homes_program_does_not_make_ours_ready(watcher: Supervisor, home: Home, free_port: int) -> None:
    """Two homes started together: both found the port free, and the faster one's answer made the slower one ready."""
    with socket.socket() as stranger:

        def ready() -> bool:
            if stranger.getsockname()[1] == 0:
                stranger.bind(("127.0.0.1", free_port))
                stranger.listen()
            return answers(free_port)

        with pytest.raises(EngineError) as raised:
            watcher.start_programs([python(home, "ui", SLEEP, port=free_port, port_setting="serving.ui_port", ready=ready)])
        assert raised.value.code == "port_taken"


def test_a_lower_priority_is_ready_before_the_next_one_starts(watcher: Supervisor, home: Home) -> None:
    marker = home.root / "ready"
    wait_and_mark = f"import time, pathlib; time.sleep(0.5); pathlib.Path({str(marker)!r}).touch(); time.sleep(600)"
    must_see = f"import pathlib, sys, time; sys.exit(1) if not pathlib.Path({str(marker)!r}).exists() else time.sleep(600)"
    first = python(home, "first", wait_and_mark, priority=10, ready=marker.exists)
    watcher.start_programs([python(home, "second", must_see, priority=20, start_retries=0), first])
    assert watcher.info("second").state == "running"


def test_stopping_reaches_the_children_of_a_group(watcher: Supervisor, home: Home) -> None:
    watcher.start_programs([python(home, "parent", FORK_AND_SLEEP, stop_group=True)])
    until(lambda: len(orphans.find(home)) == 3)
    watcher.shut_down()
    assert orphans.find(home) == []


def test_what_outlives_a_killed_supervisor_is_found_and_stopped_with_its_children(watcher: Supervisor, home: Home) -> None:
    watcher.start_programs([python(home, "parent", FORK_AND_SLEEP)])
    until(lambda: len(orphans.find(home)) == 3)
    supervisor_id = watcher.pid()
    assert supervisor_id
    os.kill(supervisor_id, signal.SIGKILL)
    until(lambda: watcher.pid() is None)
    assert not watcher.responds()
    left = orphans.find(home)
    assert [item.name for item in left] == ["parent", "parent"]
    assert len(orphans.heads(left)) == 1
    assert orphans.stop_found(home) == ["parent"]
    assert orphans.find(home) == []
    assert orphans.stop_found(home) == []


def test_a_program_that_ignores_every_polite_signal_is_killed(watcher: Supervisor, home: Home) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); " + SLEEP
    watcher.start_programs([python(home, "stubborn", stubborn, ready=lambda: "deaf" in watcher.log_tail("stubborn"))])
    supervisor_id = watcher.pid()
    assert supervisor_id
    os.kill(supervisor_id, signal.SIGKILL)
    assert "stubborn" in orphans.stop_found(home, patience_s=0.3)
    assert orphans.find(home) == []


def test_a_supervisor_that_is_frozen_is_killed_before_its_programs(watcher: Supervisor, home: Home) -> None:
    watcher.start_programs([python(home, "sleeper", SLEEP)])
    supervisor_id = watcher.pid()
    assert supervisor_id
    psutil.Process(supervisor_id).suspend()
    assert orphans.stop_found(home, patience_s=0.3) == ["sleeper", "supervisord"]


def test_processes_of_another_home_and_of_the_caller_are_left_alone(watcher: Supervisor, home: Home, tmp_path: Path) -> None:
    other = open_home(tmp_path / "other")
    assert orphans.find(other) == []
    assert orphans.stop_found(other) == []
    assert watcher.responds()
    assert os.getpid() not in {item.pid for item in orphans.find(home)}
