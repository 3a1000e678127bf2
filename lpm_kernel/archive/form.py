"""The form of an archive: what lies where in it, and the manifest that it is checked by.

Belongs here: names, records, and how what names a user is made to name another.
Does not belong here: making an archive (`write.py`), trusting one (`check.py`), taking one in (`restore.py`).

    rows/{table}.jsonl   the rows of each table, without the user id and without the marks of one installation's pipeline
    memories.jsonl       every memory, the superseded too
    facts.jsonl          the facts of the graph
    blobs/...            every object under the user's prefix: files, read texts, artefacts, adapters
    manifest.json        last: the counts, and size and sha256 of everything before it
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from lpm_kernel.layout import import_mark_key, staging_prefix, tenant_prefix

FORMAT = "digital-twin-archive"
VERSION = 1
MANIFEST = "manifest.json"
MEMORIES = "memories.jsonl"
FACTS = "facts.jsonl"
BLOBS = "blobs/"
PIECE_BYTES = 1 << 20

_BLOB_PATH = re.compile(
    r"blobs/(golden\.yaml|(raw|text|quarantine|assets|lora|dpo|checkpoints|merged|communities|written)(/[A-Za-z0-9_][\w.-]*)+)"
)
_ROWS_PATH = re.compile(r"rows/[a-z_]+\.jsonl")
_BY_CONTENT = re.compile(r"blobs/(raw|quarantine|lora|dpo)/([0-9a-f]{64})(\.safetensors|\.gguf)?")
"""Objects whose name is the sha256 of their bytes."""
_ADDRESSES = re.compile(r"(.*_)?(key|path)")


@dataclass(frozen=True, slots=True)
class Entry:
    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`user_id` is whose it was. `left_out` says what of a user an archive does not hold, and why."""

    format: str
    version: int
    user_id: str
    counts: dict[str, int]
    left_out: tuple[str, ...]
    entries: tuple[Entry, ...]


LEFT_OUT = (
    "search vectors: made anew from the chunks and their embeddings",
    "dead letters and marks of work to do: they are of one installation's pipeline",
    "uploads that were not taken in yet",
    "whose account on Telegram or X is whose: it is said anew on each installation",
)


def rows_path(table: str) -> str:
    return f"rows/{table}.jsonl"


def blob_path(user_id: str, key: str) -> str:
    return BLOBS + key.removeprefix(tenant_prefix(user_id))


def key_of(user_id: str, path: str) -> str:
    return tenant_prefix(user_id) + path.removeprefix(BLOBS)


def is_exported(user_id: str, key: str) -> bool:
    return not key.startswith(staging_prefix(user_id)) and key != import_mark_key(user_id)


def is_known_path(path: str) -> bool:
    """Whether an archive of ours may hold something there; nothing else is ever made a key of."""
    return path in (MANIFEST, MEMORIES, FACTS) or bool(_ROWS_PATH.fullmatch(path) or _BLOB_PATH.fullmatch(path))


def sha256_in_name(path: str) -> str | None:
    found = _BY_CONTENT.fullmatch(path)
    return found.group(2) if found else None


def holds_records(path: str) -> bool:
    """Blobs whose records name their user."""
    return path.startswith(("blobs/assets/", "blobs/lora/", "blobs/dpo/")) and path.endswith((".json", ".jsonl"))


def readdress(value: Any, old: str, new: str, name: str = "") -> Any:
    """A record of one user as another's: their id, and keys under their prefix. Words are left as they are."""
    if isinstance(value, dict):
        return {key: readdress(item, old, new, key) for key, item in value.items()}
    if isinstance(value, list):
        return [readdress(item, old, new, name) for item in value]
    if isinstance(value, str):
        if name == "user_id" and value == old:
            return new
        if _ADDRESSES.fullmatch(name) and value.startswith(tenant_prefix(old)):
            return tenant_prefix(new) + value.removeprefix(tenant_prefix(old))
    return value
