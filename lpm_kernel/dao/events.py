"""What happened in the DAO. The ledger holds nothing else; all state is a fold over these.

Belongs here: one frozen record for each kind of event, and its form as JSON.
Does not belong here: where events are kept (`stores/dao_ledger.py`) and what they amount to (`fold.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

from lpm_kernel.dao.event_codec import as_json, canonical_json, from_json, time_as_text
from lpm_kernel.dao.records import Ballot, Delegation, Resolution, Task
from lpm_kernel.dao.rules import Rules
from lpm_kernel.errors import StoreError
from lpm_kernel.records import sha256_hex


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
class BallotRefused:
    """One that came too late, for the vote or after a newer one. That it came is kept, once a voter and proposal, and nothing
    of what it said."""

    proposal_id: str
    voter: str
    code: str
    """Of the rule that was against it."""


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
    ProposalDrafted | ProposalOpened | VotingStarted | BallotCast | BallotRefused | BallotVetoed | Delegated | DelegationRevoked
    | AttributesSet | MembersReminded | StandingApplied | VotingExtended | ProposalResolved | ProposalImplemented
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


_KIND_OF: dict[type, str] = {each: re.sub(r"(?<!^)(?=[A-Z])", "_", each.__name__).lower() for each in get_args(Happening)}
_RECORD_OF: dict[str, type[Happening]] = {kind: record for record, kind in _KIND_OF.items()}


def kind_of(happening: Happening) -> str:
    """Its name in snake case: `ballot_cast`."""
    return _KIND_OF[type(happening)]


def proposal_of(happening: Happening) -> str | None:
    """The proposal that it is about. A delegation is about one where it is for that one alone."""
    match happening:
        case BallotCast(ballot):
            return ballot.proposal_id
        case ProposalResolved(resolution):
            return resolution.proposal_id
        case Delegated(delegation):
            return delegation.scope.of if delegation.scope.kind == "proposal" else None
        case DelegationRevoked() | AttributesSet():
            return None
        case _:
            return happening.proposal_id


def encode(happening: Happening) -> dict[str, Any]:
    """As JSON holds it, without the kind. Times are UTC in ISO 8601.

    Raises: ValueError for a time without a zone or a number that JSON has no form of: the writer's mistake.
    """
    return as_json(happening)


def decode(kind: str, payload: Mapping[str, Any]) -> Happening:
    """Raises: StoreError `ledger_unreadable` for what `encode` has not written."""
    record = _RECORD_OF.get(kind)
    if record is None:
        raise StoreError("ledger_unreadable", f"the ledger holds an event of the unknown kind {kind[:80]!r}", retryable=False)
    try:
        return from_json(record, payload)
    except ValueError as error:
        message = f"the ledger holds a {kind} that cannot be read: {error}"
        raise StoreError("ledger_unreadable", message, retryable=False) from None


def hash_of(seq: int, at: datetime, actor: str, happening: Happening, previous_hash: str) -> str:
    """sha256 over the canonical JSON of all five."""
    return sha256_hex(canonical_json([seq, time_as_text(at), actor, kind_of(happening), encode(happening), previous_hash]))
