"""How much one may send: bodies by size and time, requests by count."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import anyio
import pytest
from fastapi.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from lpm_kernel.settings import load_settings
from lpm_kernel.stores.addresses import read_addresses
from tests.embedded.fixtures import EngineHome
from tests.twin_serving.issuer import Issuer
from twin_serving.app import create_app
from twin_serving.auth import Principal
from twin_serving.buckets import LocalBuckets, RedisBuckets, address_key
from twin_serving.middleware.body_limit import BodyLimit

Limited = Callable[..., TestClient]


def test_a_body_that_says_it_is_too_large_is_refused_unread(limited: Limited) -> None:
    response = limited().post("/twin/ada/chat", json={"question": "x" * 1_000_001})
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert response.headers["connection"] == "close"


def test_a_body_that_does_not_say_its_size_is_refused_as_soon_as_it_is_too_large(limited: Limited) -> None:
    read = 0

    def pieces() -> Iterator[bytes]:
        nonlocal read
        yield b'{"question": "'
        for _ in range(100):
            read += 100_000
            yield b"x" * 100_000

    response = limited().post("/twin/ada/chat", content=pieces(), headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("length", ["-1", "1e3", "ten", "9" * 40, "²"])
def test_a_length_that_is_none_is_refused(limited: Limited, length: str) -> None:
    response = limited().post("/twin/ada/chat", content=b"{}", headers={"Content-Length": length.encode()})  # type: ignore[dict-item]
    assert response.status_code in (400, 413)


def test_an_upload_may_be_larger(limited: Limited, user_id: str) -> None:
    response = limited().post("/upload", data={"user_id": user_id}, files=[("files", ("big.txt", b"word " * 400_000))])
    assert response.status_code == 202


def test_an_archive_has_a_limit_of_its_own(limited: Limited) -> None:
    """It was let in up to the size of all documents of a user, whatever `archive_mb` said."""
    response = limited(archive_mb=1).post("/import", data={"user_id": "ada"}, files={"file": ("a.zip", bytes(2_100_000))})
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


class Coming:
    """Bodies that are on their way into a `BodyLimit`, and never whole before they are let go."""

    def __init__(self, uploads_at_once: int) -> None:
        self.there = 0
        settings = load_settings(overrides={"serving": {"uploads_at_once": uploads_at_once}})
        self._limit = BodyLimit(self._app, settings)
        self._go_on = anyio.Event()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.there += 1
        await self._go_on.wait()
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body"})

    async def send(self, path: str, user_id: str | None, statuses: list[int]) -> None:
        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        async def nothing() -> Message:
            return {"type": "http.request"}

        scope = {"type": "http", "path": path, "headers": [], "state": {"principal": Principal(user_id)}}
        await self._limit(scope, nothing, keep)

    def let_go(self) -> None:
        self._go_on.set()


def test_so_many_files_come_side_by_side_and_the_next_are_told_to_come_back() -> None:
    """Any number of uploads were written to disk at once, of two gigabytes each, before it was looked whose they were."""

    async def many() -> tuple[list[int], list[int]]:
        coming = Coming(uploads_at_once=4)
        let_in, refused = list[int](), list[int]()
        async with anyio.create_task_group() as tasks:
            for path, user_id in (("/upload", "ada"), ("/import", "ada"), ("/upload", "ben"), ("/chat", "ada")):
                tasks.start_soon(coming.send, path, user_id, let_in)
            await anyio.wait_all_tasks_blocked()
            await coming.send("/upload", "ada", refused)  # half of all are one user's
            tasks.start_soon(coming.send, "/import", "cleo", let_in)
            await anyio.wait_all_tasks_blocked()
            await coming.send("/upload", "dora", refused)
            assert coming.there == 5
            coming.let_go()
        await coming.send("/upload", "ada", let_in)  # the places are free again
        return let_in, refused

    assert anyio.run(many) == ([202] * 6, [429] * 2)


def test_a_body_that_comes_too_slowly_is_given_up(limited: Limited) -> None:
    """One byte now and then held a request open for ever."""
    app = limited(body_timeout_s=0.2).app
    sent: list[dict] = []

    async def drip() -> dict:
        await anyio.sleep(0.05)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def keep(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/twin/ada/chat", "raw_path": b"/twin/ada/chat", "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")], "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1), "scheme": "http", "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    began = time.monotonic()
    anyio.run(app, scope, drip, keep)
    assert sent[0]["status"] == 408
    assert 0.2 <= time.monotonic() - began < 5


def test_a_bucket_gives_a_minutes_worth_and_fills_all_the_time() -> None:
    now = 0.0
    buckets = LocalBuckets(60, clock=lambda: now)

    async def take() -> float:
        return await buckets.take("user:ada")

    assert [anyio.run(take) for _ in range(60)] == [0.0] * 60
    assert anyio.run(take) == 1.0
    now = 0.5
    assert anyio.run(take) == 0.5
    now = 1.0
    assert anyio.run(take) == 0.0
    now = 1000.0
    assert [anyio.run(take) for _ in range(61)] == [*([0.0] * 60), 1.0]


def test_one_bucket_is_not_anothers() -> None:
    async def both() -> list[float]:
        buckets = LocalBuckets(1)
        return [await buckets.take("a"), await buckets.take("b"), await buckets.take("a")]

    one, other, again = anyio.run(both)
    assert (one, other) == (0.0, 0.0)
    assert again > 0


@pytest.fixture
def redis_url(engine_home: EngineHome) -> str:
    return read_addresses(engine_home.settings, engine_home.environment).redis_url


def test_processes_share_their_buckets_in_redis(redis_url: str) -> None:
    async def two_processes() -> list[float]:
        one, other = (RedisBuckets(redis_url, 4, timeout_s=20) for _ in range(2))
        try:
            key = f"test:{time.time_ns()}"
            return [await buckets.take(key) for buckets in (one, other, one, other, one, other)]
        finally:
            await one.aclose()
            await other.aclose()

    waits = anyio.run(two_processes)
    assert waits[:4] == [0.0] * 4
    assert all(0 < wait <= 15 for wait in waits[4:])


def test_many_at_once_never_get_more_than_there_is(redis_url: str) -> None:
    async def rush() -> int:
        buckets = RedisBuckets(redis_url, 10, timeout_s=20)
        let_in = 0

        async def take(key: str) -> None:
            nonlocal let_in
            if await buckets.take(key) == 0:
                let_in += 1

        async with anyio.create_task_group() as group:
            for _ in range(60):
                group.start_soon(take, f"test:{id(buckets)}:{began}")
        await buckets.aclose()
        return let_in

    began = time.time_ns()
    assert anyio.run(rush) == 10


def test_the_api_counts_where_the_other_processes_do(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    assert isinstance(create_app().state.buckets, RedisBuckets)
    assert isinstance(create_app(lambda: None).state.buckets, LocalBuckets)  # type: ignore[arg-type, return-value]


def test_without_redis_each_process_counts_for_itself(free_port: int) -> None:
    async def take() -> list[float]:
        buckets = RedisBuckets(f"redis://127.0.0.1:{free_port}/0", 2)
        found = [await buckets.take("k") for _ in range(3)]
        await buckets.aclose()
        return found

    began = time.monotonic()
    waits = anyio.run(take)
    assert (waits[:2], waits[2] > 0) == ([0.0, 0.0], True)
    assert time.monotonic() - began < 2


def test_too_many_requests_are_told_when_to_come_back_and_health_is_never_counted(limited: Limited) -> None:
    client = limited(requests_per_minute=3)
    assert [client.get("/nothing").status_code for _ in range(4)] == [404, 404, 404, 429]
    refused = client.get("/nothing")
    assert refused.json()["code"] == "rate_limited"
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert client.get("/healthz").status_code == 200


def test_a_user_is_counted_wherever_they_are_and_wrong_tokens_by_address(
    guarded: Callable[..., TestClient], issuer: Issuer
) -> None:
    client = guarded(requests_per_minute=2)
    assert [client.get("/x", headers=issuer.bearer("ada")).status_code for _ in range(3)] == [404, 404, 429]
    assert client.get("/x", headers=issuer.bearer("bob")).status_code == 404
    assert [client.get("/x", headers={"Authorization": "Bearer x"}).status_code for _ in range(3)] == [401, 401, 429]


def test_a_household_of_many_addresses_is_one() -> None:
    assert address_key(("2001:db8:1:2::5", 1)) == address_key(("2001:db8:1:2:9::7", 1)) != address_key(("2001:db8:1:3::5", 1))
    assert address_key(("10.0.0.1", 1)) != address_key(("10.0.0.2", 1))
    assert address_key(None) == "address:unknown"
