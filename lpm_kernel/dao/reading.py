"""The DAO as it is read: proposals, standings, the dashboard, and what waits for somebody.

Belongs here: one transaction a question, and as much of the ledger as it needs.
Does not belong here: whatever writes (`service.py`), counting (`standings.py`, `tally.py`), SQL (`stores/dao_ledger.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime

from lpm_kernel.dao import standings
from lpm_kernel.dao.events import Event, TaskAssigned
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.heard import digests_in, shared_by, with_quotes
from lpm_kernel.dao.notices import Notice, notices_of
from lpm_kernel.dao.records import Ballot, Delegation, Status
from lpm_kernel.dao.session import Remembered, Session, open_session
from lpm_kernel.dao.shown import ShownStandings
from lpm_kernel.dao.standings import Dashboard, Standing
from lpm_kernel.settings import DaoSettings
from lpm_kernel.stores import dao_ledger
from lpm_kernel.stores.ballot_drafts import list_drafts
from lpm_kernel.stores.dao_members import list_members
from lpm_kernel.stores.dao_words import Words, words_of
from lpm_kernel.stores.tables import Tables

REMEMBERED_PROPOSALS = 256
NEWEST_RESOLUTIONS = 50
BATCH = 100


def now() -> datetime:
    return datetime.now(UTC)


class DaoReader:
    """Safe to share between threads. Holds the connection pool, and what it has read of the newest proposals.

    Raises, each call: VoteError `proposal_unknown`; StoreError when the tables do not answer.
    """

    def __init__(
        self,
        tables: Tables,
        settings: DaoSettings,
        clock: Callable[[], datetime] = now,
        *,
        remembered: int = REMEMBERED_PROPOSALS,
    ) -> None:
        self.tables = tables
        self.settings = settings
        self.clock = clock
        self._remembered = Remembered(remembered)
        self._shown = ShownStandings()

    def session(self, actor: str | None = None) -> AbstractContextManager[Session]:
        """One transaction, as this member, or as the operator."""
        return open_session(self.tables, actor, self._remembered, self.settings.max_members, self.clock)

    def delegations(self, member: str | None = None) -> list[Delegation]:
        """All ever given, or those from or to this member; the oldest first."""
        with self.session() as session:
            given = session.delegations.values()
        return [each for each in given if member is None or member in (each.delegator, each.delegate)]

    def tasks(self, proposal_id: str | None = None) -> list[TaskAssigned]:
        """The oldest first."""
        with self.session() as session:
            assigned = [event.happening for event in dao_ledger.tasks_assigned(session.connection)]
        return [each for each in assigned if isinstance(each, TaskAssigned) and proposal_id in (None, each.proposal_id)]

    def due(self, at: datetime | None = None) -> list[str]:
        """Proposals for which time has come to do something."""
        with self.session() as session:
            return dao_ledger.due_proposals(session.connection, at or self.clock())

    def proposal(self, proposal_id: str) -> ProposalState:
        with self.session() as session:
            found = session.proposal(proposal_id)
        return self._as_read([found])[0]

    def proposals(self, status: Status | None = None) -> list[ProposalState]:
        """Oldest first; each whole, with its ballots. `batches` needs less memory."""
        with self.session() as session:
            rows = dao_ledger.list_proposals(session.connection, None if status is None else (status,))
            found = session.read_many(rows)
        return self._as_read(found)

    def newest(
        self, limit: int, status: Status | None = None, before: tuple[datetime, str] | None = None
    ) -> list[ProposalState]:
        """Those first that were drafted last; read from the ledger are these alone. `before`: when the last one of the page
        before was drafted, and its id."""
        with self.session() as session:
            found = session.read_many(dao_ledger.newest_proposals(session.connection, limit, status, before))
        return self._as_read(found[::-1])

    def batches(self, only: Collection[str] | None = None) -> Iterator[list[ProposalState]]:
        """All proposals, or these, a hundred at once, by id."""
        with self.session() as session:
            rows = dao_ledger.list_proposals(session.connection, ids=only)
        for first in range(0, len(rows), BATCH):
            with self.session() as session:
                yield session.read_many(rows[first : first + BATCH])

    def ballots(self, proposal_id: str) -> list[tuple[Ballot, Words | None]]:
        """All ever cast, with the words of the reasons where any are left. Who may hear them is `dao/heard.py`'s to say."""
        with self.session() as session:
            cast = session.proposal(proposal_id).ballots
            words = words_of(session.connection, (each.reasons_sha256 for each in cast if each.reasons_sha256))
        return [(each, words.get((each.voter, each.reasons_sha256 or ""))) for each in cast]

    def standing(self, proposal_id: str, at: datetime | None = None) -> Standing:
        """As it was at its end, where the vote is over."""
        with self.session() as session:
            found = standings.standing_of(session.proposal(proposal_id), session.delegations, at or self.clock())
        return replace(found, proposal=self._as_read([found.proposal])[0])

    def dashboard(self, at: datetime | None = None) -> Dashboard:
        at = at or self.clock()
        with self.session() as session:
            last_seq = dao_ledger.last_seq(session.connection)  # first: what comes later is told of again, and not lost
            rows = dao_ledger.list_proposals(session.connection, ("open", "voting"))
            stand = self._stand(session, rows, at)
            resolved = dao_ledger.newest_resolutions(session.connection, NEWEST_RESOLUTIONS)
            members = len(list_members(session.connection))
        return Dashboard(at, tuple(stand), tuple(resolved), members, last_seq)

    def _stand(self, session: Session, rows: Sequence[dao_ledger.ProposalRow], at: datetime) -> list[Standing]:
        """How these votes stand; read from the ledger are those that may stand otherwise than when they were read last."""
        members_seq, delegations = session.members_seq, session.delegations
        kept = {row.proposal_id: self._shown.get(row.proposal_id, row.last_seq, members_seq, at) for row in rows}
        found = [standing for standing in kept.values() if standing is not None]
        lacking = [row for row in rows if kept[row.proposal_id] is None]
        last_seq = {row.proposal_id: row.last_seq for row in lacking}
        for first in range(0, len(lacking), BATCH):
            for each in session.read_many(lacking[first : first + BATCH]):
                if each.status in ("open", "voting"):
                    found.append(self._shown.make(each, delegations, last_seq[each.proposal_id], members_seq, at))
            session.let_go()
        self._shown.keep_only(kept)
        return sorted(found, key=lambda each: (each.proposal.drafted_at, each.proposal.proposal_id))

    def notices(self, user_id: str, at: datetime | None = None) -> list[Notice]:
        """What waits for this person, the most pressing first."""
        at = at or self.clock()
        with self.session() as session:
            rows = dao_ledger.list_proposals(session.connection, ("open", "voting"))
            votes = [each.proposal for each in self._stand(session, rows, at)]
            own, delegations = dao_ledger.events_by(session.connection, user_id), session.delegations
        with self.tables.transaction(user_id) as connection:
            drafts = list_drafts(connection, user_id)
        return notices_of(user_id, votes, own, drafts, delegations, at)

    def events_after(self, seq: int, limit: int = 500) -> list[Event]:
        with self.session() as session:
            return dao_ledger.events_after(session.connection, seq, limit)

    def members(self) -> list[str]:
        with self.session() as session:
            return list_members(session.connection)

    def _as_read(self, proposals: Sequence[ProposalState]) -> list[ProposalState]:
        """With what members hear of the words that their texts quote."""
        digests = digests_in(each.text for each in proposals)
        if not digests:
            return list(proposals)
        with self.session() as session:
            words = words_of(session.connection, digests)
        shared: dict[str, frozenset[str]] = {}

        def of(member: str) -> frozenset[str]:
            if member not in shared:
                shared[member] = shared_by(self.tables, member)
            return shared[member]

        return [replace(each, text=with_quotes(each.text, words, of)) for each in proposals]
