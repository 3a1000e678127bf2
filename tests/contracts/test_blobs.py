"""What every blob store guarantees: whole or absent, exact ranges, and absence that is never mistaken for emptiness."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from lpm_kernel.errors import StoreError
from lpm_kernel.stores.addresses import Addresses
from lpm_kernel.stores.blobs import Blobs, S3Blobs, TenantBlobs, open_s3
from tests.embedded.fixtures import EngineHome
from tests.fakes import MemoryBlobs
from tests.folder_blobs import FolderBlobs

CLOUD = ["cloud"] if os.environ.get("S3_ENDPOINT_URL") else []


def addresses_of(environment: dict[str, str] | os._Environ[str], secret: str | None = None) -> Addresses:
    return Addresses(
        database_url="",
        s3_endpoint_url=environment["S3_ENDPOINT_URL"],
        s3_access_key_id=environment["S3_ACCESS_KEY_ID"],
        s3_secret_access_key=secret or environment["S3_SECRET_ACCESS_KEY"],
        s3_bucket=environment["S3_BUCKET"],
        redis_url="",
    )


@contextlib.contextmanager
def s3_at(addresses: Addresses) -> Iterator[S3Blobs]:
    blobs = open_s3(addresses)
    try:
        yield blobs
    finally:
        blobs.client.close()


@pytest.fixture(params=["embedded", *CLOUD])
def s3_addresses(request: pytest.FixtureRequest) -> Callable[[str | None], Addresses]:
    """Addresses of a real S3, with another secret if one is given."""
    if request.param == "cloud":
        return lambda secret: addresses_of(os.environ, secret)
    home: EngineHome = request.getfixturevalue("engine_home")
    return lambda secret: addresses_of(home.environment, secret)


@pytest.fixture(params=["embedded", "fake", "folder", *CLOUD])
def blobs(request: pytest.FixtureRequest) -> Iterator[Blobs]:
    if request.param == "folder":
        yield FolderBlobs(request.getfixturevalue("tmp_path_factory").mktemp("blobs"))
        return
    if request.param == "fake":
        yield MemoryBlobs()
        return
    environment = os.environ if request.param == "cloud" else request.getfixturevalue("engine_home").environment
    with s3_at(addresses_of(environment)) as s3:
        yield s3


@pytest.fixture
def folder(blobs: Blobs) -> Iterator[str]:
    """A prefix of this test's own, emptied at its end."""
    prefix = f"contract/{uuid.uuid4().hex}/"
    yield prefix
    for key in list(blobs.list_keys(prefix)):
        blobs.delete(key)


def test_a_store_that_is_there_passes_its_check(blobs: Blobs) -> None:
    blobs.check()


def test_a_bucket_that_is_missing_fails_the_check(s3_addresses: Callable[[str | None], Addresses]) -> None:
    """`exists` cannot tell a missing bucket from a missing key, so a server without a bucket was called healthy."""
    with s3_at(s3_addresses(None)) as blobs:
        nowhere = S3Blobs(blobs.client, f"no-bucket-{uuid.uuid4().hex}")
        with pytest.raises(StoreError) as caught:
            nowhere.check()
    assert (caught.value.code, caught.value.retryable) == ("bucket_missing", False)


@pytest.mark.parametrize("data", [b"", b"\x00", b"a\r\nb\n", bytes(range(256)) * 4096], ids=["empty", "nul", "lines", "1MiB"])
def test_what_was_put_comes_back(blobs: Blobs, folder: str, data: bytes) -> None:
    blobs.put(folder + "x", data)
    assert blobs.exists(folder + "x")
    assert blobs.get(folder + "x") == data


def test_a_second_put_replaces_the_whole_object(blobs: Blobs, folder: str) -> None:
    blobs.put(folder + "x", b"a long first version")
    blobs.put(folder + "x", b"short")
    assert blobs.get(folder + "x") == b"short"


