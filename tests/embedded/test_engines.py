from __future__ import annotations

import contextlib
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest
import redis
from botocore.exceptions import ClientError

from lpm_kernel.embedded import engines, orphans
from lpm_kernel.embedded.doctor import examine
from lpm_kernel.embedded.home import locate_home
from lpm_kernel.embedded.program import Program
from lpm_kernel.embedded.seaweedfs import PORTS as S3_PORTS
from lpm_kernel.embedded.state import GRPC_OFFSET, choose_port, read_state
from lpm_kernel.stores.addresses import connection_environment, read_addresses

if TYPE_CHECKING:
    from collections.abc import Callable

    from .fixtures import EngineHome

pytestmark = pytest.mark.slow


def pids(home: EngineHome) -> dict[str, int | None]:
    return {item.name: item.pid for item in engines.status(home.path)}


def test_three_engines_run_and_answer(engine_home: EngineHome) -> None:
    states = {item.name: item.state for item in engines.status(engine_home.path)}
    assert states == {"postgres": "running", "seaweedfs": "running", "falkordb": "running"}


def test_starting_twice_is_one_set(engine_home: EngineHome) -> None:
    before, environment = pids(engine_home), dict(engine_home.environment)
    assert engines.start(engine_home.path, engine_home.settings) == environment
    assert pids(engine_home) == before


WEBHOOKS = ("release_webhook", "alert_webhook", "notice_webhook")
CLOUD = ("neo4j_", "weaviate_", "mem0_", "openai_", "gemini_", "telegram_", "x_", "s3_public_endpoint", *WEBHOOKS)


def test_the_addresses_are_left_for_others_in_a_private_file(engine_home: EngineHome) -> None:
    found = connection_environment({"TWIN_HOME": str(engine_home.path)})
    assert engine_home.environment.items() <= found.items()
    assert read_addresses(engine_home.settings, {"TWIN_HOME": str(engine_home.path)}).s3_bucket == "twin"
    names = engine_home.settings.stores.model_dump()
    of_other_servers = {name for key, name in names.items() if key.startswith(CLOUD)}
    assert set(engine_home.environment) == set(names.values()) - of_other_servers
    for path in (engine_home.path / "connection.env", engine_home.path / "engines" / "state.json"):
        assert path.stat().st_mode & 0o777 == 0o600


