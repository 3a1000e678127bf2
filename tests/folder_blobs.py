"""Blobs in a folder: what a process leaves there another one finds, also when the first was killed.

Belongs here: the fake. Does not belong here: tests; the contract suite runs against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lpm_kernel.errors import StoreError


class FolderBlobs:
    """One file an object; a name appears when all of it is written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, key: str, data: bytes) -> None:
        path = self._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(data)
        part.replace(path)

    def put_file(self, key: str, path: Path) -> None:
        self.put(key, path.read_bytes())

    def get(self, key: str) -> bytes:
        try:
            return (self._folder / key).read_bytes()
        except FileNotFoundError:
            raise StoreError("blob_not_found", f"no object at {key}", retryable=False) from None

    def get_file(self, key: str, path: Path) -> None:
        path.write_bytes(self.get(key))

    def get_range(self, key: str, start: int, end: int) -> bytes:
        data = self.get(key)[start:end]
        if len(data) != max(0, end - start):
            raise StoreError("blob_range", f"{key} ends before byte {end}", retryable=False)
        return data

    def exists(self, key: str) -> bool:
        return (self._folder / key).is_file()

    def list_keys(self, prefix: str) -> Iterator[str]:
        paths = (path for path in self._folder.rglob("*") if path.is_file() and not path.name.endswith(".part"))
        keys = sorted(path.relative_to(self._folder).as_posix() for path in paths)
        yield from (key for key in keys if key.startswith(prefix))

    def delete(self, key: str) -> None:
        (self._folder / key).unlink(missing_ok=True)

    def check(self) -> None:
        pass
