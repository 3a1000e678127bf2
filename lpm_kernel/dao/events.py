"""What happened in the DAO. The ledger holds nothing else; all state is a fold over these.

Belongs here: one frozen record for each kind of event, and its form as JSON.
Does not belong here: where events are kept (`stores/dao_ledger.py`) and what they amount to (`fold.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lpm_kernel.dao.records import Ballot, Delegation, Resolution, Task
from lpm_kernel.dao.rules import Rules


@dataclass(frozen=True, slots=True)
class ProposalDrafted:
    proposal_id: str
    title: str
    text: str
    proposer: str
    topic: str
    rules: Rules
    amends: str | None = None
    """The proposal whose text this one would change."""


@dataclass(frozen=True, slots=True)
class ProposalOpened:
    """Everybody may read and discuss it from now on."""

    proposal_id: str


@dataclass(frozen=True, slots=True)
class VotingStarted:
    """The electorate is taken now: nobody who comes later has a vote, and no weight changes."""

    proposal_id: str
    electorate: Mapping[str, int]
    """Member to weight."""
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class BallotCast:
    ballot: Ballot


@dataclass(frozen=True, slots=True)
class BallotVetoed:
    """A person took back what their twin had cast."""

    proposal_id: str
    ballot_id: str
    voter: str


@dataclass(frozen=True, slots=True)
class Delegated:
    delegation: Delegation


@dataclass(frozen=True, slots=True)
class DelegationRevoked:
    delegation_id: str
    delegator: str


@dataclass(frozen=True, slots=True)
class AttributesSet:
    """Of a member; they weigh in votes that begin later."""

    member: str
    attributes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class MembersReminded:
    proposal_id: str
    at_percent: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StandingApplied:
    """From now on standing delegations count in this vote."""

    proposal_id: str


@dataclass(frozen=True, slots=True)
class VotingExtended:
    proposal_id: str
    ends_at: datetime
    why: str
    """`late_quorum` or `stalled`."""


@dataclass(frozen=True, slots=True)
class ProposalResolved:
    resolution: Resolution


@dataclass(frozen=True, slots=True)
class ProposalImplemented:
    proposal_id: str


@dataclass(frozen=True, slots=True)
class ProposalCancelled:
    proposal_id: str
    why: str


@dataclass(frozen=True, slots=True)
class TaskAssigned:
    """By a plan, or for a proposal that passed."""

    task: Task
    proposal_id: str | None = None
    plan_id: str | None = None


Happening = (
    ProposalDrafted | ProposalOpened | VotingStarted | BallotCast | BallotVetoed | Delegated | DelegationRevoked | AttributesSet
    | MembersReminded | StandingApplied | VotingExtended | ProposalResolved | ProposalImplemented
    | ProposalCancelled | TaskAssigned
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """`seq` counts from 1 without a gap over the whole ledger. `hash` is over the form of this one and the hash before it."""

    seq: int
    at: datetime
    actor: str
    """A member, or `clock`."""
    happening: Happening
    previous_hash: str
    hash: str


def kind_of(happening: Happening) -> str:
    """Its name in snake case: `ballot_cast`."""
    raise NotImplementedError


def proposal_of(happening: Happening) -> str | None:
    """The proposal that it is about."""
    raise NotImplementedError


def encode(happening: Happening) -> dict[str, Any]:
    """As JSON holds it, without the kind."""
    raise NotImplementedError


def decode(kind: str, payload: Mapping[str, Any]) -> Happening:
    """Raises: StoreError `ledger_unreadable` for what `encode` has not written."""
    raise NotImplementedError


def hash_of(seq: int, at: datetime, actor: str, happening: Happening, previous_hash: str) -> str:
    """sha256 over the canonical JSON of all five."""
    raise NotImplementedError
