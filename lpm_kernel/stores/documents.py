"""Rows of `document`: what a user sent, and what became of it.

Belongs here: queries on that table. `pending` marks a change that the pipeline has not yet taken up.
Does not belong here: the rules for what is taken in (`L0/intake.py`) and reading (`L0/library.py`).
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lpm_kernel.records import Document, Refusal, content_id, is_text
from lpm_kernel.stores.schema import WRITTEN_NOW, document

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Row


@dataclass(frozen=True, slots=True)
class WaitingDocuments:
    """A user whose documents changed since the pipeline last read them. `change` names this very set of changes."""

    user_id: str
    change: str


@dataclass(frozen=True, slots=True)
class QuarantinedDocument:
    """A refused document whose bytes are kept. `reader`: the one that refused it; None when it was refused at the door."""

    document: Document
    reader: str | None


def lock_documents(connection: Connection, user_id: str) -> None:
    """Let one transaction at a time decide on a user's documents; held until it ends."""
    from sqlalchemy import text

    connection.execute(text("select pg_advisory_xact_lock(hashtext('documents:' || :user_id))"), {"user_id": user_id})


def list_documents(connection: Connection, user_id: str) -> list[Document]:
    """All rows, the refused and the replaced too, by file name; not those of deleted documents."""
    from sqlalchemy import select

    rows = connection.execute(
        select(document)
        .where(document.c.user_id == user_id, document.c.status != "deleted")
        .order_by(document.c.filename, document.c.created_at, document.c.sha256)
    )
    return [_record(row) for row in rows]


def put_document(connection: Connection, record: Document) -> None:
    """Insert or overwrite the row of this content and mark it as a change to take up."""
    from sqlalchemy.dialects.postgresql import insert

    values: dict[str, Any] = {
        "user_id": record.user_id,
        "sha256": record.sha256,
        "filename": record.filename,
        "also_named": list(record.also_named),
        "mime": record.mime,
        "size_bytes": record.size_bytes,
        "source": record.source,
        "created_by": record.created_by,
        "created_at": record.created_at,
        "status": record.status,
        "refusal_code": record.refusal.code if record.refusal else None,
        "refusal_reason": record.refusal.reason if record.refusal else None,
        "text_size_bytes": record.text_size_bytes,
        "pending": record.status != "refused",  # a file refused at the door changes nothing downstream
        "change_id": uuid.uuid4().hex,
        "encoding": record.encoding,
        "reader": None,
        "near_duplicate_of": record.near_duplicate_of,
        "quarantined": record.quarantined,
        **WRITTEN_NOW,
    }
    connection.execute(
        insert(document)
        .values(values)
        .on_conflict_do_update(index_elements=[document.c.user_id, document.c.sha256], set_=values)
    )
    _inherit_privacy(connection, record)


def add_name(connection: Connection, user_id: str, sha256: str, filename: str) -> None:
    """Remember that this content was sent under one more name. No change to take up: chunks carry the first name."""
    from sqlalchemy import func, update

    connection.execute(
        update(document)
        .where(document.c.user_id == user_id, document.c.sha256 == sha256)
        .values(also_named=func.array_append(document.c.also_named, filename))
    )


def mark_replaced(
    connection: Connection, user_id: str, filename: str, *, by_sha256: str, since: datetime, pending: bool
) -> None:
    """The file of this name has the content `by_sha256` since then: its earlier contents lose the name.

    A content without another name is `replaced`; one that has others lives on under the next of them.
    `pending`: whether the pipeline has yet to learn of it.
    """
    from sqlalchemy import func, update

    other_names = document.c.also_named
    earlier = (
        document.c.user_id == user_id,
        document.c.sha256 != by_sha256,
        document.c.created_at <= since,
        document.c.status.in_(["received", "read"]),
    )
    change: dict[str, Any] = {"pending": True, "change_id": uuid.uuid4().hex} if pending else {}
    first = (*earlier, document.c.filename == filename)
    connection.execute(update(document).where(*first, func.cardinality(other_names) == 0).values(status="replaced", **change))
    connection.execute(
        update(document)
        .where(*first, func.cardinality(other_names) > 0)
        .values(filename=other_names[1], also_named=func.array_remove(other_names, other_names[1]), **change)
    )
    connection.execute(
        update(document).where(*earlier, other_names.any(filename)).values(also_named=func.array_remove(other_names, filename))
    )


