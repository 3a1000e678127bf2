"""Rows of `dao_twin_turn`: which twin has weighed which proposal, by what, and which is at it now.

Belongs here: queries on that table, and who lets their twin do anything of its own accord.
Does not belong here: whose turn it is and what is done in it (`dao/twin_turns.py`).

A turn that is taken is a lease: whoever was killed in it leaves it to the next one when it runs out.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lpm_kernel.records import content_id
from lpm_kernel.stores.dao_plan_schema import dao_twin_turn
from lpm_kernel.stores.schema import WRITTEN_NOW, dao_consent, dao_proposal, release

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Willing:
    """Somebody who said that their twin may act, and whose twin serves. `basis`: what it would act by, their release and their
    consent; of another basis it is another turn."""

    user_id: str
    basis: str


@dataclass(frozen=True, slots=True)
class Turn:
    """`again_at`: not before then; None: it is done."""

    basis: str
    again_at: datetime | None


def willing_twins(connection: Connection) -> list[Willing]:
    """By user id; in the operator's transaction. Who has said nothing is none of them: their twin drafts when it is asked."""
    from sqlalchemy import select

    query = (
        select(dao_consent.c.user_id, dao_consent.c.mode, dao_consent.c.changed_at, release.c.release_id)
        .join(release, release.c.user_id == dao_consent.c.user_id)
        .where(dao_consent.c.mode != "never", release.c.status == "live")
        .order_by(dao_consent.c.user_id)
    )
    return [
        Willing(row.user_id, content_id(row.release_id, row.mode, row.changed_at.isoformat()))
        for row in connection.execute(query)
    ]


def turns_of(connection: Connection, proposal_ids: Collection[str]) -> dict[tuple[str, str], Turn]:
    """By user and proposal; of everybody in the operator's transaction."""
    from sqlalchemy import select

    table = dao_twin_turn
    query = select(table.c.user_id, table.c.proposal_id, table.c.basis, table.c.again_at)
    rows = connection.execute(query.where(table.c.proposal_id.in_(list(proposal_ids))))
    return {(row.user_id, row.proposal_id): Turn(row.basis, row.again_at) for row in rows}


def proposals_to_try_again(connection: Connection, at: datetime) -> set[str]:
    """Under way, and some turn in them waits for another try whose time has come; of everybody, in the operator's
    transaction."""
    from sqlalchemy import select

    table = dao_twin_turn
    waits = table.c.again_at.is_not(None), table.c.again_at <= at, dao_proposal.c.status == "voting"
    beside = table.join(dao_proposal, dao_proposal.c.proposal_id == table.c.proposal_id)
    return set(connection.execute(select(table.c.proposal_id).select_from(beside).where(*waits)).scalars())


def take_turn(connection: Connection, user_id: str, proposal_id: str, basis: str, at: datetime, until: datetime) -> int | None:
    """Which try this is; None: somebody else has this turn, or it is done. In the user's transaction."""
    from sqlalchemy import and_, case, or_
    from sqlalchemy.dialects.postgresql import insert

    table = dao_twin_turn
    fresh = insert(table).values(user_id=user_id, proposal_id=proposal_id, basis=basis, tries=1, again_at=until, at=at)
    same = table.c.basis == fresh.excluded.basis
    waits = and_(table.c.again_at.is_not(None), table.c.again_at <= at)
    taken = fresh.on_conflict_do_update(
        index_elements=[table.c.user_id, table.c.proposal_id],
        set_={
            "basis": basis, "tries": case((same, table.c.tries + 1), else_=1), "again_at": until, "at": at,
            "outcome": None, "why": None, **WRITTEN_NOW,
        },
        where=or_(waits, and_(~same, table.c.again_at.is_(None))),
    ).returning(table.c.tries)  # fmt: skip
    row = connection.execute(taken).first()
    return None if row is None else row.tries


def end_turn(
    connection: Connection,
    user_id: str,
    proposal_id: str,
    basis: str,
    outcome: str,
    why: str,
    at: datetime,
    again_at: datetime | None,
) -> None:
    """`again_at`: when it is tried again; None: it is done. A turn that somebody has taken since by another basis is theirs."""
    from sqlalchemy import update

    table = dao_twin_turn
    own = (table.c.user_id == user_id, table.c.proposal_id == proposal_id, table.c.basis == basis)
    ended = {"outcome": outcome, "why": why, "at": at, "again_at": again_at, **WRITTEN_NOW}
    connection.execute(update(table).where(*own).values(ended))
