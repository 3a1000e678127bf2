"""Blobs in memory: the test double of the port, which passes the same contract suite.

Belongs here: the fake. Does not belong here: tests; they are in `contracts/test_blobs.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from lpm_kernel.errors import StoreError
from lpm_kernel.records import sha256_hex
from lpm_kernel.stores.blobs import DirectUpload, StoredObject


class MemoryBlobs:
    """Blobs in a dict."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        self.objects[key] = bytes(data)

    def put_file(self, key: str, path: Path) -> None:
        self.put(key, path.read_bytes())

    def get(self, key: str) -> bytes:
        try:
            return self.objects[key]
        except KeyError:
            raise StoreError("blob_not_found", f"no object at {key}", retryable=False) from None

    def get_file(self, key: str, path: Path) -> None:
        path.write_bytes(self.get(key))

    def get_range(self, key: str, start: int, end: int) -> bytes:
        data = self.get(key)[start:end]
        if len(data) != max(0, end - start):
            raise StoreError("blob_range", f"{key} ends before byte {end}", retryable=False)
        return data

    def exists(self, key: str) -> bool:
        return key in self.objects

    def size(self, key: str) -> int:
        return len(self.get(key))

    def sign_upload(self, key: str, max_bytes: int, valid_s: int) -> DirectUpload:
        raise StoreError("direct_upload_unknown", "this store has no door of its own", retryable=False)

    def list_keys(self, prefix: str) -> Iterator[str]:
        yield from sorted(key for key in self.objects if key.startswith(prefix))

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:
        for key in self.list_keys(prefix):
            data = self.objects[key]
            yield StoredObject(key, len(data), sha256_hex(data), datetime.now(UTC))

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def check(self) -> None:
        pass
