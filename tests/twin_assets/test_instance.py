"""Dagster's instance: its file from the one settings file, its pools, and a database that does not answer."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import yaml

from lpm_kernel.errors import EngineError, SettingsError
from lpm_kernel.settings import load_settings
from twin_assets.definitions import build_defs
from twin_assets.instance import POOLS, check_engines_answer, dagster_home, open_instance, write_dagster_yaml


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


def test_a_pool_is_held_by_runs_and_its_slots_are_freed_after_their_end(tmp_path: Path) -> None:
    """With slots a stage, one hard kill in training held the only slot for ever: nothing swept it."""
    write_dagster_yaml(tmp_path, load_settings())
    content = yaml.safe_load((dagster_home(tmp_path) / "dagster.yaml").read_text())
    assert content["concurrency"]["pools"] == {"default_limit": 1, "granularity": "run"}
    assert content["run_monitoring"] == {"enabled": True, "free_slots_after_run_end_seconds": 60}


def test_every_pool_of_the_assets_is_known_beforehand() -> None:
    graph = build_defs(load_settings()).resolve_asset_graph()
    named = {pool for asset in graph.assets_defs for operation in asset.op.iterate_op_defs() for pool in operation.pools}
    assert named == set(POOLS)


def test_addresses_that_nobody_answers_at_name_the_cure(tmp_path: Path, free_port: int) -> None:
    """After a reboot the addresses of the engines are still there: a command ended in `this should not happen`."""
    settings = load_settings()
    environ = {"DAGSTER_DATABASE_URL": f"postgresql://dagster:s3cret@127.0.0.1:{free_port}/dagster"}
    write_dagster_yaml(tmp_path, settings)
    with pytest.raises(EngineError, match="twin up") as raised, open_instance(tmp_path, settings, environ):
        pass
    assert raised.value.code == "engines_down"
    assert str(free_port) in raised.value.message
    assert "s3cret" not in raised.value.message
    with pytest.raises(SettingsError, match="twin up"), open_instance(tmp_path, settings, {}):
        pass
    with socket.create_server(("127.0.0.1", free_port)):
        check_engines_answer(tmp_path, environ, ["DAGSTER_DATABASE_URL", "NOT_SET"])
