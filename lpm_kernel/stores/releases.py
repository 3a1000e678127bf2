"""Rows of `release`: the manifests twins are served from. One is live a user, and none that a deletion made stale comes back.

Belongs here: queries on that table, and on what a user's row says of their model; promoting is one transaction.
Does not belong here: making a manifest (`L2/release.py`) and deciding which one serves (`L2/promotion.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import StoreError
from lpm_kernel.records import Release, ReleaseStatus
from lpm_kernel.stores.schema import WRITTEN_NOW, app_user, release

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from sqlalchemy import Connection, Row


@dataclass(frozen=True, slots=True)
class ReleaseState:
    """Of one release, what decides on it; readable also where its manifest is of an older form."""

    release_id: str
    status: ReleaseStatus
    stale_reason: str | None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What a user's row says: where the live adapter lies, and whether there is one."""

    lora_path: str | None
    model_ready: bool


@dataclass(frozen=True, slots=True)
class LiveTwin:
    """A user whose twin serves, and since when its release is there."""

    user_id: str
    since: datetime


def lock_releases(connection: Connection, user_id: str) -> None:
    """Let one transaction at a time decide on a user's releases; held until it ends."""
    from sqlalchemy import text

    connection.execute(text("select pg_advisory_xact_lock(hashtext('releases:' || :user_id))"), {"user_id": user_id})


def promote_release(connection: Connection, record: Release) -> None:
    """Make it the live one, retire the one before it, and say on the user's row where its adapter lies. Idempotent."""
    from sqlalchemy import update

    connection.execute(
        update(release)
        .where(release.c.user_id == record.user_id, release.c.status == "live", release.c.release_id != record.release_id)
        .values(status="retired")
    )
    _put(connection, replace(record, status="live"))
    _set_model(connection, record.user_id, ServedModel(record.gguf_key, True))


def keep_candidate(connection: Connection, record: Release) -> None:
    """Put a release on record that does not serve. Idempotent."""
    _put(connection, replace(record, status="candidate"))


def retire_live(connection: Connection, user_id: str) -> None:
    """Nobody serves for this user from now on. Idempotent."""
    from sqlalchemy import update

    live = (release.c.user_id == user_id, release.c.status == "live")
    connection.execute(update(release).where(*live).values(status="retired"))
    _set_model(connection, user_id, ServedModel(None, False))


def mark_stale(
    connection: Connection, user_id: str, sha256s: Collection[str], reason: str, *, unsaid: bool = True
) -> list[str]:
    """Mark every release that was made from one of these documents, or, where `unsaid`, does not say from which; their ids."""
    from sqlalchemy import func, or_, select, type_coerce, update
    from sqlalchemy.dialects.postgresql import ARRAY, TEXT

    named = release.c.manifest["documents"]
    made_from_one = named.op("?|")(type_coerce(sorted(sha256s), ARRAY(TEXT)))
    says_nothing = func.coalesce(func.jsonb_typeof(named), "null") != "array"
    known = (release.c.user_id == user_id, release.c.stale_reason.is_(None))
    found = select(release.c.release_id).where(*known, or_(says_nothing, made_from_one) if unsaid else made_from_one)
    ids = sorted(connection.execute(found).scalars())
    connection.execute(
        update(release).where(release.c.user_id == user_id, release.c.release_id.in_(ids)).values(stale_reason=reason)
    )
    return ids


def live_release(connection: Connection, user_id: str) -> Release | None:
    from sqlalchemy import select

    row = connection.execute(select(release).where(release.c.user_id == user_id, release.c.status == "live")).first()
    return _record(row) if row else None


def earlier_releases(connection: Connection, live: Release, most: int) -> list[Release]:
    """Those that served before it and may serve again, newest first; a manifest of an older form is none of them."""
    from sqlalchemy import select

    rows = connection.execute(
        select(release)
        .where(
            release.c.user_id == live.user_id,
            release.c.status == "retired",
            release.c.stale_reason.is_(None),
            release.c.created_at < live.created_at,
        )
        .order_by(release.c.created_at.desc())
        .limit(most)
    )
    found = []
    for row in rows:
        with suppress(StoreError):
            found.append(_record(row))
    return found


