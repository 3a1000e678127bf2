"""The DAO as its members and its clock use it: each call is one transaction upon the ledger.

Belongs here: reading as much of the ledger as a call needs, asking the rules, and appending what they allow.
Does not belong here: the rules (`commands.py`, `steps.py`, `tally.py`), SQL (`stores/dao_ledger.py`), HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lpm_kernel.dao.ballot_draft import Choice
from lpm_kernel.dao.events import Event
from lpm_kernel.dao.records import Ballot, CastBy, Counted, Delegation, Resolution, Scope, Status, Tally, Task
from lpm_kernel.settings import DaoSettings
from lpm_kernel.stores.tables import Tables

if TYPE_CHECKING:
    from lpm_kernel.dao.fold import ProposalState
    from lpm_kernel.stores.open import Stores

CLOCK = "clock"
"""The actor of what nobody did: time passed. No user may be named so."""


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Cast:
    """`resolution` where this ballot decided the vote; `repeated` where the same ballot was there already under its key."""

    ballot: Ballot
    proposal: ProposalState
    resolution: Resolution | None
    repeated: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """How a vote stands. `stalled`: past the time at which standing delegations are called for, and no quorum."""

    proposal: ProposalState
    tally: Tally
    turnout_percent: float
    time_left_s: float
    stalled: bool
    counted: tuple[Counted, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    at: datetime
    open: tuple[Standing, ...]
    resolved: tuple[Resolution, ...]
    """Newest first."""
    members: int
    last_seq: int


class Dao:
    """Safe to share between threads; holds nothing but the connection pool.

    Raises, each call: VoteError what the rules refuse; StoreError when the tables do not answer.
    """

    def __init__(self, tables: Tables, settings: DaoSettings, clock: Callable[[], datetime] = now) -> None:
        self.tables = tables
        self.settings = settings
        self.clock = clock

    def propose(
        self,
        proposer: str,
        title: str,
        text: str,
        *,
        topic: str = "general",
        amends: str | None = None,
        open: bool = True,
        key: str | None = None,
    ) -> ProposalState:
        raise NotImplementedError

    def open_proposal(self, actor: str, proposal_id: str) -> ProposalState:
        raise NotImplementedError

    def cancel(self, actor: str, proposal_id: str, why: str) -> ProposalState:
        raise NotImplementedError

    def implement(self, actor: str, proposal_id: str, key: str | None = None) -> ProposalState:
        raise NotImplementedError

    def vote(
        self,
        voter: str,
        proposal_id: str,
        choice: Choice,
        *,
        cast_by: CastBy = "human",
        confidence: float | None = None,
        consent: str | None = None,
        reasons: str | None = None,
        citations: Sequence[str] = (),
        key: str | None = None,
        cast_at: datetime | None = None,
    ) -> Cast:
        """Closes the vote at once where this ballot decides it."""
        raise NotImplementedError

    def veto(self, voter: str, proposal_id: str) -> ProposalState:
        raise NotImplementedError

    def delegate(
        self,
        delegator: str,
        delegate: str,
        scope: Scope,
        *,
        ends_at: datetime | None = None,
        standing: bool = False,
        key: str | None = None,
    ) -> Delegation:
        raise NotImplementedError

    def revoke(self, delegator: str, delegation_id: str) -> Delegation:
        raise NotImplementedError

    def delegations(self, member: str | None = None) -> list[Delegation]:
        raise NotImplementedError

    def set_attributes(self, actor: str, member: str, attributes: Mapping[str, int]) -> None:
        raise NotImplementedError

    def assign_task(self, actor: str, task: Task, proposal_id: str | None = None, plan_id: str | None = None) -> None:
        raise NotImplementedError

    def due(self, at: datetime | None = None) -> list[str]:
        """Proposals for which time has come to do something."""
        raise NotImplementedError

    def advance(self, proposal_id: str, at: datetime | None = None) -> list[Event]:
        """Do what time asks for, until there is nothing more. Idempotent, whoever else does the same at once."""
        raise NotImplementedError

    def proposal(self, proposal_id: str) -> ProposalState:
        raise NotImplementedError

    def proposals(self, status: Status | None = None) -> list[ProposalState]:
        """Oldest first."""
        raise NotImplementedError

    def ballots(self, proposal_id: str) -> list[tuple[Ballot, str | None]]:
        """All ever cast, with the words of the reasons where there are any."""
        raise NotImplementedError

    def standing(self, proposal_id: str, at: datetime | None = None) -> Standing:
        raise NotImplementedError

    def dashboard(self, at: datetime | None = None) -> Dashboard:
        raise NotImplementedError

    def events_after(self, seq: int, limit: int = 500) -> list[Event]:
        raise NotImplementedError

    def members(self) -> list[str]:
        raise NotImplementedError


def open_dao(stores: Stores) -> Dao:
    return Dao(stores.tables, stores.settings.dao)