@pytest.mark.parametrize("read", ["get", "get_range", "get_nothing_of", "get_file"])
def test_a_missing_key_is_not_found_and_never_empty(blobs: Blobs, folder: str, read: str, tmp_path: Path) -> None:
    key = folder + "nothing"
    reads: dict[str, Callable[[], object]] = {
        "get": lambda: blobs.get(key),
        "get_range": lambda: blobs.get_range(key, 0, 3),
        "get_nothing_of": lambda: blobs.get_range(key, 0, 0),
        "get_file": lambda: blobs.get_file(key, tmp_path / "x"),
    }
    with pytest.raises(StoreError) as caught:
        reads[read]()
    assert (caught.value.code, caught.value.retryable) == ("blob_not_found", False)
    assert not blobs.exists(key)


@pytest.mark.parametrize(("start", "end"), [(0, 1), (0, 1000), (999, 1000), (17, 18), (250, 750), (500, 500)])
def test_a_range_is_exact(blobs: Blobs, folder: str, start: int, end: int) -> None:
    data = bytes(i % 251 for i in range(1000))
    blobs.put(folder + "x", data)
    assert blobs.get_range(folder + "x", start, end) == data[start:end]


@pytest.mark.parametrize(("start", "end"), [(5, 11), (10, 11), (50, 60)], ids=["beyond the end", "at the end", "far behind it"])
def test_a_range_that_is_not_there_is_refused(blobs: Blobs, folder: str, start: int, end: int) -> None:
    """A range wholly behind the end was answered as a fault of the store that a retry might help."""
    blobs.put(folder + "x", b"0123456789")
    with pytest.raises(StoreError) as caught:
        blobs.get_range(folder + "x", start, end)
    assert (caught.value.code, caught.value.retryable) == ("blob_range", False)


def test_readers_never_see_a_half_written_object(blobs: Blobs, folder: str) -> None:
    versions = [bytes([i]) * (100_000 + i) for i in (1, 2, 3)]
    blobs.put(folder + "x", versions[0])
    done = threading.Event()

    def write(version: bytes) -> None:
        for _ in range(8):
            blobs.put(folder + "x", version)

    def read() -> set[bytes]:
        seen = set()
        while not done.is_set():
            seen.add(blobs.get(folder + "x"))
        return seen

    with ThreadPoolExecutor(5) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        writers = [pool.submit(write, version) for version in versions]
        try:
            for writer in writers:
                writer.result()
        finally:
            done.set()
        for reader in readers:
            assert reader.result() <= set(versions)


def test_a_listing_holds_the_prefix_and_nothing_beside_it(blobs: Blobs, folder: str) -> None:
    for name in ("1/raw/a", "1/raw/b", "1/text/a", "10/raw/a", "1", "2/raw/a"):
        blobs.put(folder + name, b"x")
    assert set(blobs.list_keys(folder + "1/")) == {folder + name for name in ("1/raw/a", "1/raw/b", "1/text/a")}
    assert set(blobs.list_keys(folder + "1/raw/b")) == {folder + "1/raw/b"}
    assert list(blobs.list_keys(folder + "3/")) == []


def test_a_listing_says_how_large_an_object_is_and_when_other_bytes_lie_there(blobs: Blobs, folder: str) -> None:
    blobs.put(folder + "a", b"four")
    blobs.put(folder + "b", b"sixsix")
    first = {found.key: found for found in blobs.list_objects(folder)}
    assert {key: found.size_bytes for key, found in first.items()} == {folder + "a": 4, folder + "b": 6}
    assert all(abs((datetime.now(UTC) - found.changed_at).total_seconds()) < 3600 for found in first.values())
    blobs.put(folder + "a", b"FOUR")
    again = {found.key: found.etag for found in blobs.list_objects(folder)}
    assert again[folder + "a"] != first[folder + "a"].etag
    assert again[folder + "b"] == first[folder + "b"].etag


def test_a_key_with_unusual_characters_stays_itself(blobs: Blobs, folder: str) -> None:
    key = f"{folder}notes of Zoë & co +1 (50 %)?#.txt"
    blobs.put(key, b"x")
    assert list(blobs.list_keys(folder)) == [key]
    assert blobs.get(key) == b"x"


