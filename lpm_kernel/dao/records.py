"""What the DAO is made of: proposals, ballots, delegations, tallies, resolutions.

Belongs here: frozen records, and the words their fields may hold.
Does not belong here: rules (`rules.py`), what happened (`events.py`) and what follows from it (`fold.py`, `tally.py`).

Weights and tallies are integers. Times are aware datetimes in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

from lpm_kernel.dao.ballot_draft import Choice

Status = Literal["draft", "open", "voting", "passed", "failed", "implemented", "cancelled"]
STATUSES: tuple[Status, ...] = get_args(Status)
ENDED: frozenset[Status] = frozenset({"passed", "failed", "implemented", "cancelled"})

CastBy = Literal["human", "twin"]
Outcome = Literal["passed", "failed"]
ResolutionReason = Literal["threshold_met", "threshold_not_met", "quorum_not_met", "no_decisive_votes"]
ClosedBy = Literal["decided", "deadline"]
ScopeKind = Literal["all", "topic", "proposal"]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a delegation is for. `of`: the topic or the proposal's id; empty where it is for everything."""

    kind: ScopeKind
    of: str = ""


@dataclass(frozen=True, slots=True)
class Ballot:
    """One voter's word on one proposal. The newest of a voter by (`cast_at`, `ballot_id`) counts; a human's before any twin's.

    `counts_from`: a twin's counts once its person's time to veto it is over; a human's at once.
    `citations`: ids of what the reasons rest on; the reasons' words are not in the ledger (`reasons_sha256`).
    """

    ballot_id: str
    proposal_id: str
    voter: str
    choice: Choice
    cast_by: CastBy
    cast_at: datetime
    counts_from: datetime
    confidence: float | None = None
    consent: str | None = None
    """Which of the person's rules let the twin cast it."""
    citations: tuple[str, ...] = ()
    reasons_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Delegation:
    """`standing`: of a member who says who votes for them when they are away: it counts only once a vote that stalls has
    called for it. `ends_at` None: until it is revoked."""

    delegation_id: str
    delegator: str
    delegate: str
    scope: Scope
    given_at: datetime
    ends_at: datetime | None = None
    standing: bool = False
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """Weights by choice. `electorate` is all weight there was when voting began; what neither voted nor was represented is
    `electorate - for_ - against - abstain`."""

    for_: int
    against: int
    abstain: int
    electorate: int
    voters: int
    """Who cast a ballot that counts."""
    represented: int
    """Who did not, and whose weight a delegate carried."""

    @property
    def cast(self) -> int:
        return self.for_ + self.against + self.abstain


@dataclass(frozen=True, slots=True)
class Counted:
    """Where each member's weight went: `through` is whose ballot carried it, themselves or a delegate; None: nobody's."""

    member: str
    weight: int
    choice: Choice | None
    through: str | None


@dataclass(frozen=True, slots=True)
class Resolution:
    """The one end of a vote. `rules_version` names the rules that it was counted by."""

    proposal_id: str
    outcome: Outcome
    reason: ResolutionReason
    closed_by: ClosedBy
    tally: Tally
    rules_version: str
    resolved_at: datetime


@dataclass(frozen=True, slots=True)
class Task:
    """Work for the micro-factory that a plan or a passed proposal asks for."""

    task_id: str
    kind: Literal["print_job", "maintenance", "purchase"]
    title: str
    assignee: str | None = None
    details: Mapping[str, str | int] = field(default_factory=dict)
