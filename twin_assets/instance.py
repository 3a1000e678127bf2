"""The Dagster instance of a home: its file, its folder, opening it, and what it must know before the first run.

Belongs here: dagster.yaml written from the settings, pools, and the named error when the database does not answer.
Does not belong here: starting anything (`home.py`).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from lpm_kernel.embedded.home import write_whole
from lpm_kernel.errors import EngineError, SettingsError
from lpm_kernel.settings import Settings
from twin_assets.partitions import PARTITION_TAG

if TYPE_CHECKING:
    import dagster as dg

POOLS = ("training",)
"""Every pool that an asset names; a test compares them."""


def dagster_home(home: Path) -> Path:
    return home / "dagster"


def write_dagster_yaml(home: Path, settings: Settings) -> None:
    """Dagster's instance, written from the one settings file so that a number lives once. Holds no secret."""
    folder = dagster_home(home)
    folder.mkdir(parents=True, exist_ok=True)
    limits = settings.limits
    content: dict[str, Any] = {
        "storage": {"postgres": {"postgres_url": {"env": settings.stores.dagster_database_url}}},
        "concurrency": {
            "runs": {
                "max_concurrent_runs": limits.concurrent_runs,
                "tag_concurrency_limits": [
                    {
                        "key": PARTITION_TAG,
                        "limit": limits.runs_per_user,
                        "value": {"applyLimitPerUniqueValue": True},
                    }
                ],
            },
            # One training at a time: two would fight for the cores and double the memory. A run waits in the queue for its
            # pools and holds them to its end. Not by `op`: such a slot is freed by the living process only, so that one hard
            # kill would hold it for ever, and a run that waits for it keeps a core busy.
            "pools": {"default_limit": 1, "granularity": "run"},
        },
        # A run of the daemon whose worker crashed is started again; a stage that failed has had its tries already.
        "run_retries": {"enabled": True, "max_retries": settings.retries.max_retries, "retry_on_asset_or_op_failure": False},
        "run_monitoring": {"enabled": True, "free_slots_after_run_end_seconds": 60},
        "telemetry": {"enabled": False},
        "python_logs": {"python_log_level": "INFO"},
    }
    write_whole(folder / "dagster.yaml", yaml.safe_dump(content, sort_keys=False))


@contextmanager
def open_instance(home: Path, settings: Settings, environ: Mapping[str, str]) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance of this home, in the database whose address `environ` holds.

    Raises: SettingsError `address_missing`; EngineError `engines_down` when the database does not answer, also later.
    """
    import dagster as dg
    from dagster._core.instance.ref import InstanceRef
    from dagster_postgres.utils import DagsterPostgresException

    name = settings.stores.dagster_database_url
    if not environ.get(name):
        raise SettingsError("address_missing", f"no engines run under {home}: run `twin up`, or set {name}")
    check_engines_answer(home, environ, [name])
    storage = {"storage": {"postgres": {"postgres_url": environ[name]}}}
    try:
        with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(dagster_home(home)), overrides=storage)) as instance:
            yield instance
    except DagsterPostgresException as error:
        raise _engines_down(home, "Dagster's database does not answer") from error


def check_engines_answer(home: Path, environ: Mapping[str, str], names: list[str]) -> None:
    """Whether somebody listens at the addresses in these variables; those not set are passed over.

    Why: the drivers try for a quarter of a minute, and their errors name no cure. After a reboot the addresses are still there.
    Raises: EngineError `engines_down`.
    """
    for name in names:
        try:
            address = urlsplit(environ.get(name, ""))
            host, port = address.hostname, address.port
        except ValueError as error:
            raise SettingsError("address_invalid", f"{name} holds no address: {error}") from error
        if host is None or port is None:
            continue
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError as error:
            raise _engines_down(home, f"nobody answers at {host}:{port} ({name})") from error


def _engines_down(home: Path, why: str) -> EngineError:
    return EngineError("engines_down", f"{why}: the engines under {home} do not run, or not all of them: run `twin up`")


def prepare_instance(home: Path, settings: Settings, environ: Mapping[str, str], *, daemon_lives: bool) -> list[str]:
    """Dagster's tables, the limits of the pools, and an end for runs that a hard kill left behind: the ids of these.

    Idempotent. Raises: as `open_instance`.
    """
    from twin_assets.dead_runs import end_dead_runs

    with open_instance(home, settings, environ) as instance:
        storage = instance.event_log_storage
        # A pool gets its limit when the queue first meets it, and that is after it has let those first runs pass. Only once:
        # on PostgreSQL a second time is an error.
        for pool in set(POOLS) - {limit.name for limit in storage.get_pool_limits()}:
            storage.initialize_concurrency_limit_to_default(pool)
        return end_dead_runs(instance, daemon_lives=daemon_lives)
