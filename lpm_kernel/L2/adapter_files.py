"""Adapters on local disk: fetched once from the blob store and checked before anything loads them.

Belongs here: the local copies, by person and content. Why by person: that a copy is there for somebody means that they have
these bytes in the store; of a content alone it would let whoever can name a hash be answered by its owner's weights.
Does not belong here: loading them into llama.cpp (`adapter_cache.py`).
"""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from weakref import WeakValueDictionary

from lpm_kernel.errors import StoreError
from lpm_kernel.records import check_user_id, is_sha256
from lpm_kernel.stores.blobs import Blobs, TenantBlobs
from lpm_kernel.stores.llm import AdapterFile


def fetch_adapter(blobs: Blobs, user_id: str, key: str, sha256: str, base_sha256: str, folder: Path) -> AdapterFile:
    """A local copy whose content is known to be `sha256`; the file appears whole or not at all.

    Idempotent, and fetched once however many threads ask; a local copy of another content, as a power failure may leave it,
    is fetched anew.
    Raises: StoreError `adapter_damaged` when the stored bytes have another hash, or what is asked for is none.
    """
    path = local_copy(folder, user_id, sha256)
    if known_sha256(path) != sha256:
        with _fetching(path):
            if known_sha256(path) != sha256:  # nobody fetched it meanwhile
                _fetch(TenantBlobs(blobs, user_id), key, sha256, path)
    return AdapterFile(path, sha256, base_sha256)


def local_copy(folder: Path, user_id: str, sha256: str) -> Path:
    """Where it lies, if it does.

    Raises: UserInputError `user_id_invalid`; StoreError `adapter_damaged` for what is no sha256, and may lead out of it.
    """
    if not is_sha256(sha256):
        raise StoreError("adapter_damaged", "the adapter is named by what is no sha256", retryable=False)
    return folder / f"{check_user_id(user_id)}.{sha256}.gguf"


def drop_local_copies(folder: Path, user_id: str, sha256s: Collection[str]) -> None:
    """This user's, and nobody else's of the same content. Of what is no sha256 there is none."""
    for sha256 in filter(is_sha256, sha256s):
        local_copy(folder, user_id, sha256).unlink(missing_ok=True)
        (folder / f"{sha256}.gguf").unlink(missing_ok=True)  # as copies were named once


def _fetch(own: TenantBlobs, key: str, sha256: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        own.get_file(key, part)
        found = file_sha256(part)
        if found != sha256:
            raise StoreError("adapter_damaged", f"{key} has sha256 {found[:12]}, not {sha256[:12]}", retryable=False)
        _flush(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


_locks: WeakValueDictionary[Path, threading.Lock] = WeakValueDictionary()
_locks_lock = threading.Lock()


def _fetching(path: Path) -> threading.Lock:
    """One caller at a time fetches a file; the others find it there. The lock lives as long as somebody holds on to it."""
    with _locks_lock:
        return _locks.setdefault(path, threading.Lock())


def known_sha256(path: Path) -> str | None:
    """Hash of the file as it stands; None without one."""
    try:
        stat = path.stat()
        return _sha256_at(path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    except FileNotFoundError:
        return None


@lru_cache(maxsize=4096)
def _sha256_at(path: Path, inode: int, size_bytes: int, mtime_ns: int, ctime_ns: int) -> str:
    """Why remembered by size and times: every chat asks, and hashing an adapter takes longer than finding its lines."""
    return file_sha256(path)


def _flush(path: Path) -> None:
    """Bring the bytes to the disk before the name is: after a power failure the name would stand for a shorter file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
