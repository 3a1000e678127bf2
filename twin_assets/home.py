"""One machine's set-up: engines, tables, Dagster's instance and the services beside them.

Belongs here: bringing a TWIN_HOME up, the environment its processes need, dagster.yaml written from the settings, and opening
the Dagster instance of a home.
Does not belong here: the engines themselves (`lpm_kernel/embedded`) and printing (`cli.py`).
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from lpm_kernel.embedded import engines, orphans
from lpm_kernel.embedded.home import locate_home, write_whole
from lpm_kernel.embedded.program import Program
from lpm_kernel.errors import EngineError, SettingsError
from lpm_kernel.settings import Settings, settings_path
from lpm_kernel.stores.addresses import connection_environment
from lpm_kernel.stores.tables import upgrade_tables
from twin_assets.partitions import PARTITION_TAG

if TYPE_CHECKING:
    import dagster as dg

Say = Callable[[str], None]

CODE_LOCATION = "twin_assets.definitions"
DAEMON = "dagster-daemon"

POOLS = ("training",)
"""Every pool that an asset names; a test compares them."""

PROCESS_ENVIRONMENT = {
    # Spinning threads of one library starve another's on few cores: let them sleep instead.
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    # Weights come from pip packages; a hub is never asked.
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DAGSTER_DISABLE_TELEMETRY": "1",
}


def bring_up(home: Path, settings: Settings, *, services: bool, say: Say) -> dict[str, str]:
    """Engines, newest tables, Dagster's instance; with `services` also the UI, the daemon and the API. Idempotent.

    Returns the environment in which Dagster and the API find everything.
    Raises: EngineError, among them `port_taken` when the UI or the API cannot have its port.
    """
    say(f"{settings.project}: starting PostgreSQL, SeaweedFS (S3) and FalkorDB (Redis)")
    addresses = engines.start(home, settings)
    say("bringing the tables up to date")
    upgrade_tables(addresses[settings.stores.migration_database_url])
    write_dagster_yaml(home, settings)
    # the addresses last: what the shell has exported must not lead a process of this home to other engines
    environment = {**process_environment(home, settings), **addresses}
    _prepare_instance(home, settings, environment, say)
    if services:
        say("starting the Dagster UI, its daemon and the API (half a minute)")
        engines.start(home, settings, service_programs(home, settings, environment))
    return environment


def process_environment(home: Path, settings: Settings) -> dict[str, str]:
    """What a process of this home must have in its environment, beside what it inherits.

    In the embedded profile the addresses are those that this home's engines left, before any that the shell has exported.
    """
    own = connection_environment({"TWIN_HOME": str(home)})
    found = {**os.environ, **own} if settings.profile == "embedded" else {**own, **os.environ}
    names = settings.stores.model_dump().values()
    return {
        **PROCESS_ENVIRONMENT,
        **without_proxy_on_loopback(os.environ),
        **{name: found[name] for name in names if name in found},
        "TWIN_HOME": str(home),
        "TWIN_SETTINGS": str(settings_path().absolute()),
        "DAGSTER_HOME": str(dagster_home(home)),
    }


def without_proxy_on_loopback(environ: Mapping[str, str]) -> dict[str, str]:
    """The two spellings of `no_proxy`, completed: a company's HTTP_PROXY cannot reach the engines of this machine.

    Both get the same value, for programs that read both let the lower case one win.
    """
    named = ",".join(environ.get(name, "") for name in ("no_proxy", "NO_PROXY"))
    hosts = [host for part in named.split(",") if (host := part.strip())]
    value = "*" if "*" in hosts else ",".join(dict.fromkeys([*hosts, "127.0.0.1", "localhost"]))
    return {"no_proxy": value, "NO_PROXY": value}


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


def _prepare_instance(home: Path, settings: Settings, environment: Mapping[str, str], say: Say) -> None:
    """Dagster's tables, the limits of the pools, and an end for runs that a hard kill left behind."""
    from twin_assets.dead_runs import end_dead_runs

    daemon_lives = any(item.name == DAEMON for item in orphans.find(locate_home(home)))
    with open_instance(home, settings, environment) as instance:
        storage = instance.event_log_storage
        # A pool gets its limit when the queue first meets it, and that is after it has let those first runs pass. Only once:
        # on PostgreSQL a second time is an error.
        for pool in set(POOLS) - {limit.name for limit in storage.get_pool_limits()}:
            storage.initialize_concurrency_limit_to_default(pool)
        ended = end_dead_runs(instance, daemon_lives=daemon_lives)
    if ended:
        say(f"runs whose process was killed, now reported as ended: {', '.join(run_id[:8] for run_id in ended)}")


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


def service_programs(home: Path, settings: Settings, environment: Mapping[str, str]) -> list[Program]:
    """The UI, the daemon and the API as programs for the supervisor.

    They carry a hash of the settings and of the code: the supervisor restarts a program whose specification changed, and so an
    edited setting, and new code over tables that it has migrated, is in force after the next `twin up`.
    """
    binaries = Path(sys.executable).parent
    serving = settings.serving
    ui, api = f"http://{serving.host}:{serving.ui_port}", f"http://{serving.host}:{serving.api_port}"
    version_hash = hashlib.sha256(settings.model_dump_json().encode() + _source_bytes()).hexdigest()[:16]

    def program(name: str, command: tuple[str, ...], port_setting: str | None, port: int | None, ready_url: str) -> Program:
        return Program(
            name=name,
            command=command,
            directory=home,
            environment={**environment, "TWIN_VERSION_HASH": version_hash},
            port=port,
            port_setting=port_setting,
            stop_group=True,
            ready=(lambda: _answers(ready_url)) if ready_url else None,
            ready_timeout_s=180.0,
        )

    return [
        program(DAEMON, (str(binaries / "dagster-daemon"), "run", "-m", CODE_LOCATION), None, None, ""),
        program(
            "dagster-ui",
            (str(binaries / "dagster-webserver"), "-m", CODE_LOCATION, "-h", serving.host, "-p", str(serving.ui_port)),
            "serving.ui_port",
            serving.ui_port,
            f"{ui}/server_info",
        ),
        program(
            "api",
            (
                *(sys.executable, "-m", "uvicorn", "twin_serving.app:create_app", "--factory"),
                *("--host", serving.host, "--port", str(serving.api_port)),
            ),
            "serving.api_port",
            serving.api_port,
            f"{api}/healthz",
        ),
    ]


def _source_bytes() -> bytes:
    root = Path(__file__).resolve().parent.parent
    packages = ("lpm_kernel", "twin_assets", "twin_serving")
    return b"".join(file.read_bytes() for package in packages for file in sorted((root / package).rglob("*.py")))


def _answers(url: str) -> bool:
    # without the proxies of the environment: what is asked runs on this machine
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as response:
        return response.status == 200
