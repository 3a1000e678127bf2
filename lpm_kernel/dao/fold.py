"""Events to state: what the DAO is, given what happened. Total: an event that the state has no place for changes nothing but
the count of events, so a fold over any ledger ends.

Belongs here: the states, and how each kind of event changes them.
Does not belong here: whether an event may happen (`commands.py`, `steps.py`) and what ballots amount to (`tally.py`).

    draft → open → voting → passed → implemented
      ↓       ↓       ↓   ↘ failed
      └──── cancelled ┘
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from lpm_kernel.dao.events import (
    AttributesSet,
    BallotCast,
    BallotRefused,
    BallotVetoed,
    Delegated,
    DelegationRevoked,
    Event,
    MembersReminded,
    ProposalCancelled,
    ProposalDrafted,
    ProposalImplemented,
    ProposalOpened,
    ProposalResolved,
    StandingApplied,
    TaskAssigned,
    VotingExtended,
    VotingStarted,
)
from lpm_kernel.dao.records import Ballot, Delegation, Resolution, Status, Task
from lpm_kernel.dao.rules import Rules


@dataclass(frozen=True, slots=True)
class ProposalState:
    """`ends_at`: the last moment at which a ballot is taken, extensions included. `ballots`: all ever cast, in order."""

    proposal_id: str
    title: str
    text: str
    proposer: str
    topic: str
    rules: Rules
    amends: str | None
    drafted_at: datetime
    status: Status = "draft"
    opened_at: datetime | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    electorate: Mapping[str, int] = field(default_factory=dict[str, int])
    ballots: tuple[Ballot, ...] = ()
    vetoed: frozenset[str] = frozenset()
    """Ids of ballots."""
    reminded: frozenset[int] = frozenset()
    """The per cents at which."""
    standing_applied: bool = False
    extended: bool = False
    resolution: Resolution | None = None
    ended_why: str | None = None
    """The resolution's reason, or why it was cancelled."""
    implemented_at: datetime | None = None
    cancelled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DaoState:
    proposals: Mapping[str, ProposalState] = field(default_factory=dict[str, ProposalState])
    delegations: Mapping[str, Delegation] = field(default_factory=dict[str, Delegation])
    """All ever given; a revoked one says when."""
    attributes: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    tasks: Mapping[str, Task] = field(default_factory=dict[str, Task])
    last_seq: int = 0
    last_hash: str = ""


EMPTY = DaoState()


def apply(state: DaoState, event: Event) -> DaoState:
    """The state after one more event. Copies only the table that the event touches."""
    return fold((event,), state)


def fold(events: Iterable[Event], start: DaoState = EMPTY) -> DaoState:
    """The state after these events, in their order. Linear in them, however many ballots one proposal has."""
    folding = _Folding(start)
    for event in events:
        folding.take(event)
    return folding.state()


