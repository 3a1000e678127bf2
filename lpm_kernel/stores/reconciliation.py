"""Rows that reconciliation compares other stores with, and that nobody else asks for in this form.

Belongs here: those queries. They only read, but for the count of memory's versions.
Does not belong here: comparing (`lpm_kernel/reconcile`).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lpm_kernel.stores.schema import chat_message, memory_version, release

if TYPE_CHECKING:
    from sqlalchemy import Connection


def list_manifests(connection: Connection, user_id: str) -> list[tuple[str, str, bool, datetime, dict[str, Any]]]:
    """Of each release, newest first: id, status, whether it is stale, when it was made, and its manifest as it lies there, of
    whatever form."""
    from sqlalchemy import select

    rows = connection.execute(select(release).where(release.c.user_id == user_id).order_by(release.c.created_at.desc()))
    return [(row.release_id, row.status, row.stale_reason is not None, row.created_at, dict(row.manifest)) for row in rows]


def own_sessions(connection: Connection, user_id: str) -> frozenset[str]:
    """Sessions of the person's own talks."""
    from sqlalchemy import select

    own = (chat_message.c.user_id == user_id, chat_message.c.asker.is_(None))
    return frozenset(connection.execute(select(chat_message.c.session_id).where(*own).distinct()).scalars())


def places_of_names(connection: Connection, names: Collection[str]) -> dict[str, int]:
    """The place of each file name in the order in which the database lists documents, which is that of its collation."""
    from sqlalchemy import text

    query = text("select name from unnest(cast(:names as text[])) as name order by name")
    rows = connection.execute(query, {"names": sorted(names)}).scalars()
    return {name: place for place, name in enumerate(rows)}


def version_of_memories(connection: Connection, user_id: str) -> int | None:
    """None where nothing was ever counted."""
    from sqlalchemy import select

    return connection.execute(select(memory_version.c.version).where(memory_version.c.user_id == user_id)).scalar_one_or_none()


def count_memories_anew(connection: Connection, user_id: str) -> None:
    """Say that the user's memories are others now, so that every process reads them again."""
    from sqlalchemy.dialects.postgresql import insert

    row = insert(memory_version).values(user_id=user_id, version=1)
    newer = {"version": memory_version.c.version + 1}
    connection.execute(row.on_conflict_do_update(index_elements=[memory_version.c.user_id], set_=newer))
