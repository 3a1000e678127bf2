"""One machine's set-up: engines, tables, Dagster's instance and the services beside them.

Belongs here: bringing a TWIN_HOME up, the environment its processes need, and dagster.yaml written from the settings.
Does not belong here: the engines themselves (`lpm_kernel/embedded`) and printing (`cli.py`).
"""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from lpm_kernel.embedded import engines
from lpm_kernel.embedded.home import write_whole
from lpm_kernel.embedded.program import Program
from lpm_kernel.settings import Settings, settings_path
from lpm_kernel.stores.addresses import connection_environment
from lpm_kernel.stores.tables import upgrade_tables

Say = Callable[[str], None]

CODE_LOCATION = "twin_assets.definitions"

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
    """
    say(f"{settings.project}: starting PostgreSQL, SeaweedFS (S3) and FalkorDB (Redis)")
    addresses = engines.start(home, settings)
    say("bringing the tables up to date")
    upgrade_tables(addresses[settings.stores.migration_database_url])
    write_dagster_yaml(home, settings)
    environment = process_environment(home, settings)
    if services:
        say("starting the Dagster UI, its daemon and the API (half a minute)")
        engines.start(home, settings, service_programs(home, settings, environment))
    return environment


def process_environment(home: Path, settings: Settings) -> dict[str, str]:
    """What a process of this home must have in its environment, beside what it inherits."""
    addresses = connection_environment({**os.environ, "TWIN_HOME": str(home)})
    names = settings.stores.model_dump().values()
    return {
        **PROCESS_ENVIRONMENT,
        **{name: addresses[name] for name in names if name in addresses},
        "TWIN_HOME": str(home),
        "TWIN_SETTINGS": str(settings_path().absolute()),
        "DAGSTER_HOME": str(dagster_home(home)),
    }


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
                        "key": "dagster/partition",
                        "limit": limits.runs_per_user,
                        "value": {"applyLimitPerUniqueValue": True},
                    }
                ],
            },
            # One training at a time: two would fight for the cores and double the memory.
            "pools": {"default_limit": 1, "granularity": "op"},
        },
        # A worker that crashed is started again; a stage that failed has had its tries already.
        "run_retries": {"enabled": True, "max_retries": settings.retries.max_retries, "retry_on_asset_or_op_failure": False},
        "run_monitoring": {"enabled": True},
        "telemetry": {"enabled": False},
        "python_logs": {"python_log_level": "INFO"},
    }
    write_whole(folder / "dagster.yaml", yaml.safe_dump(content, sort_keys=False))


def service_programs(home: Path, settings: Settings, environment: Mapping[str, str]) -> list[Program]:
    """The UI, the daemon and the API as programs for the supervisor."""
    binaries = Path(sys.executable).parent
    serving = settings.serving
    ui, api = f"http://{serving.host}:{serving.ui_port}", f"http://{serving.host}:{serving.api_port}"

    def program(name: str, command: tuple[str, ...], port: int | None, ready_url: str | None) -> Program:
        return Program(
            name=name,
            command=command,
            directory=home,
            environment=environment,
            port=port,
            stop_group=True,
            ready=(lambda: _answers(ready_url)) if ready_url else None,
            ready_timeout_s=180.0,
        )

    return [
        program("dagster-daemon", (str(binaries / "dagster-daemon"), "run", "-m", CODE_LOCATION), None, None),
        program(
            "dagster-ui",
            (str(binaries / "dagster-webserver"), "-m", CODE_LOCATION, "-h", serving.host, "-p", str(serving.ui_port)),
            serving.ui_port,
            f"{ui}/server_info",
        ),
        program(
            "api",
            (
                *(sys.executable, "-m", "uvicorn", "twin_serving.app:create_app", "--factory"),
                *("--host", serving.host, "--port", str(serving.api_port)),
            ),
            serving.api_port,
            f"{api}/healthz",
        ),
    ]


def _answers(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=5) as response:
        return response.status == 200
