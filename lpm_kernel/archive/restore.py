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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from lpm_kernel.archive.check import Archive, open_archive, parse_line
from lpm_kernel.archive.form import (
    FACTS,
    MEMORIES,
    Entry,
    holds_records,
    is_exported,
    key_of,
    readdress,
    rows_path,
)
from lpm_kernel.archive.rows import PLANS, checked_rows, exported_tables, write_rows
from lpm_kernel.archive.tables import check_table
from lpm_kernel.artefacts import decode_records, decode_table, read_previous
from lpm_kernel.errors import StoreError, TrainingError, UserInputError
from lpm_kernel.L0.embed import chunk_texts, generation_of, vector_entries
from lpm_kernel.L0.intake import check_filename
from lpm_kernel.L0.library import fetch_texts
from lpm_kernel.L2.gguf_adapter import read_adapter
from lpm_kernel.layout import import_mark_key, tenant_prefix
from lpm_kernel.records import Chunk, Fact, GraphEntity, Memory, Release, User, check_user_id
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.documents import list_documents, lock_documents, mark_waiting
from lpm_kernel.stores.draft_places import name_places
from lpm_kernel.stores.locks import Lease
from lpm_kernel.stores.memories import check_memory, check_memory_id
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import list_releases, live_release, retire_live
from lpm_kernel.stores.schema import document
from lpm_kernel.stores.users import add_user

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

T = TypeVar("T")
SMALL_BYTES = 8 << 20
LEASE_S = 120.0
"""After which an import that says nothing is taken for dead; making its vectors anew says nothing for longest."""
AT_ONCE = 200
"""Rows, memories or facts that are held and written together."""
MOST_OVERLAP = 4
"""Times longer that all chunks together may be than the texts that they are of."""


@dataclass(frozen=True, slots=True)
class Restored:
    """`serves`: whether its release answers chats now. `counts` are the manifest's."""

    user_id: str
    was: str
    counts: dict[str, int]
    serves: bool


@dataclass(frozen=True, slots=True)
class _Content:
    """What of an archive is rows and records, as the new user's: looked at anew each time, one by one, since a small archive
    may hold more of them than there is memory."""

    archive: Archive
    user_id: str

    def rows(self, table: Table) -> Iterator[dict[str, Any]]:
        path, old = rows_path(table.name), self.archive.manifest.user_id
        if any(entry.path == path for entry in self.archive.manifest.entries):  # a table may be newer than the archive
            for row in checked_rows(table, self.archive.lines(path)):
                yield readdress(row, old, self.user_id)

    def memories(self) -> Iterator[Memory]:
        old = self.archive.manifest.user_id
        return (_as_own(memory, old, self.user_id) for memory in self.archive.records(MEMORIES, Memory))

    def facts(self) -> Iterator[Fact]:
        old = self.archive.manifest.user_id
        return (_fact_of(fact, old, self.user_id) for fact in self.archive.records(FACTS, Fact))


def import_user(stores: Stores, user_id: str, file: BinaryIO) -> Restored:
    """Make this user what the archive holds. Nothing is written before all of it was looked through.

    Idempotent until it is whole: one that broke off is completed by the same archive.
    Raises: UserInputError `user_id_invalid`, `user_not_empty`, `deletion_under_way`, `document_limit`, and as `open_archive`
    and `check_table`; StoreError, among them `lease_held` and `lease_lost` where somebody else changes this user; LlmError,
    EngineError.
    """
    check_user_id(user_id)
    archive = open_archive(file, stores.settings.serving.archive_mb)
    content = _look_through(archive, user_id)
    _check_documents(stores, archive, content.rows(document))
    _check_adapters(archive)
    _check_tables(archive)
    with stores.locks.hold(user_id, lease_s=LEASE_S) as lease:
        return _import(stores, user_id, archive, content, lease)


def _import(stores: Stores, user_id: str, archive: Archive, content: _Content, lease: Lease) -> Restored:
    own = TenantBlobs(stores.blobs, user_id)
    _check_empty(stores, own, user_id, archive.sign)
    own.put(import_mark_key(user_id), archive.sign.encode())
    with stores.tables.transaction(user_id) as connection:
        lease.check(connection)
        add_user(connection, User(user_id))
    for entry in archive.blobs:
        lease.keep()
        _put_blob(own, archive, entry, user_id)
    for memories in _batches(content.memories()):
        lease.keep()
        stores.memories.add_batch(user_id, memories)
    for facts in _batches(content.facts()):
        lease.keep()
        stores.graph.write_facts(user_id, facts)
    lease.keep()
    generation = _restore_vectors(stores, user_id)
    with _rows_fit(), stores.tables.transaction(user_id) as connection:
        lease.check(connection)
        lock_documents(connection, user_id)
        if list_documents(connection, user_id):
            raise _not_empty(user_id)
        for table in exported_tables():
            for rows in _batches(content.rows(table)):
                write_rows(connection, table, user_id, rows)
        name_places(connection, user_id)  # an older archive does not say what its drafts quote
        _check_releases(connection, user_id)
        live = live_release(connection, user_id)
        if live is not None and live.memory_generation != generation:
            retire_live(connection, user_id)
        mark_waiting(connection, user_id)
    own.delete(import_mark_key(user_id))
    serves = live is not None and live.memory_generation == generation
    return Restored(user_id, archive.manifest.user_id, archive.manifest.counts, serves)


