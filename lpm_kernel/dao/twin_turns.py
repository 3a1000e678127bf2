"""Twins that vote of their own accord: whose turn it is on which open vote, and each of these turns once.

Belongs here: finding the turns that are left, a few at a time, and going on when one fails.
Does not belong here: the ballot (`twin_ballots.py`), the rows (`stores/dao_twin_turns.py`), and when this runs
(`twin_serving/dao_side.py`, `twin_assets/assets/dao.py`).

A twin's turn comes when its person has said what it may do, a release of it serves, and neither of them has voted. It is over
for this release and this consent whatever came of it: of a new release, or of another consent, there is another.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.stance import weigh_stance
from lpm_kernel.dao.twin_ballots import TwinBallot, Weigh, cast_twin_ballot
from lpm_kernel.errors import TwinError
from lpm_kernel.stores.dao_ledger import ProposalRow, last_seq, votes_under_way
from lpm_kernel.stores.dao_twin_turns import (
    Turn,
    Willing,
    end_turn,
    proposals_to_try_again,
    take_turn,
    turns_of,
    willing_twins,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from lpm_kernel.dao.service import Dao
    from lpm_kernel.stores.llm import Llm
    from lpm_kernel.stores.open import Stores

_LOG = logging.getLogger(__name__)
LEASE = timedelta(minutes=10)
"""For which a turn is one process's; weighing takes seconds, on a machine with much else to do a minute."""
AGAIN, MOST_AGAIN = timedelta(seconds=30), timedelta(hours=1)
"""Between two tries of a turn that failed: twice as long each time, up to the second."""
READ_AT_ONCE = 16
"""Votes."""


@dataclass(frozen=True, slots=True)
class DueTurn:
    user_id: str
    proposal_id: str
    basis: str


@dataclass(frozen=True, slots=True)
class TwinTurns:
    """`failed`: by member and proposal the code of the error; `left`: turns seen to be due that were not come to."""

    taken: Mapping[tuple[str, str], TwinBallot] = field(default_factory=dict)
    failed: Mapping[tuple[str, str], str] = field(default_factory=dict)
    left: int = 0


@dataclass(slots=True)
class LookedThrough:
    """Where a process that looks again and again has seen that no turn is left: with these twins, in votes as they stood by
    this event of the ledger. Until somebody is willing otherwise only newer votes, and turns to try again, can be due."""

    willing: tuple[Willing, ...] = ()
    seq: int = 0


def sort_out(
    proposal: ProposalState, twins: Iterable[Willing], turns: Mapping[tuple[str, str], Turn], at: datetime
) -> tuple[list[DueTurn], list[DueTurn]]:
    """Those of these twins whose turn it is, those first that nobody has tried; and those who will have none, since they or
    their person voted or they are not in the electorate. Pure."""
    due: list[tuple[bool, DueTurn]] = []
    over: list[DueTurn] = []
    voted = {ballot.voter for ballot in proposal.ballots}
    for twin in twins:
        turn = turns.get((twin.user_id, proposal.proposal_id))
        if not is_left(turn, twin.basis, at):
            continue
        mine = DueTurn(twin.user_id, proposal.proposal_id, twin.basis)
        if twin.user_id in voted or twin.user_id not in proposal.electorate:
            over.append(mine)
        else:
            due.append((turn is not None, mine))
    due.sort(key=lambda item: (item[0], item[1].user_id))
    return [mine for _, mine in due], over


def is_left(turn: Turn | None, basis: str, at: datetime) -> bool:
    if turn is None:
        return True
    return turn.basis != basis if turn.again_at is None else turn.again_at <= at


def let_twins_vote(
    dao: Dao,
    stores: Stores,
    llm: Callable[[], Llm],
    *,
    most: int,
    open_for: timedelta = timedelta(0),
    ends: Callable[[], bool] = lambda: False,
    weigh: Weigh = weigh_stance,
    looked: LookedThrough | None = None,
) -> TwinTurns:
    """Take up to `most` of the turns that are due. Idempotent; several at once take each turn once.

    `llm`: opened only where somebody's turn is. `open_for`: votes that have been open for less are left to others.
    `ends`: asked before each turn. `looked`: of whoever looks again, so that each look reads what can be due since; else it
    reads all votes under way. An error of one turn is kept, logged, and tried again later where that may help.
    Raises: StoreError where the ledger does not answer; LlmError where the model cannot be opened.
    """
    due = _find_due(dao, most, open_for, looked or LookedThrough())
    if not due:
        return TwinTurns()
    engine = llm()
    taken: dict[tuple[str, str], TwinBallot] = {}
    failed: dict[tuple[str, str], str] = {}
    for turn in due:
        if len(taken) + len(failed) >= most or ends():
            break
        pair = turn.user_id, turn.proposal_id
        tries: int | None = None
        try:
            if (tries := _take(dao, turn)) is None:
                continue
            found = cast_twin_ballot(dao, stores, engine, *pair, weigh=weigh)
            _end(dao, turn, found.outcome, found.why, None)
            taken[pair] = found
        except Exception as error:  # those behind it would never come to their turn
            failed[pair] = _put_off(dao, turn, tries, error)
    return TwinTurns(taken, failed, len(due) - len(taken) - len(failed))


