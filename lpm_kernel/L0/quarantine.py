"""Refused files: their bytes are kept apart, within a bound, until they can be read or are thrown away.

Belongs here: putting a refused file in quarantine, taking it out when what spoke against it is gone, deleting it.
Does not belong here: why a file is refused (`intake.py`, `read.py`).
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lpm_kernel.errors import IngestionError, UserInputError
from lpm_kernel.L0.read import mime_of, reader_fingerprint
from lpm_kernel.layout import document_keys, quarantine_key, raw_key
from lpm_kernel.records import Document
from lpm_kernel.settings import LimitSettings
from lpm_kernel.stores.blobs import Blobs, TenantBlobs
from lpm_kernel.stores.documents import (
    QuarantinedDocument,
    delete_document,
    list_documents,
    list_quarantined,
    lock_documents,
    mark_quarantined,
    put_document,
)
from lpm_kernel.stores.tables import Tables

if TYPE_CHECKING:
    from sqlalchemy import Connection

LIVE = ("received", "read")
AT_THE_DOOR = ("document_too_large", "type_unknown", "document_limit")
"""Refusals that a limit or a new file type may lift; the others need another reader."""


def within_limit(document: Document, live: Sequence[Document], limits: LimitSettings) -> bool:
    """Whether one more content of this name may be kept: there is room, or it will replace one that has no other name."""
    alike = alike_of(document, live)
    return len(alike) < limit_of(document, limits) or any(row.names == (document.filename,) for row in alike)


def alike_of(document: Document, rows: Sequence[Document]) -> list[Document]:
    """Those that share a limit with it. Why two: a talkative group would else use up the room for a person's files."""
    return [row for row in rows if (row.source == "upload") == (document.source == "upload")]


def limit_of(document: Document, limits: LimitSettings) -> int:
    return limits.documents_per_user if document.source == "upload" else limits.social_documents_per_user


def has_room(rows: Sequence[Document], size_bytes: int, limits: LimitSettings) -> bool:
    """Whether a file of this size may be kept beside the refused ones of the same user.

    Why a bound for all together: without one, refused files would be a way to store without limit.
    """
    kept = sum(row.size_bytes for row in rows if row.quarantined)
    return 0 < size_bytes <= limits.quarantine_mb * 1_000_000 - kept


def keep_refused(
    tables: Tables, blobs: Blobs, limits: LimitSettings, user_id: str, sha256: str, save: Callable[[str], None]
) -> None:
    """Keep a file refused at the door; where there is no room for it, the row alone tells of it.

    `save` writes the bytes to the key it is given. Bytes first: a row that says "quarantined" has them.
    """
    with tables.transaction(user_id) as connection:
        fits = _fits(list_documents(connection, user_id), sha256, limits)
    if fits:
        save(quarantine_key(user_id, sha256))
        with tables.transaction(user_id) as connection:
            lock_documents(connection, user_id)
            if _fits(list_documents(connection, user_id), sha256, limits):
                mark_quarantined(connection, user_id, sha256)
    drop_useless_copies(tables, blobs, user_id, sha256)


def _fits(rows: Sequence[Document], sha256: str, limits: LimitSettings) -> bool:
    row = next((row for row in rows if row.sha256 == sha256 and row.status == "refused"), None)
    return row is not None and (row.quarantined or has_room(rows, row.size_bytes, limits))


def drop_useless_copies(tables: Tables, blobs: Blobs, user_id: str, sha256: str) -> None:
    """Delete the raw bytes of a file that is refused, the copy in quarantine of one that does not lie there, and both of one
    that was deleted meanwhile.

    Why in a transaction of its own, by the committed row and under the user's lock: nothing that is deleted here can be what a
    row names, whoever fails or sends the same bytes at this moment. Copies left by a crash are harmless.
    """
    own = TenantBlobs(blobs, user_id)
    with tables.transaction(user_id) as connection:
        lock_documents(connection, user_id)
        row = next((row for row in list_documents(connection, user_id) if row.sha256 == sha256), None)
        if row is None or row.status == "refused":
            own.delete(raw_key(user_id, sha256))
        if row is None or not row.quarantined:
            own.delete(quarantine_key(user_id, sha256))


