"""Rows of `calibration_pair`: two answers to one question, shown without saying whose they are, and which the person took.

Belongs here: queries on that table, and what may stand in it.
Does not belong here: making answers (`calibrate.py`) and what is learnt from picks (`L2/picked_pairs.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from lpm_kernel.errors import UserInputError
from lpm_kernel.records import Citation, is_text
from lpm_kernel.stores.schema import WRITTEN_NOW, calibration_pair

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

Pick = Literal["twin", "base", "neither"]
Choice = Literal["first", "second", "neither"]
"""As the person sees it; `neither` where they would have said none of the two."""


@dataclass(frozen=True, slots=True)
class CalibrationPair:
    """`citations`: of the lines both answers had before them."""

    pair_id: str
    run_id: str
    release_id: str
    question: str
    citations: tuple[Citation, ...]
    twin_answer: str
    base_answer: str
    twin_first: bool
    """Never told before the pick."""
    created_at: datetime
    pick: Pick | None = None
    picked_at: datetime | None = None

    @property
    def answers(self) -> tuple[str, str]:
        """In the order they are shown in."""
        return (self.twin_answer, self.base_answer) if self.twin_first else (self.base_answer, self.twin_answer)

    @property
    def picked(self) -> Choice | None:
        """What was picked, as the person saw it."""
        if self.pick is None or self.pick == "neither":
            return self.pick
        return "first" if (self.pick == "twin") == self.twin_first else "second"

    def taken_by(self, choice: Choice) -> Pick:
        if choice == "neither":
            return "neither"
        return "twin" if (choice == "first") == self.twin_first else "base"


def put_pairs(connection: Connection, user_id: str, pairs: Sequence[CalibrationPair]) -> None:
    """Idempotent by pair id."""
    from dataclasses import asdict

    from sqlalchemy.dialects.postgresql import insert

    for pair in pairs:
        values = {**asdict(pair), "user_id": user_id, "citations": [asdict(citation) for citation in pair.citations]}
        connection.execute(insert(calibration_pair).values(values).on_conflict_do_nothing())


def list_pairs(connection: Connection, user_id: str) -> list[CalibrationPair]:
    """In the order they were made and shown."""
    from sqlalchemy import select

    rows = connection.execute(
        select(calibration_pair)
        .where(calibration_pair.c.user_id == user_id)
        .order_by(calibration_pair.c.created_at, calibration_pair.c.run_id, calibration_pair.c.pair_id)
    )
    return [_record(row) for row in rows]


def keep_pick(connection: Connection, user_id: str, pair_id: str, choice: Choice, at: datetime) -> CalibrationPair:
    """The pair with its pick; the newest one stands. Raises: UserInputError `pair_unknown`."""
    from sqlalchemy import select, update

    own = (calibration_pair.c.user_id == user_id, calibration_pair.c.pair_id == pair_id)
    shown = select(calibration_pair).where(*own).with_for_update()
    row = connection.execute(shown).one_or_none() if is_text(pair_id) else None
    if row is None:
        raise UserInputError("pair_unknown", f"the user {user_id!r} was shown no such pair")
    pick = _record(row).taken_by(choice)
    changed = update(calibration_pair).where(*own).values({"pick": pick, "picked_at": at, **WRITTEN_NOW})
    return _record(connection.execute(changed.returning(calibration_pair)).one())


def drop_pairs_of(connection: Connection, user_id: str, sha256s: Collection[str]) -> int:
    """Delete the pairs whose answers had a line of these documents before them; how many."""
    from sqlalchemy import delete, or_

    if not sha256s:
        return 0
    cites = [calibration_pair.c.citations.contains([{"document_sha256": sha256}]) for sha256 in sorted(sha256s)]
    return connection.execute(delete(calibration_pair).where(calibration_pair.c.user_id == user_id, or_(*cites))).rowcount


def _record(row: Row[Any]) -> CalibrationPair:
    return CalibrationPair(
        pair_id=row.pair_id,
        run_id=row.run_id,
        release_id=row.release_id,
        question=row.question,
        citations=tuple(Citation(**citation) for citation in row.citations),
        twin_answer=row.twin_answer,
        base_answer=row.base_answer,
        twin_first=row.twin_first,
        created_at=row.created_at,
        pick=row.pick,
        picked_at=row.picked_at,
    )
