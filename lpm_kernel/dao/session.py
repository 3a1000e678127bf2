"""One transaction upon the ledger: what it reads of it, what it appends, and how the votes that it touched then stand.

Belongs here: folding as little of the ledger as a call needs, the moment at which it happens, and running the clock's steps.
Does not belong here: what is asked for (`service.py`), and the rules (`steps.py`, `tally.py`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lpm_kernel.dao.events import Event
from lpm_kernel.dao.fold import EMPTY, DaoState, ProposalState, fold
from lpm_kernel.dao.records import Delegation, Scope
from lpm_kernel.dao.rules import Rules, weight_of
from lpm_kernel.dao.steps import next_due, next_steps
from lpm_kernel.errors import StoreError, VoteError
from lpm_kernel.stores import dao_ledger
from lpm_kernel.stores.dao_ledger import Entry, ProposalRow
from lpm_kernel.stores.dao_members import CLOCK, is_member, list_voters

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from lpm_kernel.stores.tables import Tables

MOST_STEPS = 50
"""Of one vote in one go; it takes a handful."""


@dataclass(frozen=True, slots=True)
class Folded:
    """`last_at`: of the newest event in it."""

    state: DaoState = EMPTY
    last_seq: int = 0
    last_at: datetime | None = None

    def and_then(self, events: Iterable[Event]) -> Folded:
        more = list(events)
        if not more:
            return self
        latest = max(event.at for event in more)
        latest = latest if self.last_at is None else max(latest, self.last_at)
        return Folded(fold(more, self.state), more[-1].seq, latest)


class Remembered:
    """What was read of some proposals, and of all delegations. The ledger only grows: what was read stays right, and only what
    is newer has to be read again."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._proposals: OrderedDict[str, Folded] = OrderedDict()
        self._members = Folded()

    def of(self, proposal_id: str) -> Folded:
        with self._lock:
            return self._proposals.get(proposal_id, Folded())

    def keep(self, proposal_id: str, folded: Folded) -> None:
        with self._lock:
            self._proposals[proposal_id] = folded
            self._proposals.move_to_end(proposal_id)
            while len(self._proposals) > self._most:
                self._proposals.popitem(last=False)

    @property
    def members(self) -> Folded:
        with self._lock:
            return self._members

    def keep_members(self, folded: Folded) -> None:
        with self._lock:
            if folded.last_seq >= self._members.last_seq:
                self._members = folded


