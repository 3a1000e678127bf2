"""The demo's end: what it stops, what it leaves, and what it says of that. Its work is tested stage by stage elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dagster as dg
import pytest

from lpm_kernel.embedded import engines
from lpm_kernel.embedded.program import Program
from lpm_kernel.errors import EngineError, UserInputError
from lpm_kernel.settings import Settings
from tests.embedded.fixtures import running_engines
from twin_assets import demo


@dg.asset
def long_stage() -> None:
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    time.sleep(30)


@dg.asset
def broken_stage() -> None:
    raise ValueError


@pytest.mark.parametrize(("stage", "interrupted"), [(long_stage, True), (broken_stage, False)])
def test_a_demo_that_is_told_to_end_in_a_stage_is_not_a_failed_run(stage: dg.AssetsDefinition, interrupted: bool) -> None:
    """Dagster turns a signal in a stage into a failed step, so the demo went on to print that the run had failed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize([stage], instance=instance, raise_on_error=False)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not result.success
    assert demo.was_interrupted(result) is interrupted


@pytest.mark.slow
def test_a_demo_stops_engines_that_only_a_killed_demo_left_and_leaves_those_that_services_use(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A demo that was killed left its engines; every later one took them for somebody's, left them running as well, and said
    that nothing was left running."""
    monkeypatch.setattr(demo, "_build_and_question", lambda *_: True)  # its work takes a minute
    monkeypatch.setattr(demo, "_person", lambda *_: {})
    monkeypatch.setattr(os, "environ", os.environ.copy())
    service = Program(name="api", command=(sys.executable, "-c", "import time; time.sleep(600)"), directory=tmp_path)
    with running_engines(tmp_path / "home") as home:
        said: list[str] = []
        assert demo.run_demo(settings, home.path, "1", said.append)
        assert "The engines still run" in "".join(said), "somebody had started them"
        assert all(item.pid for item in engines.status(home.path))

        (home.path / "demo.pid").write_text("999999999")
        said.clear()
        assert demo.run_demo(settings, home.path, "1", said.append)
        assert "Nothing was left running" in "".join(said)
        assert {item.state for item in engines.status(home.path)} == {"stopped"}

        engines.start(home.path, settings, [service])
        said.clear()
        assert demo.run_demo(settings, home.path, "1", said.append)
        assert "Nothing was left running" not in "".join(said)
        assert "api still run" in "".join(said)
        assert "make down" in "".join(said)
        assert {item.name for item in engines.status(home.path) if item.pid} == {*engines.ENGINES, "api"}


def test_a_second_demo_in_one_home_is_refused(tmp_path: Path, settings: Settings) -> None:
    """The first one to end would stop the engines under the other."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "demo"]) as other:
        try:
            (tmp_path / "demo.pid").write_text(str(other.pid))
            with pytest.raises(EngineError) as raised:
                demo.run_demo(settings, tmp_path, "1", print)
        finally:
            other.kill()
    assert raised.value.code == "demo_running"
    assert (tmp_path / "demo.pid").read_text() == str(other.pid)


def test_a_demo_of_an_unknown_person_leaves_no_mark(tmp_path: Path, settings: Settings) -> None:
    """The next demo would take engines that somebody has started for those of a killed one."""
    with pytest.raises(UserInputError):
        demo.run_demo(settings, tmp_path, "nobody", print)
    assert list(tmp_path.iterdir()) == []
