"""Documents to stored texts: reading what a user sent, once, and keeping the reason where it cannot be read.

Belongs here: the pass over a user's documents, and fetching stored texts for later stages.
Does not belong here: how one file is read (`read.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from lpm_kernel.errors import IngestionError, TwinError
from lpm_kernel.L0.chunk import chunk_document, chunker_fingerprint
from lpm_kernel.L0.quarantine import refuse_read, take_out_of_quarantine
from lpm_kernel.L0.read import pdf_bounds, read_document, reader_fingerprint
from lpm_kernel.layout import raw_key, text_key
from lpm_kernel.records import Chunk, Document, Refusal
from lpm_kernel.settings import ChunkingSettings, LimitSettings
from lpm_kernel.stores.blobs import Blobs, TenantBlobs
from lpm_kernel.stores.compute import Progress
from lpm_kernel.stores.documents import (
    clear_pending,
    list_documents,
    lock_documents,
    mark_read,
    mark_refused,
    mark_replaced,
    pending_change,
)
from lpm_kernel.stores.tables import Tables
from lpm_kernel.stores.users import get_user

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class ReadCount:
    read: int
    reused: int
    refused: int
    taken_out: int = 0
    """Of quarantine, to be read once more."""


@dataclass(frozen=True, slots=True)
class ChunkCount:
    cut: int
    reused: int


def read_documents(
    tables: Tables, blobs: Blobs, limits: LimitSettings, user_id: str, progress: Progress
) -> tuple[list[Document], ReadCount]:
    """Read what waits and return every document that has a stored text, by file name.

    A refused file that another reader or other limits may read waits again. Idempotent: a document is read once. One that
    cannot be read goes to quarantine with the reason, and the others go on.
    Raises: UserInputError `twin_not_found`; IngestionError `no_documents` when not one of them can be read; StoreError.
    """
    own = TenantBlobs(blobs, user_id)
    with tables.transaction(user_id) as connection:
        get_user(connection, user_id)
    taken_out = take_out_of_quarantine(tables, blobs, limits, user_id)
    with tables.transaction(user_id) as connection:
        change = pending_change(connection, user_id)
        rows = list_documents(connection, user_id)
    waiting = sorted((row for row in rows if row.status == "received"), key=lambda row: row.created_at)
    reader = reader_fingerprint(limits)
    refused = 0
    read_now: set[str] = set()
    for done, document in enumerate(waiting, start=1):
        sha256 = document.sha256
        data = own.get(raw_key(user_id, sha256))
        try:
            text, encoding = _read_one(data, document.mime, limits)
        except IngestionError as error:
            refused += 1
            refusal = Refusal(error.code, error.message)
            mark = partial(mark_refused, user_id=user_id, sha256=sha256, refusal=refusal, reader=reader)
            refuse_read(tables, blobs, limits, document, data, mark)
        else:
            own.put(text_key(user_id, sha256), text)
            mark = partial(mark_read, text_size_bytes=len(text), encoding=encoding, reader=reader)
            with tables.transaction(user_id) as connection:
                taken_up = _take_up(connection, user_id, sha256, mark)
                if not taken_up and all(row.sha256 != sha256 for row in list_documents(connection, user_id)):
                    own.delete(text_key(user_id, sha256))  # deleted while it was read
            if taken_up:
                read_now.add(sha256)
        progress(done / len(waiting), f"{done} of {len(waiting)} new documents read")
    with tables.transaction(user_id) as connection:
        if change is not None:
            clear_pending(connection, user_id, change)
        documents = [row for row in list_documents(connection, user_id) if row.status == "read"]
    if not documents:
        raise IngestionError("no_documents", f"user {user_id} has no document that can be read; {refused} refused in this run")
    return documents, ReadCount(
        read=len(read_now),
        reused=sum(row.sha256 not in read_now for row in documents),
        refused=refused,
        taken_out=taken_out,
    )


def _read_one(data: bytes, mime: str, limits: LimitSettings) -> tuple[bytes, str | None]:
    """The text to store, in UTF-8, and the encoding it was in.

    Why every error of a reader is a refusal of this one file: a fault of ours with one file would stop all documents of its
    user, in this run and in each after it. The next reader tries it again.
    Raises: IngestionError; `reader_failed` for what has no name of its own.
    """
    try:
        text, encoding = read_document(data, mime, pdf_bounds(limits))
        return text.encode(), encoding
    except TwinError:
        raise
    except Exception as error:
        raise IngestionError(
            "reader_failed", f"our reader failed on it ({type(error).__name__}); a later version may not"
        ) from error


def _take_up(connection: Connection, user_id: str, sha256: str, mark: Callable[..., Document | None]) -> bool:
    """Mark a content as read, and what its names stood for before as replaced; False when it no longer waits to be read.

    Why under the lock and by the row as it now stands: while the text was read, the user may have sent the content before
    again, and it would otherwise be replaced by one that is itself replaced.
    """
    lock_documents(connection, user_id)
    row = mark(connection, user_id, sha256)
    if row is None:
        return False
    for name in row.names:
        mark_replaced(connection, user_id, name, by_sha256=sha256, since=row.created_at, pending=False)
    return True


def chunk_documents(
    documents: Sequence[Document], blobs: Blobs, chunking: ChunkingSettings, previous: Sequence[Chunk]
) -> tuple[list[Chunk], ChunkCount]:
    """Chunks of all documents, in their order; a document whose chunks are in `previous` is not cut again."""
    fingerprint = chunker_fingerprint(chunking)
    known: dict[tuple[str, str], list[Chunk]] = {}
    for chunk in previous:
        if chunk.chunker == fingerprint:
            known.setdefault((chunk.document_sha256, chunk.filename), []).append(chunk)
    chunks: list[Chunk] = []
    cut = 0
    for document in documents:
        own = known.get((document.sha256, document.filename))
        if own is None:
            cut += 1
            text = TenantBlobs(blobs, document.user_id).get(text_key(document.user_id, document.sha256)).decode()
            own = chunk_document(document, text, chunking)
        chunks.extend(own)
    return chunks, ChunkCount(cut=cut, reused=len(documents) - cut)


def fetch_texts(chunks: Sequence[Chunk], blobs: Blobs) -> dict[str, bytes]:
    """The stored text of every document that these chunks point into, by the document's sha256."""
    keys = {chunk.document_sha256: (chunk.user_id, chunk.text_key) for chunk in chunks}
    return {sha256: TenantBlobs(blobs, user_id).get(key) for sha256, (user_id, key) in keys.items()}
