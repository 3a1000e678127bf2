"""Files to documents: what is taken in, what is refused at the door, and that nothing taken in is lost.

Belongs here: the checks that need no reading (name, type, size, count) and storing the raw bytes with their row.
Does not belong here: reading the bytes (`library.py`).
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from lpm_kernel.errors import IngestionError, UserInputError
from lpm_kernel.L0.quarantine import (
    LIVE,
    alike_of,
    drop_useless_copies,
    keep_refused,
    limit_of,
    save_whole,
    within_limit,
)
from lpm_kernel.L0.read import mime_of
from lpm_kernel.L0.records import UploadResult
from lpm_kernel.layout import raw_key
from lpm_kernel.records import Document, Refusal, Source, User, check_user_id
from lpm_kernel.settings import LimitSettings
from lpm_kernel.stores.blobs import Blobs, TenantBlobs
from lpm_kernel.stores.documents import (
    add_name,
    list_documents,
    lock_documents,
    mark_replaced,
    put_document,
    set_private,
)
from lpm_kernel.stores.tables import Tables
from lpm_kernel.stores.users import add_user

if TYPE_CHECKING:
    from sqlalchemy import Connection

MAX_FILENAME_BYTES = 200
MIME_UNKNOWN = "application/octet-stream"
PIECE_BYTES = 1 << 20
HELD_BYTES = 20_000_000
"""Of one file that are held in memory."""


def receive_document(
    tables: Tables,
    blobs: Blobs,
    limits: LimitSettings,
    user_id: str,
    filename: str,
    data: bytes,
    source: Source = "upload",
    *,
    sent_at: datetime | None = None,
    private: bool = False,
) -> UploadResult:
    """`receive_file` for bytes that are already in memory."""
    return receive_file(tables, blobs, limits, user_id, filename, BytesIO(data), source, sent_at=sent_at, private=private)


def receive_file(
    tables: Tables,
    blobs: Blobs,
    limits: LimitSettings,
    user_id: str,
    filename: str,
    file: BinaryIO,
    source: Source = "upload",
    *,
    sent_at: datetime | None = None,
    private: bool = False,
) -> UploadResult:
    """Take in one file of one user, who is made known by it; a refused file is a result and a row, not an error.

    Idempotent: the same bytes again are a `duplicate`, and another name of theirs is remembered. Other bytes under a known
    name replace the ones before once they are read: a file that cannot be read replaces nothing.
    Units: at most HELD_BYTES are held in memory; a larger file is hashed piece by piece, and stored by way of the disk.
    The bytes of a refused file go to quarantine as long as `quarantine_mb` of one user's are not used up, a file that is too
    large as well: one that will never fit is told by its hash, size and reason alone.
    `sent_at`: of what was not uploaded; the later of two contents of one name holds. `private`: for the person alone.
    Raises: UserInputError `user_id_invalid`, `deletion_under_way`; StoreError when a store fails: nothing was taken in then.
    """
    check_user_id(user_id)
    data = _read_up_to(file, min(_max_bytes(limits), HELD_BYTES) + 1)
    sha256, size_bytes = _measure(data, file)
    try:
        name = check_filename(filename)
    except UserInputError as error:
        # Without a usable name there is no row to keep: the answer itself is the record.
        shown = filename[:MAX_FILENAME_BYTES].encode(errors="replace").decode()
        return UploadResult(shown, "refused", sha256, size_bytes, Refusal(error.code, error.message))
    mime, refusal = _type_of(name)
    refusal = _refusal_by_size(size_bytes, limits) or refusal
    own = TenantBlobs(blobs, user_id)
    save = partial(own.put, data=data) if size_bytes <= len(data) else save_whole(blobs, user_id, sha256, file)
    if refusal is None:
        # Blob first: a row that someone was told about always has its bytes. Bytes without a row are harmless.
        save(raw_key(user_id, sha256))
    with _no_bytes_left(own, raw_key(user_id, sha256)), tables.transaction(user_id) as connection:
        add_user(connection, User(user_id))
        lock_documents(connection, user_id)
        record = Document(
            user_id=user_id,
            sha256=sha256,
            filename=name,
            mime=mime,
            size_bytes=size_bytes,
            source=source,
            created_by="user",
            created_at=sent_at or datetime.now(UTC),
        )
        rows = list_documents(connection, user_id)
        before = next((row for row in rows if row.sha256 == sha256), None)
        result = _decide(connection, record, refusal, limits, rows, before)
        if private and result.status != "duplicate":
            set_private(connection, user_id, sha256, True)
        if result.status == "stored" and not own.exists(raw_key(user_id, sha256)):
            save(raw_key(user_id, sha256))  # while it was refused, what was put above may have been taken away
    if result.status == "stored" and before is not None and before.quarantined:
        drop_useless_copies(tables, blobs, user_id, sha256)
    if result.status == "refused" and (before is None or before.status not in LIVE):
        keep_refused(tables, blobs, limits, user_id, sha256, save)
    return result


@contextmanager
def _no_bytes_left(own: TenantBlobs, key: str) -> Iterator[None]:
    """Where the user is being deleted, what was put for this file goes too: the deletion may have passed by already."""
    try:
        yield
    except UserInputError as error:
        if error.code == "deletion_under_way":
            own.delete(key)
        raise


def _decide(
    connection: Connection,
    record: Document,
    refusal: Refusal | None,
    limits: LimitSettings,
    rows: Sequence[Document],
    before: Document | None,
) -> UploadResult:
    """What becomes of a file, by the user's other documents; the caller holds their lock. `before`: the row of these bytes."""
    name, sha256 = record.filename, record.sha256
    live = [row for row in rows if row.status in LIVE]
    if refusal is None and before in live:
        _send_again(connection, record, before, live)
        return UploadResult(name, "duplicate", sha256, record.size_bytes)
    if refusal is None and not within_limit(record, live, limits):
        refusal = Refusal("document_limit", _limit_reason(record, live, limits))
    if refusal is None:
        put_document(connection, record)
        return UploadResult(name, "stored", sha256, record.size_bytes)
    if before not in live:  # else the same bytes are kept already, under a name that is read
        names = before.names if before is not None and before.status == "refused" else ()
        others = tuple(other for other in names if other != name)
        kept = before is not None and before.quarantined
        put_document(connection, replace(record, status="refused", refusal=refusal, also_named=others, quarantined=kept))
    return UploadResult(name, "refused", sha256, record.size_bytes, refusal)