def save_whole(blobs: Blobs, user_id: str, sha256: str, file: BinaryIO) -> Callable[[str], None]:
    """A `save` for a file too large to be held in memory: by way of the disk. It must be the file that was measured."""

    def save(key: str) -> None:
        with tempfile.TemporaryDirectory(prefix="twin-quarantine-") as folder:
            path = Path(folder) / uuid.uuid4().hex
            file.seek(0)
            with path.open("wb") as copy:
                shutil.copyfileobj(file, copy)
            with path.open("rb") as copy:
                if hashlib.file_digest(copy, "sha256").hexdigest() != sha256:
                    raise UserInputError("file_changed", "the file changed while it was sent; send it again")
            TenantBlobs(blobs, user_id).put_file(key, path)

    return save


def take_out_of_quarantine(tables: Tables, blobs: Blobs, limits: LimitSettings, user_id: str) -> int:
    """Put every refused file that may be readable by now among those that wait to be read, the oldest first; how many.

    Idempotent: a file that the same reader refused under the same limits stays where it is.
    """
    own = TenantBlobs(blobs, user_id)
    with tables.transaction(user_id) as connection:
        candidates = [item for item in list_quarantined(connection, user_id) if _may_be_read(item, limits)]
    taken = 0
    for candidate in candidates:
        sha256 = candidate.document.sha256
        with tables.transaction(user_id) as connection:
            lock_documents(connection, user_id)
            rows = list_documents(connection, user_id)
            row = next((row for row in rows if row.sha256 == sha256 and row.quarantined), None)
            if row is None or not _has_a_place(row, rows, limits):
                continue
            own.put(raw_key(user_id, sha256), own.get(quarantine_key(user_id, sha256)))
            waiting = replace(row, mime=mime_of(row.filename), status="received", refusal=None, quarantined=False)
            put_document(connection, waiting)
        drop_useless_copies(tables, blobs, user_id, sha256)
        taken += 1
    return taken


def _may_be_read(item: QuarantinedDocument, limits: LimitSettings) -> bool:
    document = item.document
    try:
        mime_of(document.filename)
    except IngestionError:
        return False
    if document.size_bytes > limits.document_size_mb * 1_000_000 or document.refusal is None:
        return False
    return document.refusal.code in AT_THE_DOOR or item.reader != reader_fingerprint(limits)


def _has_a_place(document: Document, rows: Sequence[Document], limits: LimitSettings) -> bool:
    """Whether there is room for one more, and no newer content has taken one of its names since."""
    live = [row for row in rows if row.status in LIVE]
    newer = {name for row in live if row.created_at >= document.created_at for name in row.names}
    return within_limit(document, live, limits) and newer.isdisjoint(document.names)


def refuse_read(
    tables: Tables, blobs: Blobs, limits: LimitSettings, document: Document, data: bytes, mark: Callable[..., bool]
) -> None:
    """Move a file that could not be read from the raw files to quarantine; `mark(connection, quarantined=…)` notes the refusal.

    The raw file goes once the refusal stands: who sends the same bytes again at this moment has them put back.
    """
    user_id, sha256 = document.user_id, document.sha256
    TenantBlobs(blobs, user_id).put(quarantine_key(user_id, sha256), data)
    with tables.transaction(user_id) as connection:
        lock_documents(connection, user_id)
        mark(connection, quarantined=has_room(list_documents(connection, user_id), len(data), limits))
    drop_useless_copies(tables, blobs, user_id, sha256)


def discard_refused(tables: Tables, blobs: Blobs, user_id: str, sha256: str) -> Document:
    """Forget a refused file: its row, its reason, its bytes. Nothing was built from it, so nothing else changes.

    Raises: UserInputError `document_unknown`, `document_in_use`.
    """
    with tables.transaction(user_id) as connection:
        lock_documents(connection, user_id)
        row = _find_refused(connection, user_id, sha256)
        mark_quarantined(connection, user_id, row.sha256, False)  # first, so that no row ever names bytes that are gone
    with tables.transaction(user_id) as connection:
        lock_documents(connection, user_id)
        row = _find_refused(connection, user_id, row.sha256)
        for key in document_keys(user_id, row.sha256):
            TenantBlobs(blobs, user_id).delete(key)
        delete_document(connection, user_id, row.sha256)
    return row


def _find_refused(connection: Connection, user_id: str, sha256: str) -> Document:
    """The one refused document whose sha256 begins so."""
    found = [row for row in list_documents(connection, user_id) if row.sha256.startswith(sha256)]
    if not sha256 or len(found) != 1:
        raise UserInputError("document_unknown", f"{len(found)} documents of user {user_id} begin with that sha256")
    if found[0].status != "refused":
        raise UserInputError(
            "document_in_use", f"{found[0].filename} is {found[0].status}, not refused; only refused files are discarded"
        )
    return found[0]
