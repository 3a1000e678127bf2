"""Making an archive: what a user has, as a stream of the bytes of a zip file.

Belongs here: the order of its parts, and that equal users give equal bytes.
Does not belong here: where the bytes go.

Rows are read before the first byte is given, so that what fails then can still be said. A blob that fails later ends the stream
without a manifest, and such an archive is refused by whoever is to take it in.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lpm_kernel.archive.form import (
    FACTS,
    FORMAT,
    LEFT_OUT,
    MANIFEST,
    MEMORIES,
    PIECE_BYTES,
    VERSION,
    Entry,
    Manifest,
    blob_path,
    is_exported,
    rows_path,
)
from lpm_kernel.archive.rows import exported_tables, read_rows
from lpm_kernel.artefacts import encode_record, encode_records
from lpm_kernel.errors import StoreError
from lpm_kernel.layout import assets_prefix, raw_key
from lpm_kernel.records import Fact, check_user_id
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.documents import list_documents
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.users import get_user

WHOLE_BYTES = 8 << 20
"""Larger blobs are fetched in pieces; those under `assets/` never, since the next run may put others in their place."""
_YEAR_ONE = (1980, 1, 1, 0, 0, 0)
_DENSE = ("blobs/lora/", "blobs/dpo/", "blobs/checkpoints/", "blobs/merged/")
"""Weights: packing them takes long and saves nothing."""


@dataclass(frozen=True, slots=True)
class Export:
    """An archive that can be made. `parts` are held in memory, `keys` are fetched while it is made."""

    user_id: str
    parts: dict[str, bytes]
    keys: tuple[str, ...]
    counts: dict[str, int]
    own: TenantBlobs

    def pieces(self) -> Iterator[bytes]:
        """The bytes of the zip file. Raises: StoreError, and then what was given is no whole archive."""
        sink, entries = _Sink(), list[Entry]()
        with zipfile.ZipFile(sink, "w") as archive:  # type: ignore[call-overload]  # it needs write alone
            for path, size_bytes, pieces in self._contents():
                digest, written = hashlib.sha256(), 0
                with archive.open(_info(path), "w", force_zip64=size_bytes >= 1 << 30) as file:
                    for piece in pieces:
                        file.write(piece)
                        digest.update(piece)
                        written += len(piece)
                        yield sink.take()
                entries.append(Entry(path, written, digest.hexdigest()))
            manifest = Manifest(FORMAT, VERSION, self.user_id, self.counts, LEFT_OUT, tuple(entries))
            archive.writestr(_info(MANIFEST), encode_record(manifest))
        yield sink.take()

    def _contents(self) -> Iterator[tuple[str, int, Iterable[bytes]]]:
        for path, data in self.parts.items():
            yield path, len(data), [data]
        for key in self.keys:
            size_bytes = self.own.size(key)
            yield blob_path(self.user_id, key), size_bytes, self._blob(key, size_bytes)

    def _blob(self, key: str, size_bytes: int) -> Iterator[bytes]:
        if size_bytes <= WHOLE_BYTES or key.startswith(assets_prefix(self.user_id)):
            yield self.own.get(key)
            return
        for start in range(0, size_bytes, PIECE_BYTES):
            yield self.own.get_range(key, start, min(start + PIECE_BYTES, size_bytes))


def open_export(stores: Stores, user_id: str) -> Export:
    """Everything of a user that is in rows, memories and graph, and what blobs there are.

    Raises: UserInputError `twin_not_found`; StoreError, `export_changed` (retryable) too when a document went meanwhile.
    """
    check_user_id(user_id)
    with stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)
        # what refers to others comes first: what is written meanwhile is then there to be referred to
        rows = {table.name: read_rows(connection, table, user_id) for table in reversed(exported_tables())}
        documents = list_documents(connection, user_id)
    memories = stores.memories.every(user_id)
    facts = sorted(stores.graph.list_facts(user_id), key=lambda fact: _place_of(fact, user_id))
    own = TenantBlobs(stores.blobs, user_id)
    keys = tuple(sorted(key for key in own.list_keys() if is_exported(user_id, key)))
    there = set(keys)
    if any(row.status in ("received", "read") and raw_key(user_id, row.sha256) not in there for row in documents):
        raise StoreError("export_changed", "a document went while it was exported: export again")
    parts = {rows_path(table.name): rows[table.name] for table in exported_tables()}
    parts |= {MEMORIES: encode_records(memories), FACTS: encode_records(facts)}
    counts = {table.name: rows[table.name].count(b"\n") for table in exported_tables()}
    return Export(user_id, parts, keys, {**counts, "memories": len(memories), "facts": len(facts), "blobs": len(keys)}, own)


def _place_of(fact: Fact, user_id: str) -> tuple[Any, ...]:
    """An order that is the same whatever the user is called: the graph's own ends with ids that have the user in them."""
    ends = ((end.kind, "" if end.name == user_id else end.name) for end in (fact.subject, fact.object))
    return (fact.valid_at, fact.created_at, fact.relation, *ends, fact.text)


def _info(path: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, _YEAR_ONE)
    info.compress_type = zipfile.ZIP_STORED if path.startswith(_DENSE) else zipfile.ZIP_DEFLATED
    info.external_attr = 0o600 << 16
    info.create_system = 3
    return info


class _Sink:
    """What a zip file is written to, and taken from as it comes."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._held.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        held, self._held = b"".join(self._held), []
        return held