def test_deleting_twice_is_deleting_once(blobs: Blobs, folder: str) -> None:
    blobs.put(folder + "x", b"x")
    blobs.delete(folder + "x")
    blobs.delete(folder + "x")
    assert not blobs.exists(folder + "x")
    assert list(blobs.list_keys(folder)) == []


def test_a_file_goes_there_and_back(blobs: Blobs, folder: str, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "there").write_bytes(data)
    blobs.put_file(folder + "x", tmp_path / "there")
    blobs.get_file(folder + "x", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "there"]


def test_a_file_that_cannot_be_fetched_leaves_what_was_there(blobs: Blobs, folder: str, tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"the version before")
    with pytest.raises(StoreError):
        blobs.get_file(folder + "nothing", tmp_path / "kept")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("kept", b"the version before")]


def test_one_tenants_blobs_end_at_their_prefix(blobs: Blobs) -> None:
    one, ten = (TenantBlobs(blobs, f"contract-{uuid.uuid4().hex}{end}") for end in ("", "0"))
    try:
        one.put(one.prefix + "raw/x", b"mine")
        ten.put(ten.prefix + "raw/x", b"theirs")
        assert list(one.list_keys()) == [one.prefix + "raw/x"]
        assert list(one.list_keys(one.prefix + "raw/")) == [one.prefix + "raw/x"]
        assert one.get(one.prefix + "raw/x") == b"mine"
        assert one.get_range(one.prefix + "raw/x", 1, 3) == b"in"
    finally:
        one.delete(one.prefix + "raw/x")
        ten.delete(ten.prefix + "raw/x")
    assert not one.exists(one.prefix + "raw/x")


@pytest.mark.parametrize("operation", ["put", "put_file", "get", "get_file", "get_range", "exists", "list_keys", "delete"])
@pytest.mark.parametrize("key", ["tenant/2/raw/x", "tenant/1", "tenant/10/raw/x", "tenant/1/../2/raw/x", "/tenant/1/x", ""])
def test_a_foreign_key_does_not_reach_the_store(operation: str, key: str, tmp_path: Path) -> None:
    """`tenant/1/../2/raw/x` begins with the prefix, and a server that resolves paths would have given user 2's file."""
    store = MemoryBlobs()
    store.put("tenant/2/raw/x", b"theirs")
    own = TenantBlobs(store, "1")
    operations: dict[str, Callable[[], object]] = {
        "put": lambda: own.put(key, b"mine"),
        "put_file": lambda: own.put_file(key, tmp_path / "x"),
        "get": lambda: own.get(key),
        "get_file": lambda: own.get_file(key, tmp_path / "x"),
        "get_range": lambda: own.get_range(key, 0, 1),
        "exists": lambda: own.exists(key),
        "list_keys": lambda: list(own.list_keys(key or "tenant/")),
        "delete": lambda: own.delete(key),
    }
    with pytest.raises(StoreError) as caught:
        operations[operation]()
    assert (caught.value.code, caught.value.retryable) == ("foreign_key", False)
    assert store.objects == {"tenant/2/raw/x": b"theirs"}


@pytest.mark.parametrize(
    "operation", ["put", "put_file", "get", "get_file", "get_range", "exists", "list_keys", "delete", "check"]
)
def test_a_wrong_key_is_refused_for_good(
    operation: str, s3_addresses: Callable[[str | None], Addresses], tmp_path: Path
) -> None:
    """A file's upload hid the refusal in an error of boto3's own, and was then tried again."""
    (tmp_path / "x").write_bytes(b"x")
    secret = "not-the-secret-of-this-store"
    with s3_at(s3_addresses(secret)) as wrong:
        operations: dict[str, Callable[[], object]] = {
            "put": lambda: wrong.put("contract/x", b"x"),
            "put_file": lambda: wrong.put_file("contract/x", tmp_path / "x"),
            "get": lambda: wrong.get("contract/x"),
            "get_file": lambda: wrong.get_file("contract/x", tmp_path / "y"),
            "get_range": lambda: wrong.get_range("contract/x", 0, 1),
            "exists": lambda: wrong.exists("contract/x"),
            "list_keys": lambda: list(wrong.list_keys("contract/")),
            "delete": lambda: wrong.delete("contract/x"),
            "check": wrong.check,
        }
        with pytest.raises(StoreError) as caught:
            operations[operation]()
    assert (caught.value.code, caught.value.retryable) == ("blob_refused", False)
    assert secret not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


