"""The embedded engines as one set: start, stop, status, and the addresses that the rest of the product reads.

Belongs here: the order of things, and which variable gets which address.
Does not belong here: how one engine is run (its own module), how it is watched (`supervisor.py`), what is printed (the CLI).
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psutil

from lpm_kernel.embedded import bootstrap, falkordb, orphans, postgres, seaweedfs, supervisor
from lpm_kernel.embedded.account import Account
from lpm_kernel.embedded.home import Home, locate_home, locked, open_home, write_whole
from lpm_kernel.embedded.state import State, both, port_is_free, read_state, with_ports, with_secrets, write_state
from lpm_kernel.embedded.supervisor import LIVE, Supervisor
from lpm_kernel.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lpm_kernel.embedded.program import Program
    from lpm_kernel.settings import Settings

ENGINES = (postgres.NAME, seaweedfs.NAME, falkordb.NAME)
ENGINE_PORTS = {postgres.NAME: postgres.PORTS, seaweedfs.NAME: seaweedfs.PORTS, falkordb.NAME: falkordb.PORTS}
PORTS = {**supervisor.PORTS, **postgres.PORTS, **seaweedfs.PORTS, **falkordb.PORTS}
SECRETS = (*supervisor.SECRETS, *postgres.SECRETS, *seaweedfs.SECRETS, *falkordb.SECRETS)


@dataclass(frozen=True, slots=True)
class ProgramStatus:
    name: str
    state: str
    """running, starting, backoff, stopping, stopped, exited, fatal; `silent`: runs, but its probe fails; `orphaned`: runs, but
    nobody watches it."""
    pid: int | None
    port: int | None
    uptime_s: float
    detail: str


def start(home: Path, settings: Settings, extra_programs: Sequence[Program] = ()) -> dict[str, str]:
    """Bring the engines up, then the other programs, and return the environment that reaches them.

    An engine that runs is left alone; of the other programs, one whose specification changed is restarted and one not named
    stays. Ports are kept from start to start; one that somebody else holds meanwhile is replaced. The environment is also left
    in TWIN_HOME/connection.env, before the other programs start.
    Idempotent. Raises: EngineError.
    """
    place = open_home(home)
    with locked(place):
        try:
            state = _start_engines(place)
        except EngineError:
            # somebody may have taken a port between our choice and the engine's bind; the second try chooses anew
            if not ports_of_strangers(place, read_state(place)):
                raise
            state = _start_engines(place)
        environment = connection_variables(state, settings)
        write_whole(place.connection_file, "".join(f"{name}={value}\n" for name, value in environment.items()))
        if extra_programs:
            Supervisor(place, state).start_programs(extra_programs)
    return environment


def stop(home: Path) -> None:
    """Stop services and engines, by process id where nobody watches them, and forget the addresses. Data stays.

    Idempotent. Raises: EngineError.
    """
    place = locate_home(home)
    if not place.supervisor.exists():
        return
    with locked(place):
        try:
            state = read_state(place)
        except EngineError:
            # without the file nobody can be asked, but everybody can be found
            state = State()
        _stop(place, state)


def status(home: Path) -> list[ProgramStatus]:
    """Every program of this home, engines first, each engine asked whether it answers. Changes nothing."""
    place = locate_home(home)
    state = read_state(place)
    watcher = Supervisor(place, state)
    ports = watcher.ports()
    if watcher.responds():
        found = [
            ProgramStatus(info.name, info.state, info.pid, ports.get(info.name), info.uptime_s, info.detail)
            for info in watcher.infos()
        ]
    else:
        alive = {item.name: item for item in orphans.heads(orphans.find(place))}
        found = [_unwatched(name, alive.get(name), ports.get(name)) for name in dict.fromkeys((*ENGINES, *ports, *alive))]
    found = [_probed(item, state) for item in found]
    return sorted(found, key=lambda item: (item.name not in ENGINES, item.name))


def ports_of_strangers(place: Home, state: State) -> set[str]:
    """Names of recorded ports that processes of others listen on."""
    ours = orphans.listening(place)
    return {
        name
        for name, with_grpc in PORTS.items()
        if name in state.ports
        and any(port not in ours and not port_is_free(port) for port in both(state.ports[name], with_grpc))
    }


def connection_variables(state: State, settings: Settings) -> dict[str, str]:
    """Values for the variables that `settings.stores` names. Hold passwords."""
    names = settings.stores
    server = f"127.0.0.1:{state.ports['postgres']}"
    secret = state.secrets
    return {
        names.database_url: f"postgresql+psycopg://twin_app:{secret['twin_app']}@{server}/twin",
        names.migration_database_url: f"postgresql+psycopg://twin_owner:{secret['twin_owner']}@{server}/twin",
        # no driver in the name: dagster-postgres brings its own
        names.dagster_database_url: f"postgresql://dagster:{secret['dagster']}@{server}/dagster",
        names.s3_endpoint_url: seaweedfs.endpoint_url(state),
        names.s3_access_key_id: secret["s3_access_key_id"],
        names.s3_secret_access_key: secret["s3_secret_access_key"],
        names.s3_bucket: seaweedfs.BUCKET,
        names.redis_url: falkordb.redis_url(state),
    }


def probe(name: str, state: State) -> str | None:
    """Why this engine does not answer; None when it does."""
    probes = {postgres.NAME: postgres.answers, seaweedfs.NAME: seaweedfs.answers, falkordb.NAME: falkordb.answers}
    try:
        return None if probes[name](state) else "it answered wrongly"
    except Exception as error:  # any failure of a client library means the same here
        return type(error).__name__


def _start_engines(place: Home) -> State:
    state = read_state(place)
    if not state.secrets and postgres.has_data(place):
        raise EngineError(
            "state_lost",
            f"there is data under {place.engines} but no {place.state_file.name}, which holds its passwords: put that file "
            f"back, or move {place.engines} away to begin with empty engines",
        )
    watcher = Supervisor(place, state)
    watched = watcher.responds()
    if not watched:
        # whatever a dead supervisor left running would hold the data and the ports
        _stop(place, state)
    states = {info.name: info.state for info in watcher.infos()} if watched else {}
    lost = ports_of_strangers(place, state)
    for engine in ENGINES:
        # it fails again and again for want of its port: it gets another one below
        if states.get(engine) in LIVE and lost & ENGINE_PORTS[engine].keys():
            watcher.halt(engine)
            states[engine] = "stopped"
    live = {name for name, known in states.items() if known in LIVE}
    wanted = {} if watched else dict(supervisor.PORTS)
    for engine in ENGINES:
        wanted |= {} if engine in live else ENGINE_PORTS[engine]
    state = with_ports(with_secrets(state, SECRETS), wanted)
    write_state(place, state)

    # what may be refused is asked before anything runs
    account = Account() if postgres.NAME in live else postgres.find_account(place)
    watcher = Supervisor(place, state)
    if not watched:
        watcher.start()
    # PostgreSQL last: the others come up while initdb works
    if seaweedfs.NAME not in live:
        seaweedfs.prepare(place)
        watcher.launch([seaweedfs.program(place, state)])
    if falkordb.NAME not in live:
        falkordb.prepare(place, state)
        watcher.launch([falkordb.program(place, state)])
    if postgres.NAME not in live:
        postgres.prepare(place, state, account)
        watcher.launch([postgres.program(place, state, account)])
    for program in (postgres.program(place, state, account), falkordb.program(place, state), seaweedfs.program(place, state)):
        watcher.wait_until_ready(program)
    try:
        bootstrap.bootstrap(state)
        seaweedfs.ensure_bucket(state)
    except Exception as error:
        raise EngineError("bootstrap_failed", f"roles, databases and bucket cannot be made: {error}") from error
    return state


def _stop(place: Home, state: State) -> None:
    watcher = Supervisor(place, state)
    if watcher.responds():
        watcher.shut_down()
    orphans.stop_found(place)
    seaweedfs.remove_sockets(state)
    place.connection_file.unlink(missing_ok=True)


def _unwatched(name: str, found: orphans.Found | None, port: int | None) -> ProgramStatus:
    if found is None:
        return ProgramStatus(name, "stopped", None, port, 0.0, "not running")
    uptime_s = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        uptime_s = max(0.0, time.time() - found.process.create_time())
    return ProgramStatus(name, "orphaned", found.pid, port, uptime_s, "nobody watches it: run `twin up`")


def _probed(item: ProgramStatus, state: State) -> ProgramStatus:
    if item.name not in ENGINES or item.state not in {"running", "starting"}:
        return item
    reason = probe(item.name, state)
    if reason is None:
        return replace(item, state="running")
    return replace(item, state="silent", detail=f"its port does not answer as it should: {reason}")
