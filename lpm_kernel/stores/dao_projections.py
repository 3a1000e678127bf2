"""Rows of `dao_projection`: how far each target has read the ledger, which is its own outbox.

Belongs here: queries on that table.
Does not belong here: what is written into a target (`dao/projection.py`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lpm_kernel.stores.dead_letters import resolve_shared_letter
from lpm_kernel.stores.schema import dao_event, dao_projection

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

GRAPH = "graph"
"""The target that every home has."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Written up to `last_seq`. `attempts` that failed since, the next not before `due_at`, `code` of the last."""

    target: str
    last_seq: int = 0
    attempts: int = 0
    due_at: datetime | None = None
    code: str | None = None


def lock_cursor(connection: Connection, target: str) -> Cursor:
    """Until the end of the transaction nobody else writes into the target."""
    from sqlalchemy import text

    lock = text("select pg_advisory_xact_lock(hashtext('twin.dao.projection'), hashtext(:target))")
    connection.execute(lock, {"target": target})
    return _cursor(connection, target)


def try_cursor(connection: Connection, target: str) -> Cursor | None:
    """The same without waiting; None while somebody else writes into it."""
    from sqlalchemy import text

    lock = text("select pg_try_advisory_xact_lock(hashtext('twin.dao.projection'), hashtext(:target))")
    return _cursor(connection, target) if connection.execute(lock, {"target": target}).scalar_one() else None


def _cursor(connection: Connection, target: str) -> Cursor:
    from sqlalchemy import select
    from sqlalchemy.dialects.postgresql import insert

    connection.execute(insert(dao_projection).values(asdict(Cursor(target))).on_conflict_do_nothing())
    return _to_cursor(connection.execute(select(dao_projection).where(dao_projection.c.target == target)).one())


def _to_cursor(row: Row[Any]) -> Cursor:
    due_at = row.due_at.astimezone(UTC) if row.due_at else None
    return Cursor(row.target, row.last_seq, row.attempts, due_at, row.code)


def stage_of(target: str) -> str:
    """Under which its dead letters are known."""
    return f"{target}/ledger"


def move_cursor(connection: Connection, cursor: Cursor) -> None:
    """One that has heard of something has no failure left."""
    from sqlalchemy import update

    if not cursor.attempts:
        resolve_shared_letter(connection, stage_of(cursor.target))
    connection.execute(update(dao_projection).where(dao_projection.c.target == cursor.target).values(asdict(cursor)))


def list_ledger_lags(connection: Connection) -> list[tuple[str, int, datetime | None]]:
    """Of each target how many events it has not heard of, and when the oldest of these happened. The graph is always one:
    before it was told of anything it has no row, and is behind by all there is."""
    from sqlalchemy import func, select

    known = {cursor.target: cursor for cursor in (Cursor(GRAPH), *list_cursors(connection))}
    lags: list[tuple[str, int, datetime | None]] = []
    for cursor in known.values():
        behind = select(func.count(), func.min(dao_event.c.at)).where(dao_event.c.seq > cursor.last_seq)
        undone, oldest_at = connection.execute(behind).one()
        lags.append((cursor.target, undone, oldest_at))
    return lags


def list_cursors(connection: Connection) -> list[Cursor]:
    from sqlalchemy import select

    return [_to_cursor(row) for row in connection.execute(select(dao_projection).order_by(dao_projection.c.target))]