def _look_through(archive: Archive, user_id: str) -> _Content:
    there = {entry.path for entry in archive.manifest.entries}
    tables = exported_tables()
    foreign = {path for path in there if path.startswith("rows/")} - {rows_path(table.name) for table in tables}
    foreign -= {rows_path(name) for name in PLANS}  # of older archives, and not taken in
    if foreign or MEMORIES not in there or FACTS not in there or not {rows_path(n) for n in ("app_user", "document")} <= there:
        raise UserInputError("archive_foreign", "it holds other tables than this version has: upgrade it first")
    content = _Content(archive, user_id)
    counts = {table.name: sum(1 for _ in content.rows(table)) for table in tables}
    for _ in chain(content.memories(), content.facts()):
        pass  # each was looked at on the way
    if counts["app_user"] != 1:
        raise UserInputError("archive_damaged", "the archive is damaged: it is of no one person; export it again")
    return content


def _batches(items: Iterator[T]) -> Iterator[list[T]]:
    return iter(lambda: list(islice(items, AT_ONCE)), [])


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


def _check_documents(stores: Stores, archive: Archive, rows: Iterable[dict[str, Any]]) -> None:
    """The bounds that the door holds every file to, and that each document that is to be there is."""
    limits = stores.settings.limits
    documents = (row for row in rows if row.get("status") in ("received", "read"))
    allowed = limits.documents_per_user + limits.social_documents_per_user
    kept = list(islice(documents, allowed + 1))
    for social, most in ((False, limits.documents_per_user), (True, limits.social_documents_per_user)):
        if len(kept) > allowed or sum((row.get("source") != "upload") is social for row in kept) > most:
            raise UserInputError("document_limit", f"it has more documents than the {most} that are allowed here")
    most_mb = max(limits.document_size_mb, stores.settings.serving.presigned_mb)
    sizes = {entry.path: entry.size_bytes for entry in archive.manifest.entries}
    for row in kept:
        sha256, name = row.get("sha256"), row.get("filename")
        size_bytes = sizes.get(f"blobs/raw/{sha256}")
        if size_bytes is None or size_bytes != row.get("size_bytes") or check_filename(str(name)) != name:
            raise UserInputError("archive_damaged", "the archive is damaged: a document lacks its bytes; export it again")
        if row["status"] == "read" and f"blobs/text/{sha256}.txt" not in sizes:
            raise UserInputError("archive_damaged", "the archive is damaged: a document lacks its text; export it again")
        if size_bytes > most_mb * 1_000_000:
            raise UserInputError("document_limit", f"a document of it is larger than the {most_mb} MB allowed")


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


def _check_adapters(archive: Archive) -> None:
    """Raises: UserInputError `archive_damaged` for one that no engine would be given."""
    for entry in archive.blobs:
        if entry.path.startswith("blobs/lora/") and entry.path.endswith(".gguf"):
            with _written_to_disk(archive.pieces(entry.path)) as path:
                try:
                    read_adapter(path)
                except TrainingError:
                    raise UserInputError(
                        "archive_damaged", "the archive is damaged: an adapter in it is none that may be; export it again"
                    ) from None


def _check_tables(archive: Archive) -> None:
    """Raises: as `check_table`."""
    for entry in archive.blobs:
        if entry.path.endswith(".parquet"):
            with _written_to_disk(archive.pieces(entry.path)) as path:
                check_table(path)


def _put_blob(own: TenantBlobs, archive: Archive, entry: Entry, user_id: str) -> None:
    key, old = key_of(user_id, entry.path), archive.manifest.user_id
    pieces = archive.pieces(entry.path)
    if holds_records(entry.path):
        if entry.path.endswith(".json"):
            pieces = iter([b"".join(pieces)])
        pieces = (_readdressed(record, entry.path, old, user_id) for record in pieces)
    if entry.size_bytes <= SMALL_BYTES:
        own.put(key, b"".join(pieces))
    else:
        with _written_to_disk(pieces) as path:
            own.put_file(key, path)


@contextmanager
def _written_to_disk(pieces: Iterable[bytes]) -> Iterator[Path]:
    with TemporaryDirectory(prefix="twin-import-") as folder:
        path = Path(folder) / "part"
        with path.open("wb") as copy:
            copy.writelines(pieces)
        yield path


def _readdressed(record: bytes, path: str, old: str, new: str) -> bytes:
    """One record, as it is where it names nobody else: equal users give equal archives."""
    if old == new or (tenant_prefix(old).encode() not in record and f'"{old}"'.encode() not in record):
        return record
    told = readdress(parse_line(record, path), old, new)
    return _compact(told) + b"\n" if path.endswith(".jsonl") else json.dumps(told, ensure_ascii=False, indent=1).encode()


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
        texts = fetch_texts(chunks, blobs)
        if sum(chunk.byte_end - chunk.byte_start for chunk in chunks) > MOST_OVERLAP * sum(map(len, texts.values())):
            return None
        items = chunk_texts(chunks, texts)
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