class SmallPages:
    """A client whose listings come two keys a page, as a store with many objects gives them by the thousand."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_paginator(self, operation: str) -> SmallPages:
        return SmallPages(self._client.get_paginator(operation))

    def paginate(self, **arguments: Any) -> Any:
        return self._client.paginate(**arguments, PaginationConfig={"PageSize": 2})


def test_a_listing_goes_on_past_one_page(s3_addresses: Callable[[str | None], Addresses]) -> None:
    prefix = f"contract/{uuid.uuid4().hex}/"
    keys = [f"{prefix}{i}" for i in range(5)]
    with s3_at(s3_addresses(None)) as blobs:
        for key in keys:
            blobs.put(key, b"")
        listed = list(S3Blobs(SmallPages(blobs.client), blobs.bucket).list_keys(prefix))
        for key in keys:
            blobs.delete(key)
    assert sorted(listed) == keys


class BreakingOff(BaseHTTPRequestHandler):
    """Promises 1,000 bytes and hangs up after 10."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(b"0123456789")
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_download_that_breaks_off_leaves_no_half_file_and_no_half_bytes(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BreakingOff)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    addresses = Addresses("", f"http://127.0.0.1:{server.server_port}", "id", "secret", "bucket", "")
    try:
        with s3_at(addresses) as blobs:
            for read in (lambda: blobs.get_file("x", tmp_path / "x"), lambda: blobs.get("x")):
                with pytest.raises(StoreError) as caught:
                    read()
                assert (caught.value.code, caught.value.retryable) == ("blob_store", True)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_not_there_may_be_asked_again_later(free_port: int) -> None:
    addresses = Addresses("", f"http://127.0.0.1:{free_port}", "id", "secret", "bucket", "")
    with s3_at(addresses) as blobs:
        for ask in (lambda: blobs.get("x"), blobs.check):
            with pytest.raises(StoreError) as caught:
                ask()
            assert (caught.value.code, caught.value.retryable) == ("blob_store", True)
            assert "secret" not in str(caught.value)


def test_an_object_has_a_size_and_a_missing_one_has_none(blobs: Blobs, folder: str) -> None:
    blobs.put(f"{folder}five", b"12345")
    blobs.put(f"{folder}none", b"")
    assert (blobs.size(f"{folder}five"), blobs.size(f"{folder}none")) == (5, 0)
    with pytest.raises(StoreError) as caught:
        blobs.size(f"{folder}missing")
    assert caught.value.code == "blob_not_found"


def test_a_signed_form_lets_a_stranger_send_one_object_of_so_many_bytes(
    s3_addresses: Callable[[str | None], Addresses],
) -> None:
    key = f"contract/{uuid.uuid4().hex}/sent"
    with s3_at(s3_addresses(None)) as s3:
        form = s3.sign_upload(key, 10, 60)

        def send(data: bytes, **changed: str) -> int:
            return httpx.post(form.url, data={**form.fields, **changed}, files={"file": data}, trust_env=False).status_code

        assert send(b"12345678901") >= 400, "more than was agreed on"
        assert send(b"12345", key=f"{key}-elsewhere") >= 400, "to another place"
        assert not s3.exists(key)
        assert not s3.exists(f"{key}-elsewhere")
        assert send(b"1234567890") < 300
        assert s3.get(key) == b"1234567890"
        s3.delete(key)


def test_a_signed_form_ends(s3_addresses: Callable[[str | None], Addresses]) -> None:
    key = f"contract/{uuid.uuid4().hex}/late"
    with s3_at(s3_addresses(None)) as s3:
        form = s3.sign_upload(key, 10, -1)
        assert httpx.post(form.url, data=form.fields, files={"file": b"12345"}, trust_env=False).status_code >= 400
        assert not s3.exists(key)
