"""Taking an archive in: into a user who is new, or of whom there is nothing.

Belongs here: the order in which it is written, and what is made to fit this installation.
Does not belong here: trusting the archive (`check.py`).

What differs afterwards from what was exported: keys and the field `user_id` name the new user, an entity of the graph that is
the user is the new one, and every document waits to be looked at by this installation's pipeline. Ids of chunks, messages,
memories and releases stay what they are. A release serves at once where the memory that it names can be made from what came
with it; else the user is without one until the pipeline has built it.

Bytes come first and rows last, so that an import that broke off has made nothing known; sent again, it is completed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO

from lpm_kernel.archive.check import Archive, open_archive, parse_lines
from lpm_kernel.archive.form import (
    FACTS,
    MEMORIES,
    PIECE_BYTES,
    Entry,
    holds_records,
    is_exported,
    key_of,
    readdress,
    rows_path,
)
from lpm_kernel.archive.rows import check_rows, exported_tables, write_rows
from lpm_kernel.artefacts import decode_records, decode_table, read_previous
from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.L0.embed import chunk_texts, generation_of, vector_entries
from lpm_kernel.L0.intake import check_filename
from lpm_kernel.L0.library import fetch_texts
from lpm_kernel.layout import import_mark_key, tenant_prefix
from lpm_kernel.records import Chunk, Fact, GraphEntity, Memory, Release, User, check_user_id
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.documents import list_documents, lock_documents, mark_waiting
from lpm_kernel.stores.memories import check_memory, check_memory_id
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import list_releases, live_release, retire_live
from lpm_kernel.stores.users import add_user

if TYPE_CHECKING:
    from sqlalchemy import Connection

SMALL_BYTES = 8 << 20
MEMORIES_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Restored:
    """`serves`: whether its release answers chats now. `counts` are the manifest's."""

    user_id: str
    was: str
    counts: dict[str, int]
    serves: bool


@dataclass(frozen=True, slots=True)
class _Content:
    """What of an archive is rows and records, checked, as the new user's."""

    rows: dict[str, list[dict[str, Any]]]
    memories: list[Memory]
    facts: list[Fact]


def import_user(stores: Stores, user_id: str, file: BinaryIO) -> Restored:
    """Make this user what the archive holds. Nothing is written before all of it was looked through.

    Idempotent until it is whole: one that broke off is completed by the same archive.
    Raises: UserInputError `user_id_invalid`, `user_not_empty`, `deletion_under_way`, `document_limit`, and as `open_archive`;
    StoreError, LlmError.
    """
    check_user_id(user_id)
    archive = open_archive(file, stores.settings.serving.archive_mb)
    content = _read_content(archive, user_id)
    _check_documents(stores, archive, content.rows["document"])
    own = TenantBlobs(stores.blobs, user_id)
    _check_empty(stores, own, user_id, archive.sign)
    own.put(import_mark_key(user_id), archive.sign.encode())
    with stores.tables.transaction(user_id) as connection:
        add_user(connection, User(user_id))
    for entry in archive.blobs:
        _put_blob(own, archive, entry, user_id)
    for first in range(0, len(content.memories), MEMORIES_AT_ONCE):
        stores.memories.add_batch(user_id, content.memories[first : first + MEMORIES_AT_ONCE])
    stores.graph.write_facts(user_id, content.facts)
    generation = _restore_vectors(stores, user_id)
    with _rows_fit(), stores.tables.transaction(user_id) as connection:
        lock_documents(connection, user_id)
        if list_documents(connection, user_id):
            raise _not_empty(user_id)
        for table in exported_tables():
            write_rows(connection, table, user_id, content.rows[table.name])
        _check_releases(connection, user_id)
        live = live_release(connection, user_id)
        if live is not None and live.memory_generation != generation:
            retire_live(connection, user_id)
        mark_waiting(connection, user_id)
    own.delete(import_mark_key(user_id))
    serves = live is not None and live.memory_generation == generation
    return Restored(user_id, archive.manifest.user_id, archive.manifest.counts, serves)


