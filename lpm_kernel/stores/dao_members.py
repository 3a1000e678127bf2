"""Who is a member of the DAO: whoever has a twin here and is not being deleted.

Belongs here: that question, as the operator, who sees ids, when they came, and nothing else.
Does not belong here: what a member may do (`dao/commands.py`) and what their voice weighs (`dao/rules.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lpm_kernel.stores.schema import app_user, deletion

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

CLOCK = "clock"
"""The actor of what nobody did: time passed. Whoever is named so has a twin and no vote."""


def list_members(connection: Connection) -> list[str]:
    return list(connection.execute(_members().order_by(app_user.c.user_id)).scalars())


def list_voters(connection: Connection, most: int) -> list[str]:
    """Those members who have a voice: of more than `dao.max_members` the ones who joined first."""
    return sorted(connection.execute(_members().order_by(app_user.c.created_at, app_user.c.user_id).limit(most)).scalars())


def is_member(connection: Connection, user_id: str) -> bool:
    return connection.execute(_members().where(app_user.c.user_id == user_id)).first() is not None


def _members() -> Select[Any]:
    from sqlalchemy import exists, select

    going = exists().where(deletion.c.user_id == app_user.c.user_id, deletion.c.done_at.is_(None))
    return select(app_user.c.user_id).where(~going, app_user.c.user_id != CLOCK)
