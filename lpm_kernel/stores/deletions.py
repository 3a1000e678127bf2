"""Rows of `deletion`: users whose deletion is under way, or done while the pipeline still knows of them.

Belongs here: queries on that table.
Does not belong here: deleting (`lpm_kernel/erase.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lpm_kernel.errors import UserInputError
from lpm_kernel.stores.schema import WRITTEN_NOW, deletion

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class UserDeletion:
    """`done_at` is None while some store still holds something."""

    user_id: str
    begun_at: datetime
    done_at: datetime | None


def begin_deletion(connection: Connection, user_id: str, at: datetime) -> None:
    """Put it on record. One that is under way goes on; one that was done is of an earlier user of this id."""
    from sqlalchemy import func
    from sqlalchemy.dialects.postgresql import insert

    row = insert(deletion).values(user_id=user_id, begun_at=at)
    started = func.least(deletion.c.begun_at, row.excluded.begun_at)
    connection.execute(
        row.on_conflict_do_update(
            index_elements=[deletion.c.user_id], set_={"begun_at": started, "done_at": None, **WRITTEN_NOW}
        )
    )


def end_deletion(connection: Connection, user_id: str, at: datetime) -> None:
    from sqlalchemy import update

    connection.execute(update(deletion).where(deletion.c.user_id == user_id).values(done_at=at))


def drop_deletion(connection: Connection, user_id: str, done_at: datetime) -> bool:
    """Forget a deletion that is done; False when another one has begun since."""
    from sqlalchemy import delete

    gone = delete(deletion).where(deletion.c.user_id == user_id, deletion.c.done_at == done_at)
    return connection.execute(gone).rowcount == 1


def find_deletion(connection: Connection, user_id: str) -> UserDeletion | None:
    from sqlalchemy import select

    row = connection.execute(select(deletion).where(deletion.c.user_id == user_id)).first()
    return UserDeletion(row.user_id, row.begun_at, row.done_at) if row else None


def check_not_going(connection: Connection, user_id: str) -> None:
    """Raises: UserInputError `deletion_under_way`."""
    found = find_deletion(connection, user_id)
    if found is not None and found.done_at is None:
        raise UserInputError(
            "deletion_under_way", f"user {user_id} is being deleted: ask for the deletion again until it says that it is done"
        )


def list_deletions(connection: Connection) -> list[UserDeletion]:
    """The oldest first; for `Tables.operator_transaction`."""
    from sqlalchemy import select

    rows = connection.execute(select(deletion).order_by(deletion.c.begun_at, deletion.c.user_id))
    return [UserDeletion(row.user_id, row.begun_at, row.done_at) for row in rows]
