"""Rows of `dead_letter`: stages and changes that failed for good, until a later run of the same succeeds or a person says that
none need.

Belongs here: queries on that table.
Does not belong here: deciding when something has failed for good (`twin_assets/failures.py`, `lpm_kernel/sync/retry.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lpm_kernel.errors import TwinError
from lpm_kernel.records import content_id
from lpm_kernel.stores.schema import dead_letter

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from lpm_kernel.stores.changes import Change
    from lpm_kernel.stores.tables import Tables

SHARED = "_shared"
"""Whose letters they are that no one user's work has left: nobody can have this id."""


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
    change_id: str | None = None
    """Of the change that was given up; None of a stage."""
    transaction_id: str | None = None
    discarded_by: str | None = None
    """Who said that it needs no mending, and `discard_reason` why: it is resolved then."""
    discard_reason: str | None = None

    @property
    def letter_id(self) -> str:
        """By which a person names it."""
        return content_id(self.user_id, self.run_id, self.stage)[:12]


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


def keep_letter_of_change(connection: Connection, of: Change, code: str, message: str, at: datetime) -> None:
    """In the transaction that gives it up. The last failure stands: one that was put back has failed anew."""
    from sqlalchemy.dialects.postgresql import insert

    told = {"attempts": of.attempts, "code": code, "message": message, "created_at": at, "transaction_id": of.transaction_id}
    told |= {"resolved_at": None, "discarded_by": None, "discard_reason": None}
    key = {"user_id": of.user_id, "run_id": of.change_id, "stage": of.step}
    statement = insert(dead_letter).values(**key, change_id=of.change_id, **told)
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=told))


def resolve_letter_of_change(connection: Connection, user_id: str, change_id: str, at: datetime) -> None:
    """It has reached its target after all."""
    from sqlalchemy import update

    own = (dead_letter.c.user_id == user_id, dead_letter.c.change_id == change_id, dead_letter.c.resolved_at.is_(None))
    connection.execute(update(dead_letter).where(*own).values(resolved_at=at))


def keep_shared_letter(connection: Connection, stage: str, attempts: int, code: str, message: str, at: datetime) -> None:
    """Of what belongs to no one user; as the operator. The last failure stands, and since when."""
    from sqlalchemy.dialects.postgresql import insert

    told = {"attempts": attempts, "code": code, "message": message}
    again = {**told, "resolved_at": None, "discarded_by": None, "discard_reason": None}
    key = {"user_id": SHARED, "run_id": stage, "stage": stage}
    statement = insert(dead_letter).values(**key, created_at=at, **told)
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=again))


def resolve_shared_letter(connection: Connection, stage: str) -> None:
    from sqlalchemy import func, update

    this = (dead_letter.c.user_id == SHARED, dead_letter.c.stage == stage, dead_letter.c.resolved_at.is_(None))
    connection.execute(update(dead_letter).where(*this).values(resolved_at=func.now()))


def resolve_dead_letters(connection: Connection, user_id: str, stages: tuple[str, ...], at: datetime) -> int:
    """Mark the open letters of these stages as done with; how many there were."""
    from sqlalchemy import update

    return connection.execute(
        update(dead_letter)
        .where(dead_letter.c.user_id == user_id, dead_letter.c.stage.in_(stages), dead_letter.c.resolved_at.is_(None))
        .where(dead_letter.c.change_id.is_(None))
        .values(resolved_at=at)
    ).rowcount


def discard_dead_letter(connection: Connection, letter: DeadLetter, *, by: str, reason: str, at: datetime) -> bool:
    """Nobody has to mend it any more; who said so, and why, stays on record. False where it is not open."""
    from sqlalchemy import update

    this = (dead_letter.c.user_id == letter.user_id, dead_letter.c.run_id == letter.run_id, dead_letter.c.stage == letter.stage)
    told = {"resolved_at": at, "discarded_by": by, "discard_reason": reason}
    return connection.execute(update(dead_letter).where(*this, dead_letter.c.resolved_at.is_(None)).values(told)).rowcount == 1


def list_dead_letters(connection: Connection, user_id: str, *, resolved: bool = False) -> list[DeadLetter]:
    """Newest first; the resolved ones too where they are asked for."""
    from sqlalchemy import select

    query = select(dead_letter).where(dead_letter.c.user_id == user_id)
    if not resolved:
        query = query.where(dead_letter.c.resolved_at.is_(None))
    rows = connection.execute(query.order_by(dead_letter.c.created_at.desc(), dead_letter.c.stage))
    return [DeadLetter(**{name: value for name, value in row._mapping.items() if name != "person"}) for row in rows]
