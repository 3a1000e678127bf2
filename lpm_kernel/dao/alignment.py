"""How often a twin chose as its person did, where both have chosen.

Belongs here: counting over the ledger and over drafts.
Does not belong here: how a twin chooses (`stance.py`).

A person who has seen what their twin chose may have followed it, so this is agreement and not proof. What a person vetoed
without voting is counted beside it: there is no choice of theirs to compare.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpm_kernel.dao.ballot_draft import Choice
from lpm_kernel.dao.records import Ballot
from lpm_kernel.L2.intervals import share_interval
from lpm_kernel.stores.ballot_drafts import list_drafts

if TYPE_CHECKING:
    from lpm_kernel.dao.fold import ProposalState
    from lpm_kernel.dao.service import Dao
    from lpm_kernel.stores.tables import Tables


@dataclass(frozen=True, slots=True)
class Alignment:
    """`interval`: Wilson's, of 95 %, of the share `same`/`compared`; (0, 1) where nothing was compared. `opposed`: one was for
    and the other against."""

    same: int
    compared: int
    opposed: int
    vetoed: int
    interval: tuple[float, float]

    @property
    def share(self) -> float | None:
        return self.same / self.compared if self.compared else None


@dataclass(frozen=True, slots=True)
class AlignmentReport:
    """`by_user`: only of those with anything to compare or vetoed."""

    overall: Alignment
    by_user: Mapping[str, Alignment]


@dataclass(frozen=True, slots=True)
class Pair:
    user_id: str
    proposal_id: str
    by_twin: Choice
    by_human: Choice | None
    vetoed: bool


def measure_alignment(dao: Dao, tables: Tables, user_ids: Iterable[str] | None = None) -> AlignmentReport:
    """Of these members, or of all. A ballot goes before a draft. Raises: StoreError."""
    drafted: dict[str, dict[str, Choice]] = {}
    for user_id in dao.members() if user_ids is None else user_ids:
        with tables.transaction(user_id) as connection:
            newest_first = list_drafts(connection, user_id)
        drafted[user_id] = {kept.draft.proposal: kept.draft.choice for kept in reversed(newest_first)}
    pairs: list[Pair] = []
    for proposals in dao.batches():  # all votes there ever were need not fit into memory
        for user_id, choices in drafted.items():
            pairs += pairs_of(user_id, proposals, choices)
    return report_of(pairs)


def pairs_of(user_id: str, proposals: Sequence[ProposalState], drafted: Mapping[str, Choice]) -> list[Pair]:
    """`drafted`: by proposal, the choice of the newest draft. Pure."""
    pairs: list[Pair] = []
    for proposal in proposals:
        own = [ballot for ballot in proposal.ballots if ballot.voter == user_id]
        by_twin, by_human = _newest(own, "twin"), _newest(own, "human")
        chosen = by_twin.choice if by_twin else drafted.get(proposal.proposal_id)
        if chosen is None:
            continue
        vetoed = by_twin is not None and by_twin.ballot_id in proposal.vetoed
        if by_human is not None or vetoed:
            pairs.append(Pair(user_id, proposal.proposal_id, chosen, by_human.choice if by_human else None, vetoed))
    return pairs


def report_of(pairs: Sequence[Pair]) -> AlignmentReport:
    users = sorted({pair.user_id for pair in pairs})
    return AlignmentReport(
        count_alignment(pairs),
        {user_id: count_alignment([pair for pair in pairs if pair.user_id == user_id]) for user_id in users},
    )


def count_alignment(pairs: Iterable[Pair]) -> Alignment:
    pairs = list(pairs)
    both = [pair for pair in pairs if pair.by_human is not None]
    same = sum(pair.by_twin == pair.by_human for pair in both)
    opposed = sum({pair.by_twin, pair.by_human} == {"for", "against"} for pair in both)
    return Alignment(same, len(both), opposed, sum(pair.vetoed for pair in pairs), share_interval(same, len(both)))


def _newest(ballots: Iterable[Ballot], cast_by: str) -> Ballot | None:
    return max(
        (ballot for ballot in ballots if ballot.cast_by == cast_by),
        key=lambda ballot: (ballot.cast_at, ballot.ballot_id),
        default=None,
    )