def _read_content(archive: Archive, user_id: str) -> _Content:
    old = archive.manifest.user_id
    there = {entry.path for entry in archive.manifest.entries}
    tables = {table.name: table for table in exported_tables()}
    foreign = {path for path in there if path.startswith("rows/")} - {rows_path(name) for name in tables}
    if foreign or MEMORIES not in there or FACTS not in there or not {rows_path(n) for n in ("app_user", "document")} <= there:
        raise UserInputError("archive_foreign", "it holds other tables than this version has: upgrade it first")
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, table in tables.items():
        rows[name] = (
            archive.lines(rows_path(name)) if rows_path(name) in there else []
        )  # a table that is newer than the archive
        check_rows(table, rows[name])
        rows[name] = [readdress(row, old, user_id) for row in rows[name]]
    memories = [_as_own(memory, old, user_id) for memory in archive.records(MEMORIES, Memory)]
    facts = [_fact_of(fact, old, user_id) for fact in archive.records(FACTS, Fact)]
    if len(rows["app_user"]) != 1:
        raise UserInputError("archive_damaged", "the archive is damaged: it is of no one person; export it again")
    return _Content(rows, memories, facts)


def _as_own(memory: Memory, old: str, user_id: str) -> Memory:
    if memory.user_id != old:
        raise UserInputError("archive_damaged", "the archive is damaged: a memory in it is of another person; export it again")
    memory = replace(memory, user_id=user_id, memory_id=check_memory_id(user_id, memory.memory_id))
    check_memory(user_id, memory)
    return memory


def _fact_of(fact: Fact, old: str, user_id: str) -> Fact:
    if fact.user_id != old or fact.valid_at.tzinfo is None or fact.created_at.tzinfo is None:
        raise UserInputError("archive_damaged", "the archive is damaged: a fact in it is of another form; export it again")

    def renamed(entity: GraphEntity) -> GraphEntity:
        return replace(entity, name=user_id) if (entity.kind, entity.name) == ("User", old) else entity

    return replace(fact, user_id=user_id, subject=renamed(fact.subject), object=renamed(fact.object))


def _check_documents(stores: Stores, archive: Archive, rows: list[dict[str, Any]]) -> None:
    """The bounds that the door holds every file to, and that each document that is to be there is."""
    limits = stores.settings.limits
    kept = [row for row in rows if row.get("status") in ("received", "read")]
    if len(kept) > limits.documents_per_user:
        raise UserInputError(
            "document_limit", f"it has {len(kept)} documents, and {limits.documents_per_user} are allowed here"
        )
    sizes = {entry.path: entry.size_bytes for entry in archive.manifest.entries}
    for row in kept:
        sha256, name = row.get("sha256"), row.get("filename")
        size_bytes = sizes.get(f"blobs/raw/{sha256}")
        if size_bytes is None or size_bytes != row.get("size_bytes") or check_filename(str(name)) != name:
            raise UserInputError("archive_damaged", "the archive is damaged: a document lacks its bytes; export it again")
        if row["status"] == "read" and f"blobs/text/{sha256}.txt" not in sizes:
            raise UserInputError("archive_damaged", "the archive is damaged: a document lacks its text; export it again")
        if size_bytes > limits.document_size_mb * 1_000_000:
            raise UserInputError("document_limit", f"a document of it is larger than the {limits.document_size_mb} MB allowed")


def _check_empty(stores: Stores, own: TenantBlobs, user_id: str, sign: str) -> None:
    """Nothing of anybody is there, or what an import of this very archive left. Raises: UserInputError `user_not_empty`."""
    keys = list(own.list_keys())
    if import_mark_key(user_id) in keys:
        if own.get(import_mark_key(user_id)).decode(errors="replace") != sign:
            raise UserInputError(
                "user_not_empty",
                f"an import of another archive into {user_id} broke off: delete the user, or send that one again",
            )
        return
    with stores.tables.transaction(user_id) as connection:
        rows = sum(_count(connection, name, user_id) for name in ("document", "chat_message", "release"))
    blobs = any(is_exported(user_id, key) for key in keys)
    if rows or blobs or stores.memories.every(user_id) or stores.graph.count(user_id).facts:
        raise _not_empty(user_id)