def mark_read(
    connection: Connection, user_id: str, sha256: str, text_size_bytes: int, encoding: str | None, reader: str
) -> Document | None:
    """The row as it now stands; None when the content was no longer waiting to be read, and then nothing is marked."""
    from sqlalchemy import update

    row = connection.execute(
        update(document)
        .where(document.c.user_id == user_id, document.c.sha256 == sha256, document.c.status == "received")
        .values(status="read", text_size_bytes=text_size_bytes, encoding=encoding, reader=reader)
        .returning(document)
    ).one_or_none()
    return None if row is None else _record(row)


def mark_refused(
    connection: Connection, user_id: str, sha256: str, refusal: Refusal, *, reader: str, quarantined: bool
) -> bool:
    """False when the content was no longer waiting to be read, and then nothing is marked."""
    from sqlalchemy import update

    changed = connection.execute(
        update(document)
        .where(document.c.user_id == user_id, document.c.sha256 == sha256, document.c.status == "received")
        .values(
            status="refused", refusal_code=refusal.code, refusal_reason=refusal.reason, reader=reader, quarantined=quarantined
        )
    )
    return changed.rowcount == 1


def mark_quarantined(connection: Connection, user_id: str, sha256: str, kept: bool = True) -> None:
    from sqlalchemy import update

    connection.execute(
        update(document).where(document.c.user_id == user_id, document.c.sha256 == sha256).values(quarantined=kept)
    )


def list_quarantined(connection: Connection, user_id: str) -> list[QuarantinedDocument]:
    """The oldest first."""
    from sqlalchemy import select

    rows = connection.execute(
        select(document)
        .where(document.c.user_id == user_id, document.c.status == "refused", document.c.quarantined)
        .order_by(document.c.created_at, document.c.sha256)
    )
    return [QuarantinedDocument(_record(row), row.reader) for row in rows]


def set_near_duplicates(connection: Connection, user_id: str, links: Mapping[str, str | None]) -> None:
    """`links`: from a document to the older one it nearly repeats, both by sha256; None takes a link away."""
    from sqlalchemy import update

    for sha256, older in links.items():
        connection.execute(
            update(document).where(document.c.user_id == user_id, document.c.sha256 == sha256).values(near_duplicate_of=older)
        )


def private_documents(connection: Connection, user_id: str) -> frozenset[str]:
    """sha256 of the documents that are for the person alone."""
    from sqlalchemy import select

    return frozenset(
        connection.execute(select(document.c.sha256).where(document.c.user_id == user_id, document.c.private)).scalars()
    )


def shared_documents(connection: Connection, user_id: str) -> frozenset[str]:
    """sha256 of the documents that others may hear of: neither private nor deleted."""
    from sqlalchemy import select

    there = (document.c.user_id == user_id, ~document.c.private, document.c.status.not_in(["deleted", "refused"]))
    return frozenset(connection.execute(select(document.c.sha256).where(*there)).scalars())


def set_private(connection: Connection, user_id: str, sha256: str, private: bool) -> bool:
    """Keep a document for the person alone, or share it, and with it the earlier contents of its names: what is sent under one
    of them next is kept alike. What others' plans have quoted of it goes. False when there is no such document."""
    from sqlalchemy import select, update

    from lpm_kernel.stores.dao_plans import forget_plan_lines  # it asks here what may be quoted

    lock_documents(connection, user_id)
    own = (document.c.user_id == user_id, document.c.status != "deleted")
    named = select(document).where(*own, document.c.sha256 == sha256)
    row = connection.execute(named).one_or_none() if is_text(sha256) else None
    if row is None:
        return False
    alike = (document.c.sha256 == sha256) | (_is_named(_record(row)) & (document.c.status == "replaced"))
    connection.execute(update(document).where(*own, alike).values(private=private, **WRITTEN_NOW))
    if private:
        forget_plan_lines(connection, user_id, private_documents(connection, user_id))
    return True


def _inherit_privacy(connection: Connection, record: Document) -> None:
    """Why: a new version of a private diary would else be read out to whoever asks."""
    from sqlalchemy import select, update

    own = document.c.user_id == record.user_id
    before = select(document.c.sha256).where(own, document.c.sha256 != record.sha256, document.c.private, _is_named(record))
    if connection.execute(before.limit(1)).first() is not None:
        connection.execute(update(document).where(own, document.c.sha256 == record.sha256).values(private=True))


def _is_named(record: Document) -> ColumnElement[bool]:
    from sqlalchemy import Text, cast
    from sqlalchemy.dialects.postgresql import ARRAY

    names = list(record.names)
    return document.c.filename.in_(names) | document.c.also_named.op("&&")(cast(names, ARRAY(Text)))