class Session:
    """Reads without a lock until `lock`; then again what came since. What it appends is in what it reads from then on."""

    def __init__(self, connection: Connection, remembered: Remembered, max_members: int, arrived_at: datetime) -> None:
        self.connection = connection
        self._remembered = remembered
        self._max_members = max_members
        self._arrived_at = arrived_at
        self._locked = False
        self._wrote = False
        self._unwritten: list[tuple[Event, Entry]] = []
        self._proposals: dict[str, Folded] = {}
        self._members: Folded | None = None

    def lock(self) -> None:
        dao_ledger.lock_ledger(self.connection)
        self._locked = True
        self._proposals.clear()
        self._members = None

    def find(self, proposal_id: str) -> ProposalState | None:
        if proposal_id not in self._proposals:
            self.write()
            known = self._remembered.of(proposal_id)
            folded = known.and_then(dao_ledger.events_of(self.connection, [proposal_id], known.last_seq))
            self._proposals[proposal_id] = folded
            if folded.last_seq and not self._wrote:
                self._remembered.keep(proposal_id, folded)
        return self._proposals[proposal_id].state.proposals.get(proposal_id)

    def proposal(self, proposal_id: str) -> ProposalState:
        """Raises: VoteError `proposal_unknown`."""
        found = self.find(proposal_id)
        if found is None:
            raise VoteError("proposal_unknown", f"there is no proposal {proposal_id[:80]!r}")
        return found

    def read_many(self, rows: Sequence[ProposalRow]) -> list[ProposalState]:
        """Those of the rows, in the order in which they were made; what is remembered as new as its row is not read again."""
        for row in rows:
            known = self._remembered.of(row.proposal_id)
            if known.last_seq >= row.last_seq:
                self._proposals[row.proposal_id] = known
        lacking = [row.proposal_id for row in rows if row.proposal_id not in self._proposals]
        for first in range(0, len(lacking), 100):
            batch: dict[str, list[Event]] = {proposal_id: [] for proposal_id in lacking[first : first + 100]}
            for event in dao_ledger.events_of(self.connection, list(batch)):
                batch[dao_ledger.proposal_of(event.happening) or ""].append(event)
            for proposal_id, events in batch.items():
                self._proposals[proposal_id] = Folded().and_then(events)
                self._remembered.keep(proposal_id, self._proposals[proposal_id])
        states = [state for row in rows if (state := self.find(row.proposal_id))]
        return sorted(states, key=lambda state: (state.drafted_at, state.proposal_id))

    def let_go(self) -> None:
        """Of what was read of proposals, so that a look at many needs no memory for all of them at once."""
        if not self._wrote:
            self._proposals.clear()

    def _of_members(self) -> Folded:
        if self._members is None:
            self.write()
            known = self._remembered.members
            self._members = known.and_then(dao_ledger.events_of_members(self.connection, known.last_seq))
            if not self._wrote:
                self._remembered.keep_members(self._members)
        return self._members

    @property
    def members_seq(self) -> int:
        """Of the newest event that bears on all votes."""
        return self._of_members().last_seq

    @property
    def members_state(self) -> DaoState:
        """Delegations and attributes of all."""
        return self._of_members().state

    @property
    def delegations(self) -> Mapping[str, Delegation]:
        return self.members_state.delegations

    def check_member(self, user_id: str) -> None:
        """Raises: VoteError `not_a_member`."""
        if not is_member(self.connection, user_id):
            raise VoteError("not_a_member", f"{user_id} has no twin here and so no voice in the DAO: add one first")

    def voters(self) -> list[str]:
        """Members who have a voice now: where there are more than `dao.max_members`, those who joined first."""
        return list_voters(self.connection, self._max_members)

    def check_voice(self, user_id: str) -> None:
        """Raises: VoteError `not_a_member`; `too_many_members` where they came after as many as have a voice."""
        self.check_member(user_id)
        if user_id not in self.voters():
            raise VoteError(
                "too_many_members",
                f"dao.max_members lets the {self._max_members} vote who joined first, and {user_id} came after them: raise it",
            )

    def electorate(self, rules: Rules) -> dict[str, int]:
        """Who has a voice now, with what it weighs."""
        attributes = self.members_state.attributes
        return {member: weight_of(attributes.get(member, {}), rules) for member in self.voters()}

    @contextmanager
    def as_member(self) -> Iterator[Connection]:
        """The same transaction with the sight and the rights of the member whose it is: their rows, and nobody else's."""
        from sqlalchemy import text

        self.connection.execute(text("set local role none"))
        try:
            yield self.connection
        except VoteError:  # of any other error the transaction comes to nothing
            self.connection.execute(text("set local role twin_operator"))
            raise
        self.connection.execute(text("set local role twin_operator"))

    def moment(self, proposal_id: str | None = None) -> datetime:
        """Of what is done now: when it was asked for, and not before what happened last to that proposal.

        Why of the asking: who comes before the end and waits for others in the queue has come in time. Why not before the last:
        a count at an earlier moment would leave out the ballots of those who came later and were served first.
        """
        folded = [self._of_members()]
        if proposal_id is not None:
            self.find(proposal_id)
            folded.append(self._proposals[proposal_id])
        return max([self._arrived_at, *(each.last_at for each in folded if each.last_at)])

    def append(self, entries: Sequence[Entry]) -> list[Event]:
        """In what is read here from now on; written with what is appended after it, by `write`."""
        assert self._locked
        seq, digest = (
            (self._unwritten[-1][0].seq, self._unwritten[-1][0].hash) if self._unwritten else dao_ledger.tail(self.connection)
        )
        events = dao_ledger.chain(entries, seq, digest)
        self._unwritten += zip(events, entries, strict=True)
        self._wrote = True
        members: list[Event] = []
        for event in events:
            proposal_id = dao_ledger.proposal_of(event.happening)
            if dao_ledger.kind_of(event.happening) in dao_ledger.OF_MEMBERS:
                members.append(event)
            elif proposal_id is not None:
                self._proposals[proposal_id] = self._proposals.get(proposal_id, Folded()).and_then([event])
        if members and self._members is not None:
            self._members = self._members.and_then(members)
        return events

    def write(self) -> None:
        """All that was appended, in one go. At the end of the session it is done in any case. Raises: StoreError."""
        unwritten, self._unwritten = self._unwritten, []
        if unwritten:
            dao_ledger.append_many(self.connection, [event for event, _ in unwritten], [entry for _, entry in unwritten])

    def advance(self, proposal_id: str, at: datetime) -> list[Event]:
        """What time asks of this vote, until it asks for nothing more.

        Raises: VoteError `proposal_unknown`; StoreError `steps_without_end`.
        """
        done: list[Event] = []
        for _ in range(MOST_STEPS):
            proposal = self.proposal(proposal_id)
            electorate = self.electorate(proposal.rules) if proposal.status == "open" else {}
            steps = next_steps(proposal, self.delegations, electorate, at)
            if not steps:
                return done
            done += self.append([Entry(at, CLOCK, step) for step in steps])
        raise StoreError("steps_without_end", f"proposal {proposal_id} does not come to rest: report it", retryable=False)

    def settle(self, proposal_id: str, at: datetime) -> None:
        """Write what was appended, and bring the row of a proposal to how it stands."""
        self.write()
        dao_ledger.put_proposal(
            self.connection, row_of(self.proposal(proposal_id), self.delegations, at, self._seq(proposal_id))
        )

    def look_again(self, scope: Scope, at: datetime) -> None:
        """At the votes that a delegation of this scope bears on: with it, or without it, they may be decided."""
        self.write()
        topic, proposal_id = (scope.of if scope.kind == kind else None for kind in ("topic", "proposal"))
        dao_ledger.make_due(self.connection, at, topic=topic, proposal_id=proposal_id)

    def commit(self) -> None:
        """What was done so far stays done, whatever is raised after it; nothing can follow in this session."""
        self.write()
        self.connection.commit()

    def _seq(self, proposal_id: str) -> int:
        return self._proposals[proposal_id].last_seq


def row_of(proposal: ProposalState, delegations: Mapping[str, Delegation], at: datetime, last_seq: int) -> ProposalRow:
    due = next_due(proposal, delegations, at)
    return ProposalRow(
        *(proposal.proposal_id, proposal.proposer, proposal.topic, proposal.status, proposal.ends_at, due, last_seq),
        drafted_at=proposal.drafted_at,
    )


@contextmanager
def open_session(
    tables: Tables, actor: str | None, remembered: Remembered, max_members: int, clock: Callable[[], datetime]
) -> Iterator[Session]:
    """As `actor`, or as the operator where it is the clock or nobody. The database refuses what is appended in another's name.

    Raises: UserInputError `user_id_invalid`; AccessError `not_yours`; StoreError.
    """
    from sqlalchemy import text

    own = actor is not None and actor != CLOCK
    with tables.transaction(actor) if own else tables.operator_transaction() as connection:  # type: ignore[arg-type]
        if own:  # whose it is stays set; the operator sees who is a member
            connection.execute(text("set local role twin_operator"))
        session = Session(connection, remembered, max_members, clock())
        yield session
        session.write()
