"""The whole ledger computed again from its events alone, and compared with what is written down.

Belongs here: the chain of hashes, and for each proposal its ballots, its end, its tally and the rows kept beside the ledger.
Does not belong here: repairing anything: what differs is for people to look at.

The chain is read in batches, and then one proposal at a time, so that a large ledger needs no large memory.

A proposal that other code counted (`rules.COUNTING`) is computed again all the same. What is then otherwise may come of the
code alone, so it is named apart from what is broken; that the ledger holds together is asked of every event alike.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lpm_kernel.dao.audit_members import Differs, check_member_events, check_voters_event
from lpm_kernel.dao.events import (
    BallotCast,
    BallotRefused,
    Event,
    MembersReminded,
    ProposalResolved,
    StandingApplied,
    TaskAssigned,
    VotingExtended,
    VotingStarted,
    decode,
    encode,
    hash_of,
    kind_of,
    proposal_of,
)
from lpm_kernel.dao.fold import EMPTY, DaoState, ProposalState, fold
from lpm_kernel.dao.records import Delegation, Resolution
from lpm_kernel.dao.rules import COUNTING, Rules, weight_of
from lpm_kernel.dao.session import row_of
from lpm_kernel.dao.steps import next_steps
from lpm_kernel.dao.tally import verdict
from lpm_kernel.errors import StoreError
from lpm_kernel.records import sha256_hex
from lpm_kernel.stores import dao_ledger
from lpm_kernel.stores.dao_ledger import NO_HASH, OF_MEMBERS, ProposalRow, StoredEvent
from lpm_kernel.stores.dao_members import CLOCK
from lpm_kernel.stores.dao_words import every_words
from lpm_kernel.stores.tables import Tables, database_errors

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from lpm_kernel.dao.service import Dao

BATCH = 1000
CHECKPOINTS = 32
OF_THE_CLOCK = (VotingStarted, MembersReminded, StandingApplied, VotingExtended, ProposalResolved)
MOST_BROKEN = 200
"""Differences that are listed; a ledger of which each line differs needs no longer list."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """`broken`: each difference by the number of its event or the id of its proposal. `other_rules`: those that may come of the
    code, since they are of proposals that were decided by older or newer rules than this code's, which cannot compute them
    again; no such line is a fault of the ledger. `last_hash` stands for all events."""

    events: int
    proposals: int
    resolutions: int
    ballots: int
    broken: tuple[str, ...]
    last_seq: int
    last_hash: str
    other_rules: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.broken


@dataclass(slots=True)
class _Findings:
    broken: list[str] = field(default_factory=list[str])
    other_rules: list[str] = field(default_factory=list[str])
    events: int = 0
    ballots: int = 0
    last_seq: int = 0
    last_hash: str = NO_HASH
    of_members: list[Event] = field(default_factory=list[Event])
    """Delegations and attributes, which bear on every vote."""
    resolved_at: dict[str, int] = field(default_factory=dict[str, int])
    """Proposal to the number of the event that ended it, 0 where none has; in the order in which they were made."""

    def differs(self, what: str) -> None:
        if len(self.broken) < MOST_BROKEN:
            self.broken.append(what)

    def by(self, rules: Rules) -> Differs:
        """Where to say what this code computes otherwise of a proposal of these rules."""
        if rules.counting == COUNTING:
            return self.differs

        def cannot_tell(what: str) -> None:
            if len(self.other_rules) < MOST_BROKEN:
                age = "older" if rules.counting < COUNTING else "newer"
                self.other_rules.append(f"decided by {age} rules ({rules.counting}, here {COUNTING}): {what}")

        return cannot_tell


def audit(dao: Dao) -> AuditReport:
    """Reads everything, changes nothing. What is appended meanwhile is left to the next audit.

    Raises: StoreError when the tables do not answer.
    """
    findings = _Findings()
    with _as_of_one_moment(dao.tables) as connection:
        for batch in _batches(connection):
            _check_chain(batch, findings)
        check_member_events(findings.of_members, findings.differs)
        resolved = dao_ledger.every_resolution(connection)
        _check_proposals(connection, dict(_by_proposal(resolved)), findings)
        _check_words(connection, findings)
    return AuditReport(
        findings.events,
        len(findings.resolved_at),
        len(resolved),
        findings.ballots,
        tuple(findings.broken),
        findings.last_seq,
        findings.last_hash,
        tuple(findings.other_rules),
    )


@contextmanager
def _as_of_one_moment(tables: Tables) -> Iterator[Connection]:
    """As the operator. A ballot that is cast between two questions would look like a difference."""
    from sqlalchemy import text

    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with database_errors(), tables.engine.connect().execution_options(**options) as connection, connection.begin():
        connection.execute(text("set local role twin_operator"))
        yield connection


def _batches(connection: Connection) -> Iterator[list[StoredEvent]]:
    last = 0
    while batch := dao_ledger.stored_after(connection, last, BATCH):
        yield batch
        last = batch[-1].seq


def _check_chain(batch: Sequence[StoredEvent], findings: _Findings) -> None:
    for row in batch:
        if row.seq != findings.last_seq + 1:
            findings.differs(f"event {row.seq}: follows event {findings.last_seq}, so there is a gap")
        if row.previous_hash != findings.last_hash:
            findings.differs(f"event {row.seq}: does not hold the hash of the event before it")
        findings.events += 1
        findings.last_seq, findings.last_hash = row.seq, row.hash
        try:
            happening = decode(row.kind, row.payload)
        except StoreError as error:
            findings.differs(f"event {row.seq}: cannot be read ({error.code})")
            continue
        if hash_of(row.seq, row.at, row.actor, happening, row.previous_hash) != row.hash:
            findings.differs(f"event {row.seq}: its hash is of other content")
        if encode(happening) != row.payload or kind_of(happening) != row.kind or proposal_of(happening) != row.proposal_id:
            findings.differs(f"event {row.seq}: its row says other things beside what was hashed")
        if row.kind in OF_MEMBERS:
            findings.of_members.append(Event(row.seq, row.at, row.actor, happening, row.previous_hash, row.hash))
        elif row.proposal_id is not None:
            findings.resolved_at.setdefault(row.proposal_id, 0)
            if isinstance(happening, ProposalResolved):
                if findings.resolved_at[row.proposal_id]:
                    findings.differs(f"proposal {row.proposal_id}: resolved again by event {row.seq}")
                else:
                    findings.resolved_at[row.proposal_id] = row.seq


def _by_proposal(resolved: Sequence[tuple[int, Resolution]]) -> Iterator[tuple[str, tuple[int, Resolution]]]:
    for seq, resolution in resolved:
        yield resolution.proposal_id, (seq, resolution)


def _check_proposals(connection: Connection, resolved: dict[str, tuple[int, Resolution]], findings: _Findings) -> None:
    rows = {row.proposal_id: row for row in dao_ledger.list_proposals(connection)}
    members = _MembersAt(findings.of_members)
    in_order = sorted(findings.resolved_at, key=lambda name: findings.resolved_at[name] or findings.last_seq + 1)
    for proposal_id in in_order:
        try:
            events = list(dao_ledger.events_of(connection, [proposal_id]))
        except StoreError:
            continue  # the event is named already
        state = _replayed(proposal_id, events, members, findings)
        if state is None:
            findings.differs(f"proposal {proposal_id}: the ledger does not say that it was made")
            continue
        _check_resolution_row(state, findings.resolved_at[proposal_id], resolved.pop(proposal_id, None), findings)
        _check_row(state, members.newest.delegations, events, rows.pop(proposal_id, None), findings)
    for proposal_id in resolved:
        findings.differs(f"proposal {proposal_id}: has a resolution of which the ledger knows nothing")
    for proposal_id in rows:
        findings.differs(f"proposal {proposal_id}: has a row of which the ledger knows nothing")


class _MembersAt:
    """Delegations and attributes as they were before an event."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events
        self._seqs = [event.seq for event in events]
        self._stride = max(1, len(events) // CHECKPOINTS)
        self._folded = [EMPTY]
        for first in range(0, len(events), self._stride):
            self._folded.append(fold(events[first : first + self._stride], self._folded[-1]))
        self.newest = self._folded[-1]

    def before(self, seq: int) -> DaoState:
        known = bisect_left(self._seqs, seq)
        whole = known // self._stride
        return fold(self._events[whole * self._stride : known], self._folded[whole])


def _replayed(proposal_id: str, events: Sequence[Event], members: _MembersAt, findings: _Findings) -> ProposalState | None:
    """The proposal after all of it. Each ballot is asked again whether it might be cast, and the end is counted again."""
    state = DaoState()
    for event in events:
        happening, before = event.happening, state.proposals.get(proposal_id)
        findings.ballots += isinstance(happening, BallotCast)
        if before is not None:
            check_voters_event(before, event, findings.differs, findings.by(before.rules))
        if before is not None and event.actor == CLOCK:
            _check_step(before, event, members.before(event.seq), findings)
        elif isinstance(happening, OF_THE_CLOCK):
            findings.differs(f"event {event.seq}: {event.actor} did what only time does")
        state = fold((event,), state)
        if state.proposals.get(proposal_id) is before and not isinstance(happening, TaskAssigned | BallotRefused):
            tells = findings.differs if before is None else findings.by(before.rules)
            tells(f"event {event.seq}: changes nothing of proposal {proposal_id}, which was no longer open to it")
    return state.proposals.get(proposal_id)


def _check_step(before: ProposalState, event: Event, members: DaoState, findings: _Findings) -> None:
    happening = event.happening
    electorate: Mapping[str, int] = {}
    differs = findings.by(before.rules)
    if isinstance(happening, ProposalResolved):
        _check_end(before, happening.resolution, event, members.delegations, findings)
        return
    if isinstance(happening, VotingStarted):
        electorate = happening.electorate
        for member, weight in electorate.items():
            wanted = weight_of(members.attributes.get(member, {}), before.rules)
            if weight != wanted:
                differs(f"event {event.seq}: weighs {member} as {weight}, and by their attributes it is {wanted}")
    if isinstance(happening, OF_THE_CLOCK) and happening not in next_steps(before, members.delegations, electorate, event.at):
        differs(f"event {event.seq}: {kind_of(happening)} is not what the rules asked for then")


def _check_end(
    before: ProposalState, written: Resolution, event: Event, delegations: Mapping[str, Delegation], findings: _Findings
) -> None:
    sums, (outcome, reason), closed_by = verdict(before, delegations, written.resolved_at)
    differs = findings.by(before.rules)
    if sums != written.tally:
        differs(f"proposal {before.proposal_id}: event {event.seq} counts {written.tally}, and the ballots are {sums}")
    if (outcome, reason, closed_by) != (written.outcome, written.reason, written.closed_by):
        differs(
            f"proposal {before.proposal_id}: event {event.seq} says {written.outcome} ({written.reason}, {written.closed_by}), "
            f"and by the rules it is {outcome} ({reason}, {closed_by})"
        )
    if written.resolved_at != event.at:
        findings.differs(
            f"proposal {before.proposal_id}: event {event.seq} is of {event.at}, and resolves of {written.resolved_at}"
        )
    if written.closed_by == "deadline" and before.ends_at is not None and event.at <= before.ends_at:
        differs(f"proposal {before.proposal_id}: event {event.seq} closes by the deadline, before it at {before.ends_at}")
    elif event.happening not in next_steps(before, delegations, {}, event.at):
        differs(f"event {event.seq}: proposal_resolved is not what the rules asked for then")
    if written.rules_version != before.rules.version:
        findings.differs(f"proposal {before.proposal_id}: event {event.seq} names other rules than it was proposed under")


def _check_resolution_row(state: ProposalState, seq: int, row: tuple[int, Resolution] | None, findings: _Findings) -> None:
    if state.resolution is None and row is None:
        return
    if row is None:
        findings.differs(f"proposal {state.proposal_id}: event {seq} resolves it, and there is no row of its resolution")
    elif state.resolution is None:
        findings.differs(f"proposal {state.proposal_id}: has a row of a resolution, and the ledger has none")
    elif row != (seq, state.resolution):
        findings.differs(f"proposal {state.proposal_id}: the row of its resolution says other things than event {seq}")


def _check_row(
    state: ProposalState,
    delegations: Mapping[str, Delegation],
    events: Sequence[Event],
    row: ProposalRow | None,
    findings: _Findings,
) -> None:
    """The time at which it is due may lie before the computed one, which costs a look, and never after it."""
    if row is None:
        findings.differs(f"proposal {state.proposal_id}: has no row, so no clock looks at it")
        return
    last = events[-1]
    wanted = row_of(state, delegations, last.at, last.seq)
    for name in ("proposer", "topic", "status", "ends_at", "last_seq", "drafted_at"):
        if getattr(row, name) != getattr(wanted, name):
            says, should = getattr(row, name), getattr(wanted, name)
            findings.differs(f"proposal {state.proposal_id}: its row says {name} {says}, and the ledger {should}")
    late = row.next_due_at is None if wanted.next_due_at else False
    if late or (row.next_due_at and wanted.next_due_at and row.next_due_at > wanted.next_due_at):
        findings.differs(f"proposal {state.proposal_id}: is due at {wanted.next_due_at}, and its row says {row.next_due_at}")


def _check_words(connection: Connection, findings: _Findings) -> None:
    """Words may be gone, for they are their author's to take back; those that are there are those that were hashed."""
    for user_id, digest, words in every_words(connection):
        if sha256_hex(words.encode()) != digest:
            findings.differs(f"words of {user_id}: are not those whose hash is {digest[:12]}")
