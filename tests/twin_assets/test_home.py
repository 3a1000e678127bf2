"""dagster.yaml and the services, written from the one settings file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lpm_kernel.settings import load_settings
from twin_assets.home import dagster_home, process_environment, service_programs, write_dagster_yaml


def test_dagsters_instance_file_takes_its_numbers_from_the_settings_and_holds_no_secret(tmp_path: Path) -> None:
    settings = load_settings(overrides={"limits": {"runs_per_user": 3, "concurrent_runs": 7}, "retries": {"max_retries": 5}})
    write_dagster_yaml(tmp_path, settings)
    text = (dagster_home(tmp_path) / "dagster.yaml").read_text()
    content = yaml.safe_load(text)
    runs = content["concurrency"]["runs"]
    assert runs["max_concurrent_runs"] == 7
    assert runs["tag_concurrency_limits"] == [
        {"key": "dagster/partition", "limit": 3, "value": {"applyLimitPerUniqueValue": True}}
    ]
    assert content["run_retries"] == {"enabled": True, "max_retries": 5, "retry_on_asset_or_op_failure": False}
    assert content["storage"] == {"postgres": {"postgres_url": {"env": "DAGSTER_DATABASE_URL"}}}
    assert "postgresql://" not in text


def test_a_process_of_a_home_finds_that_homes_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in load_settings().stores.model_dump().values():
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "connection.env").write_text("DATABASE_URL=postgresql+psycopg://x\nS3_BUCKET=twin\n")
    environment = process_environment(tmp_path, load_settings())
    assert environment["DATABASE_URL"] == "postgresql+psycopg://x"
    assert environment["TWIN_HOME"] == str(tmp_path)
    assert environment["DAGSTER_HOME"] == str(tmp_path / "dagster")
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"


def test_the_services_listen_where_the_settings_say(tmp_path: Path) -> None:
    settings = load_settings(overrides={"serving": {"api_port": 8123, "ui_port": 3123}})
    programs = {program.name: program for program in service_programs(tmp_path, settings, {})}
    assert set(programs) == {"dagster-daemon", "dagster-ui", "api"}
    assert programs["api"].port == 8123
    assert programs["dagster-ui"].port == 3123
    for name in ("api", "dagster-ui"):
        assert settings.serving.host == "127.0.0.1"
        assert settings.serving.host in programs[name].command
