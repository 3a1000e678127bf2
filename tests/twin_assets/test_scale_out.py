"""Which executor the settings choose, and that a worker is given the steps of runs: on the Redis that is there."""

from __future__ import annotations

import dagster as dg
import pytest

from lpm_kernel.errors import SettingsError
from lpm_kernel.settings import Settings, load_settings
from tests.embedded.fixtures import EngineHome
from twin_assets.definitions import build_defs
from twin_assets.home import service_programs
from twin_assets.scale_out import KEY_PREFIX, make_worker_app


def with_executor(name: str, workers: int = 2) -> Settings:
    return load_settings(overrides={"automation": {"executor": name, "celery_workers": workers}})


@pytest.mark.parametrize(("name", "executor"), [("in_process", "in_process"), ("celery", "celery")])
def test_every_job_of_assets_gets_the_executor_of_the_settings(name: str, executor: str) -> None:
    """Without an address in the environment: it is read when a run starts."""
    defs = build_defs(with_executor(name))
    dg.Definitions.validate_loadable(defs)
    assert defs.resolve_job_def("twin_job").executor_def.name == executor


def test_workers_are_started_with_the_rest_where_there_is_work_for_them(engine_home: EngineHome) -> None:
    def names(settings: Settings) -> set[str]:
        return {program.name for program in service_programs(engine_home.path, settings, {})}

    alone = names(with_executor("in_process"))
    assert names(with_executor("celery")) - alone == {"worker-1", "worker-2"}
    assert names(with_executor("celery", 0)) == alone


def test_a_worker_without_an_address_is_told_which() -> None:
    with pytest.raises(SettingsError, match="REDIS"):
        make_worker_app(load_settings(), {})


@pytest.mark.slow
def test_what_is_queued_on_the_redis_that_is_there_comes_out_under_our_prefix(engine_home: EngineHome) -> None:
    """FalkorDB's server is the broker, with its password. That workers execute steps: `test_workers.py`."""
    app = make_worker_app(engine_home.settings, engine_home.environment)
    try:
        with app.connection_for_write() as connection:
            queue = connection.SimpleQueue("tide")
            queue.put({"step": "chunks"})
            assert queue.get(timeout=30).payload == {"step": "chunks"}
            queue.close()
            keys = [key.decode() for key in connection.default_channel.client.scan_iter("*tide*")]
        assert keys
        assert all(key.startswith(KEY_PREFIX) for key in keys)
    finally:
        app.close()
