"""Files to documents: what is taken in, what is refused at the door, and that nothing taken in is lost.

Belongs here: the checks that need no reading (name, type, size, count) and storing the raw bytes with their row.
Does not belong here: reading the bytes (`library.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import PurePosixPath

from lpm_kernel.errors import IngestionError, UserInputError
from lpm_kernel.L0.read import mime_of
from lpm_kernel.layout import raw_key
from lpm_kernel.records import Document, Refusal, Source, UploadResult, User, check_user_id, sha256_hex
from lpm_kernel.settings import LimitSettings
from lpm_kernel.stores.blobs import Blobs, TenantBlobs
from lpm_kernel.stores.documents import list_documents, lock_documents, mark_replaced, put_document
from lpm_kernel.stores.tables import Tables
from lpm_kernel.stores.users import add_user

MAX_FILENAME_BYTES = 200


def receive_document(
    tables: Tables, blobs: Blobs, limits: LimitSettings, user_id: str, filename: str, data: bytes, source: Source = "upload"
) -> UploadResult:
    """Take in one file of one user, who is made known by it; a refused file is a result, not an error.

    Idempotent: the same bytes again are a `duplicate`. Other bytes under a known name replace the ones before once they are
    read: a file that cannot be read replaces nothing.
    Raises: UserInputError `user_id_invalid`; StoreError when a store fails, and then nothing was taken in.
    """
    check_user_id(user_id)
    sha256 = sha256_hex(data)
    try:
        name = check_filename(filename)
        mime = mime_of(name)
    except (IngestionError, UserInputError) as error:
        # Without a usable name there is no row to keep: the answer itself is the record.
        shown = filename[:MAX_FILENAME_BYTES].encode(errors="replace").decode()
        return _refused(shown, sha256, len(data), Refusal(error.code, error.message))
    record = Document(
        user_id=user_id,
        sha256=sha256,
        filename=name,
        mime=mime,
        size_bytes=len(data),
        source=source,
        created_by="user",
        created_at=datetime.now(UTC),
    )
    refusal = refusal_by_size(len(data), limits)
    if refusal is None:
        # Blob first: a row that someone was told about always has its bytes. Bytes without a row are harmless.
        TenantBlobs(blobs, user_id).put(raw_key(user_id, sha256), data)
    with tables.transaction(user_id) as connection:
        add_user(connection, User(user_id))
        lock_documents(connection, user_id)
        live = [known for known in list_documents(connection, user_id) if known.status in ("received", "read")]
        if any(known.sha256 == sha256 for known in live):
            if any(known.filename == name and known.sha256 != sha256 for known in live):
                mark_replaced(connection, user_id, name, by_sha256=sha256, since=record.created_at, pending=True)
            return UploadResult(name, "duplicate", sha256, len(data))
        if refusal is None and not any(known.filename == name for known in live) and len(live) >= limits.documents_per_user:
            refusal = Refusal(
                "document_limit",
                f"{len(live)} documents are kept and {limits.documents_per_user} are allowed: delete one first",
            )
        if refusal is not None:
            put_document(connection, _with_refusal(record, refusal))
            return _refused(name, sha256, len(data), refusal)
        put_document(connection, record)
    return UploadResult(name, "stored", sha256, len(data))


def check_filename(filename: str) -> str:
    """Return the bare name of an uploaded file, or refuse it.

    Raises: UserInputError `filename_invalid` on an empty, over-long or control-character name; folders are dropped.
    """
    name = PurePosixPath(filename.replace("\\", "/")).name.strip()
    if not name or name in (".", "..") or not name.isprintable() or len(name.encode()) > MAX_FILENAME_BYTES:
        raise UserInputError("filename_invalid", f"a file name has 1 to {MAX_FILENAME_BYTES} printable bytes")
    return name


def refusal_by_size(size_bytes: int, limits: LimitSettings) -> Refusal | None:
    """Callers that know a file's size ask this before they read it."""
    if size_bytes == 0:
        return Refusal("document_empty", "the file has no bytes")
    if size_bytes > limits.document_size_mb * 1_000_000:
        size_mb = size_bytes / 1_000_000
        return Refusal("document_too_large", f"the file has {size_mb:.1f} MB and {limits.document_size_mb} MB are allowed")
    return None


def _with_refusal(record: Document, refusal: Refusal) -> Document:
    from dataclasses import replace

    return replace(record, status="refused", refusal=refusal)


def _refused(name: str, sha256: str, size_bytes: int, refusal: Refusal) -> UploadResult:
    return UploadResult(name, "refused", sha256, size_bytes, refusal)