def _count(connection: Connection, name: str, user_id: str) -> int:
    from sqlalchemy import func, select

    table = next(table for table in exported_tables() if table.name == name)
    return connection.execute(select(func.count()).select_from(table).where(table.c.user_id == user_id)).scalar_one()


def _not_empty(user_id: str) -> UserInputError:
    return UserInputError("user_not_empty", f"user {user_id} has something already: import into a new user, or delete this one")


def _put_blob(own: TenantBlobs, archive: Archive, entry: Entry, user_id: str) -> None:
    key, old = key_of(user_id, entry.path), archive.manifest.user_id
    if holds_records(entry.path):
        own.put(key, _readdressed(archive.read(entry.path), entry.path, old, user_id))
    elif entry.size_bytes <= SMALL_BYTES:
        own.put(key, archive.read(entry.path))
    else:
        with TemporaryDirectory(prefix="twin-import-") as folder, archive.open(entry.path) as part:
            path = Path(folder) / "part"
            with path.open("wb") as copy:
                while piece := part.read(PIECE_BYTES):
                    copy.write(piece)
            own.put_file(key, path)


def _readdressed(data: bytes, path: str, old: str, new: str) -> bytes:
    """As it is where it names nobody else: equal users give equal archives."""
    if old == new or (tenant_prefix(old).encode() not in data and f'"{old}"'.encode() not in data):
        return data
    try:
        if path.endswith(".jsonl"):
            return b"".join(_compact(readdress(line, old, new)) + b"\n" for line in parse_lines(data, path))
        return json.dumps(readdress(json.loads(data), old, new), ensure_ascii=False, indent=1).encode()
    except (ValueError, RecursionError):
        raise UserInputError("archive_damaged", "the archive is damaged: a record in it is no JSON; export it again") from None


def _compact(record: Any) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


def _restore_vectors(stores: Stores, user_id: str) -> str | None:
    """The generation that chunks and embeddings give, searchable again; None where they do not belong together."""
    blobs = stores.blobs
    chunks = read_previous(blobs, user_id, "chunks", "jsonl", lambda data: decode_records(data, Chunk))
    table = read_previous(blobs, user_id, "embeddings", "parquet", decode_table)
    if not chunks or table is None or list(table.chunk_ids) != [chunk.chunk_id for chunk in chunks]:
        return None
    if any(chunk.user_id != user_id or not chunk.text_key.startswith(tenant_prefix(user_id)) for chunk in chunks):
        return None
    try:
        items = chunk_texts(chunks, fetch_texts(chunks, blobs))
    except (StoreError, UnicodeDecodeError) as error:
        if isinstance(error, StoreError) and error.code != "blob_not_found":
            raise
        return None
    generation = generation_of(table)
    stores.vectors.sync(user_id, generation, vector_entries(items, table), table.fingerprint)
    return generation


def _check_releases(connection: Connection, user_id: str) -> None:
    """Raises: UserInputError `archive_damaged` where a manifest leads to somebody else's files."""
    prefix = tenant_prefix(user_id)

    def leads_home(release: Release) -> bool:
        keys = (release.gguf_key, release.communities_key)
        return release.user_id == user_id and all(key is None or key.startswith(prefix) for key in keys)

    if not all(leads_home(release) for release in list_releases(connection, user_id)):
        raise UserInputError("archive_damaged", "the archive is damaged: a release in it is of another user; export it again")


@contextmanager
def _rows_fit() -> Iterator[None]:
    """What PostgreSQL refuses of an archive's rows is the archive's fault, and is said so."""
    try:
        yield
    except StoreError as error:
        if error.code not in ("tables_refused", "artefact_unreadable"):
            raise
        raise UserInputError(
            "archive_damaged", "the archive is damaged: a row in it is none that may be; export it again"
        ) from error
