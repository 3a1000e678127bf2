"""kill -9 under load: what was acknowledged is there afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import redis
from botocore.exceptions import BotoCoreError, ClientError
from redis.backoff import NoBackoff
from redis.retry import Retry

from lpm_kernel.embedded import engines, orphans, postgres
from lpm_kernel.embedded.home import locate_home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from .fixtures import EngineHome

pytestmark = pytest.mark.slow

THREADS_A_STORE = 2


@dataclass
class Load:
    """Threads that write to every store until told to stop, and remember what was acknowledged."""

    home: EngineHome
    acknowledged: dict[str, list[str]] = field(default_factory=lambda: {"rows": [], "objects": [], "keys": [], "nodes": []})
    done: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        with psycopg.connect(self.home.owner_dsn) as connection:
            connection.execute("create table if not exists crash (id text primary key)")
        for kind in self.acknowledged:
            for number in range(THREADS_A_STORE):
                name = f"{kind}-{time.monotonic_ns()}-{number}"
                thread = threading.Thread(target=self._write, args=(kind, name), daemon=True)
                thread.start()
                self.threads.append(thread)
        self.wait_for_more(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.done.set()
        for thread in self.threads:
            thread.join(60)

    def wait_for_more(self, count: int, seconds: float = 60) -> None:
        """Until every store has acknowledged so many more."""
        goal = {kind: len(ids) + count for kind, ids in self.acknowledged.items()}
        deadline = time.monotonic() + seconds
        while any(len(self.acknowledged[kind]) < goal[kind] for kind in goal):
            assert time.monotonic() < deadline, {kind: (len(self.acknowledged[kind]), goal[kind]) for kind in goal}
            time.sleep(0.02)

    def _write(self, kind: str, name: str) -> None:
        opened: dict[str, Callable[[], contextlib.AbstractContextManager[Callable[[str], None]]]] = {
            "rows": self._rows,
            "objects": self._objects,
            "keys": self._keys,
            "nodes": self._nodes,
        }
        number = 0
        while not self.done.is_set():
            with (
                contextlib.suppress(psycopg.Error, BotoCoreError, ClientError, redis.RedisError, OSError),
                opened[kind]() as write,
            ):
                while not self.done.is_set():
                    identity = f"{name}-{number}"
                    number += 1
                    write(identity)
                    self.acknowledged[kind].append(identity)
                    # enough to be always in the middle of a write, without starving the servers of their two cores
                    time.sleep(0.003)
            self.done.wait(0.05)

    @contextlib.contextmanager
    def _rows(self) -> Iterator[Callable[[str], None]]:
        with psycopg.connect(self.home.owner_dsn, autocommit=True, connect_timeout=3) as connection:
            yield lambda identity: connection.execute("insert into crash values (%s)", [identity]) and None

    @contextlib.contextmanager
    def _objects(self) -> Iterator[Callable[[str], None]]:
        with self.home.s3() as client:
            yield lambda identity: client.put_object(Bucket="twin", Key=f"crash/{identity}", Body=identity.encode() * 100)

    @contextlib.contextmanager
    def _keys(self) -> Iterator[Callable[[str], None]]:
        with self._redis() as client:
            yield lambda identity: client.set(f"crash:{identity}", identity)

    @contextlib.contextmanager
    def _nodes(self) -> Iterator[Callable[[str], None]]:
        with self._redis() as client:
            yield lambda identity: client.execute_command("GRAPH.QUERY", "crash", f"MERGE (:N {{id: '{identity}'}})")

    def _redis(self) -> Any:
        return redis.Redis.from_url(self.home.redis_url, socket_timeout=5, retry=Retry(NoBackoff(), 0))

    def missing(self) -> dict[str, set[str]]:
        """What was acknowledged and is not there."""
        with psycopg.connect(self.home.owner_dsn) as connection:
            found = {"rows": {identity for (identity,) in connection.execute("select id from crash")}}
        with self._redis() as client:
            found["keys"] = {key.decode().removeprefix("crash:") for key in client.scan_iter("crash:*", count=1000)}
            reply = client.execute_command("GRAPH.QUERY", "crash", "MATCH (n:N) RETURN n.id")
            found["nodes"] = {identity.decode() for (identity,) in reply[1]}
        found["objects"] = set()
        with self.home.s3() as client:
            for identity in self.acknowledged["objects"]:
                with contextlib.suppress(ClientError):
                    if client.get_object(Bucket="twin", Key=f"crash/{identity}")["Body"].read() == identity.encode() * 100:
                        found["objects"].add(identity)
        return {kind: set(ids) - found[kind] for kind, ids in self.acknowledged.items()}


def kill(pid: int | None) -> None:
    assert pid
    os.kill(pid, signal.SIGKILL)


def pid_of(home: EngineHome, name: str) -> int | None:
    return next(item.pid for item in engines.status(home.path) if item.name == name)


def supervisor_pid(home: EngineHome) -> int | None:
    place = locate_home(home.path)
    return next((item.pid for item in orphans.find(place) if item.name == orphans.SUPERVISOR), None)


NOTHING: dict[str, set[str]] = {"rows": set(), "objects": set(), "keys": set(), "nodes": set()}


def test_killed_engines_come_back_by_themselves_and_lose_nothing(second_home: EngineHome) -> None:
    with Load(second_home) as load:
        for name in engines.ENGINES:
            before = pid_of(second_home, name)
            kill(before)
            load.wait_for_more(10)
            assert pid_of(second_home, name) != before
    assert load.missing() == NOTHING


def test_a_killed_supervisor_leaves_engines_that_the_next_start_takes_over_without_loss(second_home: EngineHome) -> None:
    with Load(second_home) as load:
        kill(supervisor_pid(second_home))
        load.wait_for_more(10)
        orphaned = {item.name: item for item in engines.status(second_home.path)}
        assert {orphaned[name].state for name in engines.ENGINES} == {"orphaned"}
        second_home.start()
        load.wait_for_more(10)
    assert load.missing() == NOTHING
    now = {item.name: item for item in engines.status(second_home.path)}
    assert {now[name].state for name in engines.ENGINES} == {"running"}
    assert all(now[name].pid != orphaned[name].pid for name in engines.ENGINES)
    place = locate_home(second_home.path)
    heads = [item for item in orphans.heads(orphans.find(place)) if item.name == postgres.NAME]
    assert len(heads) == 1


def test_everything_killed_at_once_loses_nothing(second_home: EngineHome) -> None:
    """The supervisor and its engines die together, as in a crash of a container: nobody reaps them, nobody cleans up."""
    with Load(second_home) as load:
        for item in orphans.find(locate_home(second_home.path)):
            with contextlib.suppress(ProcessLookupError):
                kill(item.pid)
        second_home.start()
        load.wait_for_more(10)
    assert load.missing() == NOTHING
