"""Rows of `release`: the manifests twins are served from. One is live a user.

Belongs here: queries on that table; promoting is one transaction.
Does not belong here: making a manifest (`L2/release.py`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import StoreError
from lpm_kernel.records import Release
from lpm_kernel.stores.schema import release

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row


def lock_releases(connection: Connection, user_id: str) -> None:
    """Let one transaction at a time decide on a user's releases; held until it ends."""
    from sqlalchemy import text

    connection.execute(text("select pg_advisory_xact_lock(hashtext('releases:' || :user_id))"), {"user_id": user_id})


def promote_release(connection: Connection, record: Release) -> None:
    """Make this release the live one and retire the one before it. Idempotent; also the way back to an older release."""
    from pydantic import TypeAdapter
    from sqlalchemy import update
    from sqlalchemy.dialects.postgresql import insert

    connection.execute(
        update(release)
        .where(release.c.user_id == record.user_id, release.c.status == "live", release.c.release_id != record.release_id)
        .values(status="retired")
    )
    manifest = TypeAdapter(Release).dump_python(replace(record, status="live"), mode="json")
    values = {
        "user_id": record.user_id,
        "release_id": record.release_id,
        "status": "live",
        "manifest": manifest,
        "created_at": record.created_at,
    }
    connection.execute(
        insert(release)
        .values(values)
        .on_conflict_do_update(
            index_elements=[release.c.user_id, release.c.release_id],
            set_={"status": "live", "manifest": manifest, "created_at": record.created_at},
        )
    )


def live_release(connection: Connection, user_id: str) -> Release | None:
    from sqlalchemy import select

    row = connection.execute(select(release).where(release.c.user_id == user_id, release.c.status == "live")).first()
    return _record(row) if row else None


def list_releases(connection: Connection, user_id: str) -> list[Release]:
    """Newest first."""
    from sqlalchemy import select

    rows = connection.execute(select(release).where(release.c.user_id == user_id).order_by(release.c.created_at.desc()))
    return [_record(row) for row in rows]


def named_by_releases(connection: Connection, user_id: str, field: str) -> set[str]:
    """What the user's releases, live or not, name under this field of their manifests.

    Why not from the records: a manifest of an older form must not keep a new release from being published.
    """
    from sqlalchemy import select

    named = connection.execute(select(release.c.manifest[field].astext).where(release.c.user_id == user_id)).scalars()
    return {value for value in named if value is not None}


def _record(row: Row[Any]) -> Release:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Release).validate_python({**row.manifest, "status": row.status})
    except ValidationError as error:
        wrong = ", ".join(sorted({".".join(map(str, e["loc"])) for e in error.errors()})[:5])
        raise StoreError(
            "artefact_unreadable",
            f"the manifest of release {row.release_id} is of another form ({wrong}): materialize `twin_release` again",
            retryable=False,
        ) from None