def seen_of(look: Callable[..., list[Any]], *arguments: str) -> list[Any]:
    """Nothing of a process that has ended since it was found: PostgreSQL's workers come and go."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return look(*arguments)
    return []


def test_only_loopback_listens(engine_home: EngineHome) -> None:
    listening = {
        connection.laddr.ip
        for item in orphans.find(locate_home(engine_home.path))
        for connection in seen_of(item.process.net_connections, "inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_no_secret_stands_on_a_command_line_in_a_log_or_in_a_file_others_may_read(engine_home: EngineHome) -> None:
    home = locate_home(engine_home.path)
    # an access key id is the name of a key, and servers log it
    secrets = {secret for name, secret in read_state(home).secrets.items() if name != "s3_access_key_id"}
    assert len(secrets) > 9
    for item in orphans.find(home):
        assert not any(secret in word for secret in secrets for word in seen_of(item.process.cmdline))
    for log in home.logs.iterdir():
        text = log.read_text(errors="replace")
        assert not any(secret in text for secret in secrets), log
    for path in (*home.supervisor.rglob("*"), *(home.engines / "falkordb").glob("*"), *(home.engines / "seaweedfs").glob("*")):
        assert not path.stat().st_mode & 0o077, path


def test_postgres_refuses_a_wrong_password(engine_home: EngineHome) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(engine_home.app_dsn.replace("twin_app:", "twin_app:x"))


def test_s3_refuses_a_wrong_secret(engine_home: EngineHome) -> None:
    with engine_home.s3(secret="guess") as client, pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        client.list_objects_v2(Bucket="twin")


def test_redis_refuses_a_wrong_password(engine_home: EngineHome) -> None:
    wrong = engine_home.redis_url.replace("redis://:", "redis://:x")
    with redis.Redis.from_url(wrong) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_no_object_is_reached_behind_the_back_of_s3(engine_home: EngineHome) -> None:
    """`weed` is five servers in one, and only the S3 gateway asks for keys: the filer handed out every object to anybody."""
    ports = read_state(locate_home(engine_home.path)).ports
    with engine_home.s3() as client:
        client.put_object(Bucket="twin", Key="hidden", Body=b"a private line")
        client.delete_object(Bucket="twin", Key="hidden")
        client.put_object(Bucket="twin", Key="hidden", Body=b"a private line")
    for name in S3_PORTS:
        for port in (ports[name], ports[name] + GRPC_OFFSET):
            for path in ("/buckets/twin/hidden", "/buckets/twin/?pretty=y", "/twin/hidden", "/col/delete?collection=twin"):
                answer = exchange(port, f"GET {path} HTTP/1.0\r\nAccept: application/json\r\n\r\n".encode())
                assert b"private line" not in answer
                assert b" 200 " not in answer[:20]
        # gRPC without a client certificate: the server hangs up before it speaks HTTP/2
        assert (
            exchange(ports[name] + GRPC_OFFSET, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00") == b""
        )
    with engine_home.s3() as client:
        assert client.get_object(Bucket="twin", Key="hidden")["Body"].read() == b"a private line"


def query(client: redis.Redis, graph: str, cypher: str) -> list[list[Any]]:
    reply: Any = client.execute_command("GRAPH.QUERY", graph, cypher)
    return reply[1]


def exchange(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.settimeout(1)
        answer = b""
        try:
            connection.sendall(request)
            while part := connection.recv(65536):
                answer += part
        except (TimeoutError, ConnectionError):
            pass
        return answer


def test_postgres_checksums_its_pages_and_has_vectors(engine_home: EngineHome) -> None:
    with psycopg.connect(engine_home.app_dsn) as connection:
        assert connection.execute("show data_checksums").fetchone() == ("on",)
        assert connection.execute("select '[1,2]'::vector <-> '[1,4]'::vector").fetchone() == (2.0,)


def test_the_application_role_is_no_superuser_and_makes_no_tables(engine_home: EngineHome) -> None:
    with psycopg.connect(engine_home.app_dsn) as connection:
        flags = connection.execute(
            "select rolsuper, rolbypassrls, rolcreatedb, rolcreaterole from pg_roles where rolname = current_user"
        ).fetchone()
        assert flags == (False, False, False, False)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("create table mine (id int)")


def test_the_operator_role_is_stepped_into_and_never_inherited(engine_home: EngineHome) -> None:
    with psycopg.connect(engine_home.owner_dsn) as owner:
        owner.execute("create table pending (id int)")
        owner.execute("insert into pending values (1)")
        owner.execute("grant select on pending to twin_operator")
    try:
        with psycopg.connect(engine_home.app_dsn) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("select * from pending")
            connection.rollback()
            connection.execute("set local role twin_operator")
            assert connection.execute("select * from pending").fetchall() == [(1,)]
            connection.commit()
            assert connection.execute("select current_user").fetchone() == ("twin_app",)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(engine_home.app_dsn.replace("twin_app:", "twin_operator:"))
    finally:
        with psycopg.connect(engine_home.owner_dsn) as owner:
            owner.execute("drop table pending")


def test_each_role_sees_its_own_database_only(engine_home: EngineHome) -> None:
    with psycopg.connect(engine_home.dagster_dsn) as connection:
        connection.execute("create table of_dagster (id int)")
        connection.rollback()
    for dsn, database in (
        (engine_home.app_dsn, "dagster"),
        (engine_home.owner_dsn, "postgres"),
        (engine_home.dagster_dsn, "twin"),
    ):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(dsn, dbname=database)


def test_redis_holds_locks_and_graphs(engine_home: EngineHome) -> None:
    with redis.Redis.from_url(engine_home.redis_url) as client:
        assert client.set("lease", "1", nx=True, ex=10) is True
        assert client.set("lease", "2", nx=True, ex=10) is None
        client.execute_command("GRAPH.QUERY", "people", "CREATE (:Person {name: 'Ada'})-[:KNOWS]->(:Person {name: 'Bo'})")
        assert query(client, "people", "MATCH (:Person {name: 'Ada'})-[:KNOWS]->(b) RETURN b.name") == [[b"Bo"]]
        client.delete("lease", "people")


def test_two_sets_run_side_by_side_with_data_of_their_own(engine_home: EngineHome, second_home: EngineHome) -> None:
    for home, text in ((engine_home, b"first"), (second_home, b"second")):
        with home.s3() as client:
            client.put_object(Bucket="twin", Key="whose", Body=text)
        with redis.Redis.from_url(home.redis_url) as client:
            client.set("whose", text)
        with psycopg.connect(home.owner_dsn) as connection:
            connection.execute("create table whose as select %s::text as name", [text.decode()])
    for home, text in ((engine_home, b"first"), (second_home, b"second")):
        with home.s3() as client:
            assert client.get_object(Bucket="twin", Key="whose")["Body"].read() == text
        with redis.Redis.from_url(home.redis_url) as client:
            assert client.get("whose") == text
        with psycopg.connect(home.owner_dsn) as connection:
            assert connection.execute("select name from whose").fetchall() == [(text.decode(),)]
            connection.execute("drop table whose")
    assert not set(pids(engine_home).values()) & set(pids(second_home).values())


def test_the_doctor_finds_a_running_set_in_order(engine_home: EngineHome) -> None:
    by_check = {finding.check: finding for finding in examine(engine_home.path)}
    assert by_check["supervisor"].detail == "running"
    assert {by_check[f"program {name}"].level for name in engines.ENGINES} == {"ok"}


def test_services_are_added_changed_and_found_beside_the_engines(second_home: EngineHome) -> None:
    code = "import os, pathlib, time; pathlib.Path('seen').write_text(os.environ['WORD']); time.sleep(600)"
    seen, port = second_home.path / "seen", choose_port(set())

    def service(word: str) -> Program:
        return Program(
            name="service",
            command=(sys.executable, "-c", code),
            directory=second_home.path,
            environment={"WORD": word},
            port=port,
            ready=lambda: seen.exists() and seen.read_text() == word,
        )

    before = pids(second_home)
    engines.start(second_home.path, second_home.settings, [service("one 100% 'quoted' ;#")])
    (status,) = [item for item in engines.status(second_home.path) if item.name == "service"]
    assert (status.state in {"starting", "running"}, status.port) == (True, port)
    engines.start(second_home.path, second_home.settings, [service("two")])
    engines.start(second_home.path, second_home.settings)
    after = pids(second_home)
    assert after.pop("service") not in (None, status.pid)
    assert after == before


def test_stop_leaves_no_process_and_a_restart_finds_everything(second_home: EngineHome) -> None:
    home = locate_home(second_home.path)
    with second_home.s3() as client:
        client.put_object(Bucket="twin", Key="kept", Body=b"x" * 300_000)
    with redis.Redis.from_url(second_home.redis_url) as client:
        client.set("kept", "1")
        client.execute_command("GRAPH.QUERY", "kept_graph", "CREATE (:Kept {n: 7})")
    with psycopg.connect(second_home.owner_dsn) as connection:
        connection.execute("create table kept as select generate_series(1, 1000) as n")
    open_connection = psycopg.connect(second_home.app_dsn)

    engines.stop(second_home.path)
    open_connection.close()
    assert orphans.find(home) == []
    assert not home.connection_file.exists()
    left = {path.name.rsplit("-", 1)[1] for path in Path("/tmp").glob("seaweedfs-*.sock")}
    assert not left & {f"{port}.sock" for port in read_state(home).ports.values()}
    assert {item.state for item in engines.status(second_home.path)} == {"stopped"}
    engines.stop(second_home.path)

    # two commands at once: one starts the set, the other finds it
    with ThreadPoolExecutor() as pool:
        starts = [pool.submit(engines.start, second_home.path, second_home.settings) for _ in range(2)]
    assert [started.result() for started in starts] == [second_home.environment] * 2
    assert len([item for item in orphans.find(home) if item.name == orphans.SUPERVISOR]) == 1
    with second_home.s3() as client:
        assert client.head_object(Bucket="twin", Key="kept")["ContentLength"] == 300_000
    with redis.Redis.from_url(second_home.redis_url) as client:
        assert client.get("kept") == b"1"
        assert query(client, "kept_graph", "MATCH (k:Kept) RETURN k.n") == [[7]]
    with psycopg.connect(second_home.owner_dsn) as connection:
        assert connection.execute("select count(*) from kept").fetchone() == (1000,)
        connection.execute("drop table kept")


def test_recorded_ports_taken_by_strangers_give_new_ports_and_the_same_data(second_home: EngineHome) -> None:
    home = locate_home(second_home.path)
    with second_home.s3() as client:
        client.put_object(Bucket="twin", Key="moved", Body=b"moved")
    with psycopg.connect(second_home.owner_dsn) as connection:
        connection.execute("create table moved as select 1 as n")
    engines.stop(second_home.path)
    before = read_state(home).ports
    names = ("postgres", "redis", "s3_master", "supervisor")
    strangers = [socket.create_server(("127.0.0.1", before[name])) for name in names]
    try:
        held = [finding for finding in examine(second_home.path) if finding.check == "port" and "by itself" in finding.cure]
        assert len(held) == len(names)
        assert all(f"process {os.getpid()}" in finding.detail for finding in held)
        second_home.start()
        after = read_state(home).ports
        assert {name for name in before if before[name] != after[name]} == set(names)
        with second_home.s3() as client:
            assert client.get_object(Bucket="twin", Key="moved")["Body"].read() == b"moved"
        with psycopg.connect(second_home.owner_dsn) as connection:
            assert connection.execute("select n from moved").fetchone() == (1,)
            connection.execute("drop table moved")
    finally:
        for stranger in strangers:
            stranger.close()
