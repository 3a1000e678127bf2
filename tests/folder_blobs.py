"""Blobs in a folder: what a process leaves there another one finds, also when the first was killed.

Belongs here: the fake. Does not belong here: tests; the contract suite runs against it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote

from lpm_kernel.errors import StoreError
from lpm_kernel.records import sha256_hex
from lpm_kernel.stores.blobs import DirectUpload, StoredObject

PART = ".part-"


class FolderBlobs:
    """One file an object, its key quoted into one name; a name appears when all of it is written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / quote(key, safe="")

    def put(self, key: str, data: bytes) -> None:
        write_whole(self._path(key), data)

    def put_file(self, key: str, path: Path) -> None:
        self.put(key, path.read_bytes())

    def get(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            raise StoreError("blob_not_found", f"no object at {key}", retryable=False) from None

    def get_file(self, key: str, path: Path) -> None:
        write_whole(path, self.get(key))

    def get_range(self, key: str, start: int, end: int) -> bytes:
        data = self.get(key)[start:end]
        if len(data) != max(0, end - start):
            raise StoreError("blob_range", f"{key} ends before byte {end}", retryable=False)
        return data

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def size(self, key: str) -> int:
        return len(self.get(key))

    def sign_upload(self, key: str, max_bytes: int, valid_s: int) -> DirectUpload:
        raise StoreError("direct_upload_unknown", "this store has no door of its own", retryable=False)

    def list_keys(self, prefix: str) -> Iterator[str]:
        keys = (unquote(path.name) for path in self._folder.iterdir() if not path.name.startswith(PART))
        yield from sorted(key for key in keys if key.startswith(prefix))

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:
        for key in self.list_keys(prefix):
            data, written = self.get(key), self._path(key).stat().st_mtime
            yield StoredObject(key, len(data), sha256_hex(data), datetime.fromtimestamp(written, UTC))

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def check(self) -> None:
        pass


def write_whole(path: Path, data: bytes) -> None:
    part = path.with_name(f"{PART}{uuid.uuid4().hex}")
    part.write_bytes(data)
    part.replace(path)
