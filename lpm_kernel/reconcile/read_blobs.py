"""What the blob store holds of one user: every object by its listing, and a share of them by their bytes.

Belongs here: that inventory. Each hour all sizes and ETags are looked at; read are objects with another ETag than when they
were last read, and by turns one in 24 of the rest, so that each is read once a day.
Does not belong here: what of it is wrong (`decide_blobs.py`).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from lpm_kernel.artefacts import decode_record, decode_records, encode_record, read_previous
from lpm_kernel.errors import StoreError
from lpm_kernel.L2.adapter_files import file_sha256, known_sha256, local_copy
from lpm_kernel.L2.records import Adapter
from lpm_kernel.layout import asset_key, tenant_prefix
from lpm_kernel.reconcile.inventory import BlobInventory, Truth
from lpm_kernel.records import Chunk, is_sha256, sha256_hex
from lpm_kernel.stores.blobs import Blobs, StoredObject, TenantBlobs
from lpm_kernel.stores.deletions import find_deletion
from lpm_kernel.stores.documents import lock_documents
from lpm_kernel.stores.tables import Tables
from lpm_kernel.stores.users import find_user

ETAGS = "reconciliation_etags"
"""A file beside the artefacts: the ETag of each object when its bytes were last found right."""
ROUNDS = 24
MOST_BYTES = 256_000_000
"""That are read of one user in one run; the rest is read in the next ones."""
WHOLE_BYTES = 16_000_000
"""Larger objects are read by way of the disk."""
NAMING = ("lora_adapter", "gguf_adapter", "dpo", "merged_model")
"""Records of these assets name weights by their hashes."""
_HASH = re.compile(r"[0-9a-f]{64}")
_NAMED_BY_HASH = re.compile(
    r"(?:raw|quarantine)/([0-9a-f]{64})|(?:lora|dpo)/([0-9a-f]{64})\.(?:safetensors|gguf)"
    r"|communities/([0-9a-f]{64})\.jsonl|merged/[0-9a-f]{64}/([0-9a-f]{64})\.gguf"
)


def read_blobs(
    blobs: Blobs, truth: Truth, adapters: Path, now: datetime, suspects: Collection[str] | None = None
) -> BlobInventory:
    """`suspects`: only these are read, as in the second look at what the first found; else what has its turn in this hour.

    Raises: StoreError.
    """
    user_id = truth.user_id
    own = TenantBlobs(blobs, user_id)
    objects = tuple(own.list_objects())
    weights, learned = _named_weights(own, user_id, objects)
    texts = _chunks_by_document(blobs, user_id)
    noted = read_previous(blobs, user_id, ETAGS, "json", lambda data: decode_record(data, dict[str, str])) or {}
    seen = {f"{own.prefix}{name}": etag for name, etag in noted.items()}
    due = _due(user_id, objects, seen, now) if suspects is None else [item for item in objects if item.key in suspects]
    damaged, right = _read(own, user_id, due, texts)
    note = None
    if suspects is None:
        there = {item.key for item in objects}
        known = {key: etag for key, etag in {**seen, **right}.items() if key in there and key not in damaged}
        # without the prefix: the file may be taken to another installation, under another id
        again = {key.removeprefix(own.prefix): etag for key, etag in sorted(known.items())}
        note = encode_record(again) if known != seen else None
    return BlobInventory(
        objects,
        frozenset(damaged),
        frozenset(weights),
        learned,
        _whole_copies(truth, adapters, {item.key for item in objects} - damaged),
        _sha256_of(own, asset_key(user_id, "communities", "jsonl")),
        note,
    )


def keep_note(tables: Tables, blobs: Blobs, user_id: str, note: bytes) -> None:
    """Which bytes were found right, for the next look; of somebody who is being deleted or has gone nothing is kept.

    Why under the lock of documents: a deletion that begins after it empties the store after it.
    """
    with tables.transaction(user_id) as connection:
        lock_documents(connection, user_id)
        going = find_deletion(connection, user_id)
        if find_user(connection, user_id) is not None and (going is None or going.done_at is not None):
            TenantBlobs(blobs, user_id).put(asset_key(user_id, ETAGS, "json"), note)


def _due(user_id: str, objects: Sequence[StoredObject], seen: Mapping[str, str], now: datetime) -> list[StoredObject]:
    """What is read in this hour: first what is new or changed, then by turns, as far as `MOST_BYTES` go."""
    hour = int(now.timestamp() // 3600) % ROUNDS
    checkable = [item for item in objects if hash_named_by(user_id, item.key) or _is_text(user_id, item.key)]
    fresh = [item for item in checkable if seen.get(item.key) != item.etag]
    turn = [item for item in checkable if seen.get(item.key) == item.etag and turn_of(item.key) == hour]
    due: list[StoredObject] = []
    left = MOST_BYTES
    for item in [*fresh, *turn]:
        if item.size_bytes <= left or not due:
            due.append(item)
            left -= item.size_bytes
    return due


def turn_of(key: str) -> int:
    """In which of the hours of a day an object is read that has not changed."""
    return int(sha256_hex(key.encode())[:8], 16) % ROUNDS


def hash_named_by(user_id: str, key: str) -> str | None:
    """The sha256 that the bytes at this key must have, where the key says so."""
    match = _NAMED_BY_HASH.fullmatch(key.removeprefix(tenant_prefix(user_id)))
    return next((found for found in match.groups() if found), None) if match else None


def _is_text(user_id: str, key: str) -> bool:
    return key.startswith(f"{tenant_prefix(user_id)}text/")


def _read(
    own: TenantBlobs, user_id: str, due: Sequence[StoredObject], texts: Mapping[str, Sequence[Chunk]]
) -> tuple[set[str], dict[str, str]]:
    """Keys whose bytes are others than named, and the ETags of those that are right."""
    damaged: set[str] = set()
    right: dict[str, str] = {}
    for item in due:
        try:
            wanted = hash_named_by(user_id, item.key)
            if wanted is None:
                sha256 = item.key.rpartition("/")[2].removesuffix(".txt")
                is_right = holds_chunks(own.get(item.key), texts.get(sha256, ()))
            else:
                is_right = _hash_of(own, item) == wanted
        except StoreError as error:
            if error.code != "blob_not_found":
                raise
            continue  # it went since it was listed
        if is_right:
            right[item.key] = item.etag
        else:
            damaged.add(item.key)
    return damaged, right


def holds_chunks(text: bytes, chunks: Sequence[Chunk]) -> bool:
    """Whether every chunk that points into this text finds its own bytes there."""
    return all(sha256_hex(text[chunk.byte_start : chunk.byte_end]) == chunk.text_sha256 for chunk in chunks)


def _hash_of(own: TenantBlobs, item: StoredObject) -> str:
    if item.size_bytes <= WHOLE_BYTES:
        return sha256_hex(own.get(item.key))
    with tempfile.TemporaryDirectory(prefix="twin-reconcile-") as folder:
        path = Path(folder) / "object"
        own.get_file(item.key, path)
        return file_sha256(path)


def _chunks_by_document(blobs: Blobs, user_id: str) -> dict[str, list[Chunk]]:
    by_document: dict[str, list[Chunk]] = {}
    for chunk in read_previous(blobs, user_id, "chunks", "jsonl", lambda data: decode_records(data, Chunk)) or []:
        by_document.setdefault(chunk.document_sha256, []).append(chunk)
    return by_document


def _named_weights(own: TenantBlobs, user_id: str, objects: Sequence[StoredObject]) -> tuple[set[str], dict[str, str]]:
    """Hashes that records name, and where each adapter's list of learned rows lies."""
    keys = [asset_key(user_id, asset, "json") for asset in NAMING]
    keys = [item.key for item in objects if item.key in keys or "/lora/recipe-" in item.key]
    named: set[str] = set()
    learned: dict[str, str] = {}
    for key in keys:
        try:
            data = own.get(key)
        except StoreError as error:
            if error.code != "blob_not_found":
                raise
            continue
        named |= set(_HASH.findall(data.decode(errors="replace")))
        if key.endswith("/lora_adapter.json") or "/lora/recipe-" in key:
            adapter = _adapter(data)
            if adapter and adapter.learned_key:
                learned[adapter.sha256] = adapter.learned_key
    return named, learned


def _adapter(data: bytes) -> Adapter | None:
    try:
        return decode_record(data, Adapter)
    except StoreError:
        return None  # of an older form, which the next training replaces


def _whole_copies(truth: Truth, adapters: Path, there: Collection[str]) -> frozenset[str]:
    """Adapters of releases that are lacking or damaged in the store while this machine has a whole copy."""
    lacking = {r.gguf_sha256 for r in truth.releases if r.gguf_key not in there and is_sha256(r.gguf_sha256)}
    return frozenset(sha256 for sha256 in lacking if known_sha256(local_copy(adapters, truth.user_id, sha256)) == sha256)


def _sha256_of(own: TenantBlobs, key: str) -> str | None:
    try:
        return sha256_hex(own.get(key))
    except StoreError as error:
        if error.code != "blob_not_found":
            raise
        return None