class _Folding:
    """Tables are copied when first written to, and ballots gathered, since a tuple that grows by one is a copy each time."""

    def __init__(self, start: DaoState) -> None:
        self._start = start
        self._proposals: dict[str, ProposalState] | None = None
        self._delegations: dict[str, Delegation] | None = None
        self._attributes: dict[str, Mapping[str, int]] | None = None
        self._tasks: dict[str, Task] | None = None
        self._ballots: dict[str, list[Ballot]] = {}
        self._last = (start.last_seq, start.last_hash)

    def state(self) -> DaoState:
        for proposal_id, ballots in self._ballots.items():
            proposal = self._proposal(proposal_id)
            if proposal is not None:
                self._put(replace(proposal, ballots=(*proposal.ballots, *ballots)))
        start = self._start
        return DaoState(
            proposals=start.proposals if self._proposals is None else self._proposals,
            delegations=start.delegations if self._delegations is None else self._delegations,
            attributes=start.attributes if self._attributes is None else self._attributes,
            tasks=start.tasks if self._tasks is None else self._tasks,
            last_seq=self._last[0],
            last_hash=self._last[1],
        )

    def take(self, event: Event) -> None:
        self._last = (event.seq, event.hash)
        match event.happening:
            case BallotCast(ballot):
                proposal = self._proposal(ballot.proposal_id)
                if proposal is not None and proposal.status == "voting":
                    self._ballots.setdefault(ballot.proposal_id, []).append(ballot)
            case Delegated(delegation):
                self._add_delegation(delegation)
            case DelegationRevoked(delegation_id, delegator):
                self._revoke(delegation_id, delegator, event.at)
            case AttributesSet(member, attributes):
                if self._attributes is None:
                    self._attributes = dict(self._start.attributes)
                self._attributes[member] = attributes
            case BallotRefused():
                pass  # a line of the audit
            case TaskAssigned(task):
                if self._tasks is None:
                    self._tasks = dict(self._start.tasks)
                self._tasks[task.task_id] = task
            case ProposalDrafted() as drafted:
                if self._proposal(drafted.proposal_id) is None:
                    self._put(_drafted(drafted, event.at))
            case ProposalResolved(resolution):
                self._change(resolution.proposal_id, event)
            case happening:
                self._change(happening.proposal_id, event)

    def _proposal(self, proposal_id: str) -> ProposalState | None:
        return (self._start.proposals if self._proposals is None else self._proposals).get(proposal_id)

    def _put(self, proposal: ProposalState) -> None:
        if self._proposals is None:
            self._proposals = dict(self._start.proposals)
        self._proposals[proposal.proposal_id] = proposal

    def _change(self, proposal_id: str, event: Event) -> None:
        proposal = self._proposal(proposal_id)
        if proposal is not None:
            changed = _changed(proposal, event)
            if changed is not proposal:
                self._put(changed)

    def _add_delegation(self, delegation: Delegation) -> None:
        if self._delegations is None:
            self._delegations = dict(self._start.delegations)
        self._delegations.setdefault(delegation.delegation_id, delegation)

    def _revoke(self, delegation_id: str, delegator: str, at: datetime) -> None:
        given = (self._start.delegations if self._delegations is None else self._delegations).get(delegation_id)
        if given is None or given.delegator != delegator or given.revoked_at is not None:
            return
        if self._delegations is None:
            self._delegations = dict(self._start.delegations)
        self._delegations[delegation_id] = replace(given, revoked_at=at)


def _drafted(drafted: ProposalDrafted, at: datetime) -> ProposalState:
    return ProposalState(
        proposal_id=drafted.proposal_id,
        title=drafted.title,
        text=drafted.text,
        proposer=drafted.proposer,
        topic=drafted.topic,
        rules=drafted.rules,
        amends=drafted.amends,
        drafted_at=at,
    )


def _changed(proposal: ProposalState, event: Event) -> ProposalState:
    """The proposal after the event; the same object where it has no place for it."""
    status = proposal.status
    match event.happening:
        case ProposalOpened() if status == "draft":
            return replace(proposal, status="open", opened_at=event.at)
        case VotingStarted(electorate=electorate, ends_at=ends_at) if status == "open":
            return replace(proposal, status="voting", starts_at=event.at, ends_at=ends_at, electorate=electorate)
        case BallotVetoed(ballot_id=ballot_id) if status == "voting":
            return replace(proposal, vetoed=proposal.vetoed | {ballot_id})
        case MembersReminded(at_percent=at_percent) if status == "voting":
            return replace(proposal, reminded=proposal.reminded | {at_percent})
        case StandingApplied() if status == "voting":
            return replace(proposal, standing_applied=True)
        case VotingExtended(ends_at=ends_at) if status == "voting" and not proposal.extended:
            return replace(proposal, extended=True, ends_at=ends_at)
        case ProposalResolved(resolution) if status == "voting":
            return replace(proposal, status=resolution.outcome, resolution=resolution, ended_why=resolution.reason)
        case ProposalImplemented() if status == "passed":
            return replace(proposal, status="implemented", implemented_at=event.at)
        case ProposalCancelled(why=why) if status in ("draft", "open", "voting"):
            return replace(proposal, status="cancelled", cancelled_at=event.at, ended_why=why)
        case _:
            return proposal
