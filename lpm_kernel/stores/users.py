"""Rows of `app_user`: who has a twin.

Belongs here: queries on that table, inside a transaction of the user's own.
Does not belong here: anything about their documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpm_kernel.errors import UserInputError
from lpm_kernel.records import User, is_text
from lpm_kernel.stores.deletions import check_not_going
from lpm_kernel.stores.schema import WRITTEN_NOW, app_user

if TYPE_CHECKING:
    from sqlalchemy import Connection


def add_user(connection: Connection, user: User) -> None:
    """Idempotent; a name that is given replaces the one that is known.

    Raises: UserInputError `name_invalid`, `deletion_under_way`.
    """
    from sqlalchemy import func
    from sqlalchemy.dialects.postgresql import insert

    if user.name is not None and not is_text(user.name):
        raise UserInputError("name_invalid", "the name holds a NUL character or half of a character, which no text may")
    check_not_going(connection, user.user_id)
    statement = insert(app_user).values(user_id=user.user_id, name=user.name)
    named = {"name": func.coalesce(statement.excluded.name, app_user.c.name)} | (WRITTEN_NOW if user.name is not None else {})
    connection.execute(statement.on_conflict_do_update(index_elements=[app_user.c.user_id], set_=named))


def find_user(connection: Connection, user_id: str) -> User | None:
    from sqlalchemy import select

    row = connection.execute(select(app_user.c.user_id, app_user.c.name).where(app_user.c.user_id == user_id)).first()
    return User(row.user_id, row.name) if row else None


def list_user_ids(connection: Connection) -> list[str]:
    """Everybody who is known, those who are being deleted too; for `Tables.operator_transaction`."""
    from sqlalchemy import select

    return list(connection.scalars(select(app_user.c.user_id).order_by(app_user.c.user_id)))


def remove_user(connection: Connection, user_id: str) -> bool:
    """The row, and with it every row of the user in every table; whether there was one."""
    from sqlalchemy import delete

    return connection.execute(delete(app_user).where(app_user.c.user_id == user_id)).rowcount == 1


def get_user(connection: Connection, user_id: str) -> User:
    """Raises: UserInputError `twin_not_found`, `deletion_under_way`."""
    user = find_user(connection, user_id)
    check_not_going(connection, user_id)
    if user is None:
        raise UserInputError(
            "twin_not_found", f"there is no twin {user_id!r}: add one with `twin add-user {user_id}` or an upload"
        )
    return user