def live_release_ids(connection: Connection, user_ids: Collection[str]) -> dict[str, str]:
    """Which release is live for each of these users; for many users at once, in the operator's transaction."""
    from sqlalchemy import select

    query = select(release.c.user_id, release.c.release_id).where(release.c.status == "live", release.c.user_id.in_(user_ids))
    return {row.user_id: row.release_id for row in connection.execute(query)}


def live_twins(connection: Connection) -> list[LiveTwin]:
    """Every twin that serves, by user id: in a user's transaction their own, in an operator's all."""
    from sqlalchemy import select

    columns = (release.c.user_id, release.c.created_at)
    rows = connection.execute(select(*columns).where(release.c.status == "live").order_by(release.c.user_id))
    return [LiveTwin(row.user_id, row.created_at) for row in rows]


def release_states(connection: Connection, user_id: str) -> list[ReleaseState]:
    """Newest first."""
    from sqlalchemy import select

    columns = (release.c.release_id, release.c.status, release.c.stale_reason)
    rows = connection.execute(select(*columns).where(release.c.user_id == user_id).order_by(release.c.created_at.desc()))
    return [ReleaseState(row.release_id, row.status, row.stale_reason) for row in rows]


def list_releases(connection: Connection, user_id: str) -> list[Release]:
    """Newest first."""
    from sqlalchemy import select

    rows = connection.execute(select(release).where(release.c.user_id == user_id).order_by(release.c.created_at.desc()))
    return [_record(row) for row in rows]


def get_release(connection: Connection, user_id: str, release_id: str) -> Release | None:
    from sqlalchemy import select

    row = connection.execute(select(release).where(release.c.user_id == user_id, release.c.release_id == release_id)).first()
    return _record(row) if row else None


def named_by_releases(connection: Connection, user_id: str, field: str, *, stale: bool = True) -> set[str]:
    """What the user's releases, live or not, name under this field of their manifests; `stale`: the stale ones too.

    Why not from the records: a manifest of an older form must not keep a new release from being published.
    """
    from sqlalchemy import select

    query = select(release.c.manifest[field].astext).where(release.c.user_id == user_id)
    named = connection.execute(query if stale else query.where(release.c.stale_reason.is_(None))).scalars()
    return {value for value in named if value is not None}


def served_model(connection: Connection, user_id: str) -> ServedModel:
    from sqlalchemy import select

    row = connection.execute(select(app_user.c.lora_path, app_user.c.model_ready).where(app_user.c.user_id == user_id)).first()
    return ServedModel(row.lora_path, row.model_ready) if row else ServedModel(None, False)


def _set_model(connection: Connection, user_id: str, model: ServedModel) -> None:
    from sqlalchemy import update

    values = {"lora_path": model.lora_path, "model_ready": model.model_ready}
    connection.execute(update(app_user).where(app_user.c.user_id == user_id).values(values))


def _put(connection: Connection, record: Release) -> None:
    """Insert or overwrite. A release that is made anew is of documents that are there: it is stale no longer."""
    from sqlalchemy.dialects.postgresql import insert

    manifest = _manifests().dump_python(record, mode="json")
    del manifest["stale_reason"]
    changing = {
        "status": record.status,
        "manifest": manifest,
        "created_at": record.created_at,
        "stale_reason": record.stale_reason,
        **WRITTEN_NOW,
    }
    connection.execute(
        insert(release)
        .values(user_id=record.user_id, release_id=record.release_id, **changing)
        .on_conflict_do_update(index_elements=[release.c.user_id, release.c.release_id], set_=changing)
    )


@lru_cache(maxsize=1)
def _manifests() -> TypeAdapter[Release]:
    """Why kept: it is made from the type's declaration, which takes milliseconds of each turn and look."""
    from pydantic import TypeAdapter

    return TypeAdapter(Release)


def _record(row: Row[Any]) -> Release:
    from pydantic import ValidationError

    own = {"status": row.status, "stale_reason": row.stale_reason}
    try:
        return _manifests().validate_python({**row.manifest, **own})
    except ValidationError as error:
        wrong = ", ".join(sorted({".".join(map(str, e["loc"])) for e in error.errors()})[:5])
        raise StoreError(
            "artefact_unreadable",
            f"the manifest of release {row.release_id} is of another form ({wrong}): materialize `twin_release` again",
            retryable=False,
        ) from None
