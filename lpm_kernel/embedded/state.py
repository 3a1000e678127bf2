"""Ports and generated secrets of one set of engines, in one private file.

Belongs here: choosing free ports, making secrets, reading and writing them.
Does not belong here: which program uses which port (the engine's own module names its ports).
"""

from __future__ import annotations

import json
import random
import secrets
import socket
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from lpm_kernel.embedded.home import Home, write_whole
from lpm_kernel.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

GRPC_OFFSET = 10_000
"""SeaweedFS listens on every port of its own plus this."""

FIRST_PORT, LAST_PORT = 15_000, 22_700
"""Together with the offset below 32768, where Linux begins to hand out ports to outgoing connections: a restart of ours
must not find its port lent to somebody's client."""


@dataclass(frozen=True, slots=True)
class State:
    ports: Mapping[str, int] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def read_state(home: Home) -> State:
    """What is recorded; empty before the first start.

    Raises: EngineError `state_unreadable`.
    """
    try:
        content = json.loads(home.state_file.read_text(encoding="utf-8"))
        return State(
            ports={str(name): int(port) for name, port in content["ports"].items()},
            secrets={str(name): str(secret) for name, secret in content["secrets"].items()},
        )
    except FileNotFoundError:
        return State()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(
            "state_unreadable",
            f"{home.state_file} cannot be read ({type(error).__name__}): put back a copy of it; the passwords of the engines' "
            "data stand only there",
        ) from error


def write_state(home: Home, state: State) -> None:
    write_whole(home.state_file, json.dumps(asdict(state), indent=1, sort_keys=True))


def with_secrets(state: State, names: Iterable[str]) -> State:
    """The state with a secret for every name; those it has stay."""
    return State(state.ports, {**{name: secrets.token_hex(20) for name in names}, **state.secrets})


def with_ports(state: State, wanted: Mapping[str, bool]) -> State:
    """The state with a port for every name of `wanted` that is free now; a recorded one stays while it is free.

    The value says whether the port needs its gRPC neighbour (port + GRPC_OFFSET) too. Names not wanted keep their ports.
    Raises: EngineError `no_free_port`.
    """
    ports = dict(state.ports)
    for name, with_grpc in wanted.items():
        others = {port for other, port in ports.items() if other != name}
        recorded = ports.get(name)
        if recorded is None or recorded in others or not port_is_free(recorded, with_grpc=with_grpc):
            ports[name] = choose_port(others, with_grpc=with_grpc)
    return State(ports, state.secrets)


def both(port: int, with_grpc: bool) -> tuple[int, ...]:
    """The port, and its gRPC neighbour where there is one."""
    return (port, port + GRPC_OFFSET) if with_grpc else (port,)


def port_is_free(port: int, *, with_grpc: bool = False) -> bool:
    """Whether a server may listen on this loopback port now (a connection still closing there does not count)."""
    for number in both(port, with_grpc):
        # a port held on all addresses (0.0.0.0) also refuses this bind
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", number))
                probe.listen(1)
            except OSError:
                return False
    return True


def choose_port(others: set[int], *, with_grpc: bool = False) -> int:
    """A free port, drawn by chance so that two sets starting together rarely meet.

    Raises: EngineError `no_free_port`.
    """
    for _ in range(500):
        port = random.randrange(FIRST_PORT, LAST_PORT)
        if not others & {port, port + GRPC_OFFSET, port - GRPC_OFFSET} and port_is_free(port, with_grpc=with_grpc):
            return port
    raise EngineError("no_free_port", f"no free loopback port between {FIRST_PORT} and {LAST_PORT}: close what holds them")