def _limit_reason(record: Document, live: Sequence[Document], limits: LimitSettings) -> str:
    alike, allowed = alike_of(record, live), limit_of(record, limits)
    cure = "raise limits.social_documents_per_user"
    if record.source == "upload":
        cure = "raise limits.documents_per_user, or replace one by sending a file of the same name"
    return f"{len(alike)} documents are kept and {allowed} are allowed: {cure}"


def _send_again(connection: Connection, record: Document, before: Document, live: Sequence[Document]) -> None:
    """Note that a content which is kept was sent once more, perhaps under a name that has stood for another since."""
    name = record.filename
    others = [row for row in live if row.sha256 != record.sha256]
    if before.status == "received" and any(name in row.names for row in others):
        # Not read yet, so it replaces nothing yet: it waits anew as the newest content of this name.
        newer = {other for row in others if row.created_at > before.created_at for other in row.names}
        kept = tuple(other for other in before.names if other != name and other not in newer)
        put_document(connection, replace(record, also_named=kept))
        return
    if name not in before.names:
        add_name(connection, record.user_id, record.sha256, name)
    mark_replaced(connection, record.user_id, name, by_sha256=record.sha256, since=record.created_at, pending=True)


def check_filename(filename: str) -> str:
    """Return the bare name of an uploaded file, or refuse it.

    Raises: UserInputError `filename_invalid` on an empty, over-long or control-character name; folders are dropped.
    Why one form of accents: a Mac sends "Zoë.md" with the accent apart, and an edit from another machine replaced nothing.
    """
    name = unicodedata.normalize("NFC", PurePosixPath(filename.replace("\\", "/")).name.strip())
    if not name or name in (".", "..") or not name.isprintable() or len(name.encode()) > MAX_FILENAME_BYTES:
        raise UserInputError("filename_invalid", f"a file name has 1 to {MAX_FILENAME_BYTES} printable bytes")
    return name


def _refusal_by_size(size_bytes: int, limits: LimitSettings) -> Refusal | None:
    if size_bytes == 0:
        return Refusal("document_empty", "the file has no bytes")
    if size_bytes > _max_bytes(limits):
        size_mb = size_bytes / 1_000_000
        return Refusal("document_too_large", f"the file has {size_mb:.1f} MB and {limits.document_size_mb} MB are allowed")
    return None


def _max_bytes(limits: LimitSettings) -> int:
    return limits.document_size_mb * 1_000_000


def _read_up_to(file: BinaryIO, size_bytes: int) -> bytes:
    """Why not one read: a pipe or an unbuffered file may give less than it has, and the rest would be lost."""
    pieces: list[bytes] = []
    while size_bytes > 0 and (piece := file.read(size_bytes)):
        pieces.append(piece)
        size_bytes -= len(piece)
    return b"".join(pieces)


def _measure(data: bytes, file: BinaryIO) -> tuple[str, int]:
    """Hash and size of a file whose first bytes are `data`, the rest of it read in pieces."""
    digest, size_bytes = hashlib.sha256(data), len(data)
    while piece := file.read(PIECE_BYTES):
        digest.update(piece)
        size_bytes += len(piece)
    return digest.hexdigest(), size_bytes


def _type_of(name: str) -> tuple[str, Refusal | None]:
    try:
        return mime_of(name), None
    except IngestionError as error:
        return MIME_UNKNOWN, Refusal(error.code, error.message)