def delete_document(connection: Connection, user_id: str, sha256: str) -> None:
    """The row alone. Idempotent."""
    from sqlalchemy import delete

    connection.execute(delete(document).where(document.c.user_id == user_id, document.c.sha256 == sha256))


def mark_deleted(connection: Connection, user_id: str, sha256s: Sequence[str], *, pending: bool) -> None:
    """Leave of these documents nothing but their hash, until nothing is made of them any more. `pending` as elsewhere."""
    from sqlalchemy import update

    change: dict[str, Any] = {"pending": pending, "change_id": uuid.uuid4().hex, **WRITTEN_NOW}
    own = document.c.user_id == user_id
    connection.execute(
        update(document)
        .where(own, document.c.sha256.in_(sha256s))
        .values(
            status="deleted",
            filename="",
            also_named=[],
            refusal_code=None,
            refusal_reason=None,
            near_duplicate_of=None,
            quarantined=False,
            **change,
        )
    )
    connection.execute(update(document).where(own, document.c.near_duplicate_of.in_(sha256s)).values(near_duplicate_of=None))


def deleted_documents(connection: Connection, user_id: str, *, taken_up: bool = False) -> frozenset[str]:
    """sha256 of the documents that are deleted while something made of them may be left. `taken_up`: only those whose deletion
    the pipeline has learned of."""
    from sqlalchemy import select

    query = select(document.c.sha256).where(document.c.user_id == user_id, document.c.status == "deleted")
    return frozenset(connection.execute(query.where(~document.c.pending) if taken_up else query).scalars())


def drop_deleted(connection: Connection, user_id: str, sha256s: Collection[str]) -> None:
    """Forget that these were there at all; one that was sent again meanwhile stays."""
    from sqlalchemy import delete

    gone = (document.c.user_id == user_id, document.c.sha256.in_(sorted(sha256s)), document.c.status == "deleted")
    connection.execute(delete(document).where(*gone))


def mark_waiting(connection: Connection, user_id: str) -> None:
    """Have the pipeline look at every document that is there, as if each had just come in."""
    from sqlalchemy import update

    there = (document.c.user_id == user_id, document.c.status.in_(["received", "read"]))
    connection.execute(update(document).where(*there).values(pending=True, change_id=uuid.uuid4().hex))


def mark_taken_up(connection: Connection, user_id: str) -> None:
    """Have nothing of this user wait for the pipeline any more."""
    from sqlalchemy import update

    connection.execute(update(document).where(document.c.user_id == user_id, document.c.pending).values(pending=False))


def clear_pending(connection: Connection, user_id: str, change: str) -> bool:
    """Clear the marks if the waiting set is still the one that was taken up; False when something newer waits."""
    from sqlalchemy import update

    lock_documents(connection, user_id)
    if pending_change(connection, user_id) != change:
        return False
    connection.execute(update(document).where(document.c.user_id == user_id, document.c.pending).values(pending=False))
    return True


def pending_change(connection: Connection, user_id: str) -> str | None:
    """The name of the user's waiting set of changes, or None when nothing waits."""
    return next((waiting.change for waiting in _waiting(connection, user_id)), None)


def list_waiting(connection: Connection) -> list[WaitingDocuments]:
    """Every user with waiting changes; for `Tables.operator_transaction`."""
    return _waiting(connection, None)


def _waiting(connection: Connection, user_id: str | None) -> list[WaitingDocuments]:
    from sqlalchemy import select

    query = select(document.c.user_id, document.c.sha256, document.c.change_id).where(document.c.pending)
    if user_id is not None:
        query = query.where(document.c.user_id == user_id)
    changes: dict[str, list[str]] = {}
    for row in connection.execute(query.order_by(document.c.user_id, document.c.sha256)):
        changes.setdefault(row.user_id, []).append(f"{row.sha256}:{row.change_id}")
    return [WaitingDocuments(user, content_id(user, *marks)[:32]) for user, marks in changes.items()]


def _record(row: Row[Any]) -> Document:
    return Document(
        user_id=row.user_id,
        sha256=row.sha256,
        filename=row.filename,
        mime=row.mime,
        size_bytes=row.size_bytes,
        source=row.source,
        created_by=row.created_by,
        created_at=row.created_at,
        status=row.status,
        refusal=Refusal(row.refusal_code, row.refusal_reason) if row.refusal_code else None,
        text_size_bytes=row.text_size_bytes,
        also_named=tuple(row.also_named),
        encoding=row.encoding,
        near_duplicate_of=row.near_duplicate_of,
        quarantined=row.quarantined,
    )
