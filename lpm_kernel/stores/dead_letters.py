"""Rows of `dead_letter`: stages that failed for good, until a later run of the same stage succeeds.

Belongs here: queries on that table.
Does not belong here: deciding when a stage has failed for good (`twin_assets/failures.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lpm_kernel.errors import TwinError
from lpm_kernel.stores.schema import dead_letter

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from lpm_kernel.stores.tables import Tables


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """`code` and `message` of the last attempt; both are an error's own and hold no text of a document."""

    user_id: str
    stage: str
    run_id: str
    attempts: int
    code: str
    message: str
    created_at: datetime
    resolved_at: datetime | None = None


def write_or_warn(tables: Tables, user_id: str, write: Callable[[Connection], object], warn: Callable[[str], None]) -> None:
    """Write in one transaction. What keeps it from being written is said and no more: it must not hide what the letter is
    about, nor undo what has succeeded."""
    try:
        with tables.transaction(user_id) as connection:
            write(connection)
    except TwinError as error:
        warn(f"the dead letters of user {user_id} could not be written: {error}")


def put_dead_letter(connection: Connection, letter: DeadLetter) -> None:
    """Idempotent by user, run and stage: the first letter stands, since it is the one that saw the failure."""
    from sqlalchemy.dialects.postgresql import insert

    connection.execute(insert(dead_letter).values(asdict(letter)).on_conflict_do_nothing())


def resolve_dead_letters(connection: Connection, user_id: str, stages: tuple[str, ...], at: datetime) -> int:
    """Mark the open letters of these stages as done with; how many there were."""
    from sqlalchemy import update

    return connection.execute(
        update(dead_letter)
        .where(dead_letter.c.user_id == user_id, dead_letter.c.stage.in_(stages), dead_letter.c.resolved_at.is_(None))
        .values(resolved_at=at)
    ).rowcount


def list_dead_letters(connection: Connection, user_id: str, *, resolved: bool = False) -> list[DeadLetter]:
    """Newest first; the resolved ones too where they are asked for."""
    from sqlalchemy import select

    query = select(dead_letter).where(dead_letter.c.user_id == user_id)
    if not resolved:
        query = query.where(dead_letter.c.resolved_at.is_(None))
    rows = connection.execute(query.order_by(dead_letter.c.created_at.desc(), dead_letter.c.stage))
    return [DeadLetter(**row._mapping) for row in rows]