def _find_due(dao: Dao, most: int, open_for: timedelta, looked: LookedThrough) -> list[DueTurn]:
    """As many as are wanted, or a few more. Votes are read a few at a time, those that end first before others, and none in
    which every twin has had its turn: there may be a thousand, and this looks each second."""
    at = dao.clock()
    with dao.tables.operator_transaction() as connection:
        willing = tuple(willing_twins(connection))
        seq = last_seq(connection)  # first: what comes meanwhile is looked at again, and not lost
        rows, turns = _that_can_be_due(connection, willing, looked, at) if willing else ([], {})
    waiting = [
        row for row in rows if any(is_left(turns.get((twin.user_id, row.proposal_id)), twin.basis, at) for twin in willing)
    ]
    found: list[DueTurn] = []
    # where somebody still has a turn that is over for another release or consent, there will be one, and no event tells of it
    whole = not any(
        (turn := turns.get((twin.user_id, row.proposal_id))) and turn.again_at is not None and turn.basis != twin.basis
        for row in rows
        for twin in willing
    )
    for first in range(0, len(waiting), READ_AT_ONCE):
        with dao.session() as session:
            proposals = session.read_many(waiting[first : first + READ_AT_ONCE])
        proposals.sort(key=lambda each: (each.ends_at or at, each.proposal_id))
        for proposal in proposals:
            due, over = sort_out(proposal, willing, turns, at)
            for turn in over:
                with suppress(TwinError):  # somebody is being deleted, and the others wait
                    if _take(dao, turn) is not None:
                        _end(dao, turn, "refused", "voted_or_no_voter", None)
            if proposal.starts_at is not None and proposal.starts_at + open_for <= at:
                found += due
            else:
                whole = False
        if len(found) >= most:
            break
    if not found and whole:
        looked.willing, looked.seq = willing, seq
    return found


def _that_can_be_due(
    connection: Connection, willing: tuple[Willing, ...], looked: LookedThrough, at: datetime
) -> tuple[list[ProposalRow], dict[tuple[str, str], Turn]]:
    """Votes in which a twin may have a turn left, those that end first before others, and the turns that were had in them."""
    if willing == looked.willing:
        rows = votes_under_way(connection, at, looked.seq, proposals_to_try_again(connection, at))
    else:
        rows = votes_under_way(connection, at, 0)
    return rows, turns_of(connection, [row.proposal_id for row in rows]) if rows else {}


def _put_off(dao: Dao, turn: DueTurn, tries: int | None, error: Exception) -> str:
    """Why it failed. Where not even that can be stored its lease runs out."""
    known = isinstance(error, TwinError)
    code = error.code if isinstance(error, TwinError) else "internal"
    _LOG.log(
        logging.WARNING if known else logging.ERROR,
        *("the twin of %s has not voted on %s: %s", turn.user_id, turn.proposal_id, code),
        exc_info=None if known else error,
    )
    if tries is not None:
        again = error.retryable if isinstance(error, TwinError) else True
        with suppress(TwinError):
            _end(dao, turn, "failed", code, tries if again else None)
    return code


def _take(dao: Dao, turn: DueTurn) -> int | None:
    at = dao.clock()
    with dao.tables.transaction(turn.user_id) as connection:
        return take_turn(connection, turn.user_id, turn.proposal_id, turn.basis, at, at + LEASE)


def _end(dao: Dao, turn: DueTurn, outcome: str, why: str, tries: int | None) -> None:
    """`tries`: so many have failed, and it is tried again; None: it is over."""
    at = dao.clock()
    again_at = None if tries is None else at + min(MOST_AGAIN, AGAIN * 2 ** min(tries - 1, 10))
    with dao.tables.transaction(turn.user_id) as connection:
        end_turn(connection, turn.user_id, turn.proposal_id, turn.basis, outcome, why, at, again_at)
