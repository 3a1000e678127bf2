"""One machine's set-up: engines, tables, Dagster's instance and the services beside them.

Belongs here: bringing a TWIN_HOME up, the environment its processes need, and its services.
Does not belong here: the engines themselves (`lpm_kernel/embedded`), Dagster's instance (`instance.py`), printing (`cli.py`).
"""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lpm_kernel.embedded import engines, orphans
from lpm_kernel.embedded.home import locate_home
from lpm_kernel.embedded.program import Program
from lpm_kernel.settings import Settings, settings_path
from lpm_kernel.stores.addresses import connection_environment
from lpm_kernel.stores.tables import upgrade_tables
from twin_assets.instance import dagster_home, prepare_instance, write_dagster_yaml

if TYPE_CHECKING:
    pass

Say = Callable[[str], None]

CODE_LOCATION = "twin_assets.definitions"
DAEMON = "dagster-daemon"

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
    daemon_lives = any(item.name == DAEMON for item in orphans.find(locate_home(home)))
    if ended := prepare_instance(home, settings, environment, daemon_lives=daemon_lives):
        say(f"runs whose process was killed, now reported as ended: {', '.join(run_id[:8] for run_id in ended)}")
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


def service_programs(home: Path, settings: Settings, environment: Mapping[str, str]) -> list[Program]:
    """The UI, the daemon and the API as programs for the supervisor.

    They carry a hash of the settings and of the code: the supervisor restarts a program whose specification changed, and so an
    edited setting, and new code over tables that it has migrated, is in force after the next `twin up`.
    """
    binaries = Path(sys.executable).parent
    serving = settings.serving
    ui, api = f"http://{serving.ui_host}:{serving.ui_port}", f"http://{serving.host}:{serving.api_port}"
    version_hash = hashlib.sha256(settings.model_dump_json().encode() + _source_bytes()).hexdigest()[:16]

    def program(
        name: str, command: tuple[str, ...], port_setting: str | None, port: int | None, ready_url: str, stop_wait_s: int = 10
    ) -> Program:
        return Program(
            name=name,
            command=command,
            directory=home,
            environment={**environment, "TWIN_VERSION_HASH": version_hash},
            port=port,
            port_setting=port_setting,
            stop_wait_s=stop_wait_s,
            stop_group=True,
            ready=(lambda: _answers(ready_url)) if ready_url else None,
            ready_timeout_s=180.0,
        )

    workers = settings.automation.celery_workers if settings.automation.executor == "celery" else 0
    return [
        *(program(f"worker-{n}", (str(binaries / "twin"), "worker", str(n)), None, None, "") for n in range(1, workers + 1)),
        program(DAEMON, (str(binaries / "dagster-daemon"), "run", "-m", CODE_LOCATION), None, None, ""),
        program(
            "dagster-ui",
            (str(binaries / "dagster-webserver"), "-m", CODE_LOCATION, "-h", serving.ui_host, "-p", str(serving.ui_port)),
            "serving.ui_port",
            serving.ui_port,
            f"{ui}/server_info",
        ),
        program(
            "api",
            (sys.executable, "-m", "twin_serving", "--host", serving.host, "--port", str(serving.api_port)),
            "serving.api_port",
            serving.api_port,
            # with its model: who is told that it runs may ask the first question
            f"{api}/readyz",
            # longer than the API itself takes for the answers that are under way
            round(serving.stop_grace_s) + 10,
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
