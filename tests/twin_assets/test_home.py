"""What a process of a home finds in its environment, and the services written from the one settings file."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from lpm_kernel.settings import load_settings
from tests.embedded.fixtures import EngineHome
from tests.twin_assets.conftest import Workshop
from twin_assets.home import bring_up, process_environment, service_programs, without_proxy_on_loopback
from twin_assets.instance import open_instance


def test_a_process_of_a_home_finds_that_homes_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in load_settings().stores.model_dump().values():
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "connection.env").write_text("DATABASE_URL=postgresql+psycopg://x\nS3_BUCKET=twin\n")
    environment = process_environment(tmp_path, load_settings())
    assert environment["DATABASE_URL"] == "postgresql+psycopg://x"
    assert environment["TWIN_HOME"] == str(tmp_path)
    assert environment["DAGSTER_HOME"] == str(tmp_path / "dagster")
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"


def test_a_process_of_a_home_reaches_its_engines_whatever_the_shell_has_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`bring_up` brought the tables of the home up to date, and the daemon then worked on those the shell had named. In the
    same way an address that a command had read before a crash hid the new port of the engine."""
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://of-another-project")
    monkeypatch.setenv("S3_BUCKET", "of-another-project")
    settings = load_settings()
    assert process_environment(tmp_path, settings)["DATABASE_URL"] == "postgresql+psycopg://of-another-project", "no engines"
    (tmp_path / "connection.env").write_text("DATABASE_URL=postgresql+psycopg://own\n")
    environment = process_environment(tmp_path, settings)
    assert environment["DATABASE_URL"] == "postgresql+psycopg://own"
    assert environment["S3_BUCKET"] == "of-another-project"


@pytest.mark.slow
def test_a_start_hands_out_the_addresses_of_the_engines_it_started(
    engine_home: EngineHome, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = workshop.settings.stores
    for name in names.model_dump().values():
        monkeypatch.setenv(name, "stale")
    environment = bring_up(engine_home.path, workshop.settings, services=False, say=lambda words: None)
    assert {name: environment[name] for name in engine_home.environment} == engine_home.environment
    with open_instance(engine_home.path, workshop.settings, environment) as instance:
        assert instance.get_runs_count() >= 0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"NO_PROXY": "corp.example"}, "corp.example,127.0.0.1,localhost"),
        ({"no_proxy": "localhost, a.example", "NO_PROXY": "b.example"}, "localhost,a.example,b.example,127.0.0.1"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_no_proxy_stands_before_the_engines_and_what_was_exempt_stays_so(before: dict[str, str], after: str) -> None:
    """A company's HTTP_PROXY was asked for http://127.0.0.1: no bucket was found and no service was ever ready."""
    assert without_proxy_on_loopback(before) == {"no_proxy": after, "NO_PROXY": after}
    assert without_proxy_on_loopback(without_proxy_on_loopback(before)) == {"no_proxy": after, "NO_PROXY": after}


def test_a_process_of_a_home_asks_no_proxy_for_loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    for name, value in process_environment(tmp_path, load_settings()).items():
        monkeypatch.setenv(name, value)
    assert urllib.request.proxy_bypass("127.0.0.1:8333")
    assert urllib.request.proxy_bypass("localhost:8333")
    assert not urllib.request.proxy_bypass("example.org")


def test_an_edited_setting_changes_every_services_specification(tmp_path: Path) -> None:
    """`twin up` on a running set left its services as they were: an edited setting was ignored until `twin down`."""

    def specifications(rank: int) -> list[dict[str, str]]:
        settings = load_settings(overrides={"training": {"rank": rank}})
        return [dict(program.environment) for program in service_programs(tmp_path, settings, {"A": "1"})]

    assert specifications(8) == specifications(8)
    for before, after in zip(specifications(8), specifications(16), strict=True):
        assert before != after
        assert before["A"] == after["A"] == "1"


def test_the_services_listen_where_the_settings_say(tmp_path: Path) -> None:
    settings = load_settings(overrides={"serving": {"api_port": 8123, "ui_port": 3123}})
    programs = {program.name: program for program in service_programs(tmp_path, settings, {})}
    assert set(programs) == {"dagster-daemon", "dagster-ui", "api"}
    assert programs["api"].port == 8123
    assert programs["dagster-ui"].port == 3123
    assert programs["api"].port_setting == "serving.api_port"
    assert programs["dagster-ui"].port_setting == "serving.ui_port"
    for name in ("api", "dagster-ui"):
        assert settings.serving.host == "127.0.0.1"
        assert settings.serving.host in programs[name].command
