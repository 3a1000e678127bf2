"""Adapters on local disk: fetched once, whole or not at all, and never another content than the one asked for."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.L2 import adapter_files
from lpm_kernel.L2.adapter_files import drop_local_copies, fetch_adapter
from lpm_kernel.layout import gguf_key
from lpm_kernel.records import sha256_hex
from lpm_kernel.stores.llm import AdapterFile
from tests.fakes import MemoryBlobs

DATA = b"an adapter's weights " * 500
SHA256 = sha256_hex(DATA)
KEY = gguf_key("1", SHA256)
BASE = "b" * 64


class CountingBlobs(MemoryBlobs):
    def __init__(self) -> None:
        super().__init__()
        self.fetched = 0

    def get_file(self, key: str, path: Path) -> None:
        self.fetched += 1
        super().get_file(key, path)


@pytest.fixture
def blobs() -> CountingBlobs:
    blobs = CountingBlobs()
    blobs.put(KEY, DATA)
    return blobs


def fetch(blobs: CountingBlobs, folder: Path) -> AdapterFile:
    return fetch_adapter(blobs, "1", KEY, SHA256, BASE, folder)


def test_an_adapter_is_fetched_once(blobs: CountingBlobs, tmp_path: Path) -> None:
    folder = tmp_path / "adapters"
    first = fetch(blobs, folder)
    assert first == fetch(blobs, folder) == AdapterFile(folder / f"1.{SHA256}.gguf", SHA256, BASE)
    assert first.path.read_bytes() == DATA
    assert blobs.fetched == 1
    assert list(folder.iterdir()) == [first.path]


def test_many_who_ask_at_once_fetch_it_once(blobs: CountingBlobs, tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def ask(_: int) -> AdapterFile:
        together.wait()
        return fetch(blobs, tmp_path)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert blobs.fetched == 1


@pytest.mark.parametrize("left", [b"", DATA[:-1], DATA[:-1] + b"?"], ids=["empty", "short", "another"])
def test_a_local_copy_of_another_content_is_fetched_anew(blobs: CountingBlobs, tmp_path: Path, left: bytes) -> None:
    """A file that a power failure cut short was handed out for ever, and each chat was told to train again."""
    (tmp_path / f"1.{SHA256}.gguf").write_bytes(left)
    assert fetch(blobs, tmp_path).path.read_bytes() == DATA
    assert blobs.fetched == 1


def test_a_copy_that_changes_after_it_was_checked_is_fetched_anew(blobs: CountingBlobs, tmp_path: Path) -> None:
    path = fetch(blobs, tmp_path).path
    fetch(blobs, tmp_path)
    path.write_bytes(DATA[:100])
    assert fetch(blobs, tmp_path).path.read_bytes() == DATA
    assert blobs.fetched == 2


def test_a_copy_is_hashed_again_only_when_it_changed(
    blobs: CountingBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []
    real = adapter_files.file_sha256

    def counting(path: Path) -> str:
        hashed.append(path)
        return real(path)

    monkeypatch.setattr(adapter_files, "file_sha256", counting)
    path = fetch(blobs, tmp_path).path
    for _ in range(5):
        fetch(blobs, tmp_path)
    assert [seen for seen in hashed if seen == path] == [path]
    os.utime(path, ns=(1, 1))
    fetch(blobs, tmp_path)
    assert [seen for seen in hashed if seen == path] == [path] * 2
    assert blobs.fetched == 1


def test_stored_bytes_of_another_content_are_refused_and_leave_what_was_there(blobs: CountingBlobs, tmp_path: Path) -> None:
    blobs.put(KEY, DATA[:-1])
    with pytest.raises(StoreError) as caught:
        fetch(blobs, tmp_path)
    assert (caught.value.code, caught.value.retryable) == ("adapter_damaged", False)
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_that_is_not_stored_is_named(blobs: CountingBlobs, tmp_path: Path) -> None:
    blobs.delete(KEY)
    with pytest.raises(StoreError) as caught:
        fetch(blobs, tmp_path)
    assert caught.value.code == "blob_not_found"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("named", ["../cache/base", "A" * 64, "", f"{SHA256}\n"])
def test_what_is_no_hash_leads_to_no_file(blobs: CountingBlobs, tmp_path: Path, named: str) -> None:
    """A release could name its adapter `../cache/base`, and forgetting it removed the base that everybody is served with."""
    adapters, base = tmp_path / "adapters", tmp_path / "cache" / "base.gguf"
    adapters.mkdir()
    base.parent.mkdir()
    base.write_bytes(DATA)
    (adapters / f"1.{named.strip()}.gguf").touch() if "/" not in named else None
    with pytest.raises(StoreError) as caught:
        fetch_adapter(blobs, "1", KEY, named, BASE, adapters)
    assert (caught.value.code, caught.value.retryable) == ("adapter_damaged", False)
    before = sorted(tmp_path.rglob("*"))
    drop_local_copies(adapters, "1", [named])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_local_copy_is_dropped_by_its_hash(blobs: CountingBlobs, tmp_path: Path) -> None:
    path = fetch(blobs, tmp_path).path
    drop_local_copies(tmp_path, "2", [SHA256])
    assert path.exists(), "another's of the same content"
    drop_local_copies(tmp_path, "1", [SHA256, "f" * 64])
    assert not path.exists()


def test_whoever_names_the_hash_of_anothers_adapter_is_given_nothing(blobs: CountingBlobs, tmp_path: Path) -> None:
    """A local copy was known by its hash alone: a release that named another's, as an archive may, was served with it."""
    fetch(blobs, tmp_path)
    for key in (gguf_key("2", SHA256), KEY):
        with pytest.raises(StoreError) as caught:
            fetch_adapter(blobs, "2", key, SHA256, BASE, tmp_path)
        assert caught.value.code in ("blob_not_found", "foreign_key")
    blobs.put(gguf_key("2", SHA256), DATA)
    assert fetch_adapter(blobs, "2", gguf_key("2", SHA256), SHA256, BASE, tmp_path).path.read_bytes() == DATA


@pytest.mark.parametrize("user_id", ["../1", "", "A"])
def test_what_is_no_user_leads_to_no_file(blobs: CountingBlobs, tmp_path: Path, user_id: str) -> None:
    with pytest.raises(UserInputError):
        drop_local_copies(tmp_path, user_id, [SHA256])
