"""The DAO as its members and its clock use it: each call is one transaction upon the ledger.

Belongs here: reading as much of the ledger as a call needs, asking the rules, and appending what they allow.
Does not belong here: the rules (`commands.py`, `steps.py`, `tally.py`), SQL (`stores/dao_ledger.py`), HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lpm_kernel.dao import commands, proposing, standings
from lpm_kernel.dao.ballot_draft import Choice
from lpm_kernel.dao.events import (
    AttributesSet,
    BallotCast,
    BallotRefused,
    BallotVetoed,
    Delegated,
    DelegationRevoked,
    Event,
    Happening,
    ProposalCancelled,
    ProposalDrafted,
    ProposalImplemented,
    ProposalOpened,
    TaskAssigned,
)
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.heard import Quote, cite_again, cite_quotes, digests_in, keep_quotes, shared_by, with_quotes
from lpm_kernel.dao.notices import Notice, notices_of
from lpm_kernel.dao.records import Ballot, CastBy, Delegation, Resolution, Scope, Status, Task
from lpm_kernel.dao.rules import rules_of
from lpm_kernel.dao.session import Remembered, Session, open_session
from lpm_kernel.dao.shown import ShownStandings
from lpm_kernel.dao.standings import Dashboard, Standing
from lpm_kernel.errors import VoteError
from lpm_kernel.records import content_id, sha256_hex
from lpm_kernel.settings import DaoSettings
from lpm_kernel.stores import dao_ledger
from lpm_kernel.stores.ballot_drafts import list_drafts
from lpm_kernel.stores.dao_ledger import Entry
from lpm_kernel.stores.dao_members import CLOCK, list_members
from lpm_kernel.stores.dao_words import Words, keep_words, words_of
from lpm_kernel.stores.documents import lock_documents
from lpm_kernel.stores.tables import Tables

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from lpm_kernel.stores.open import Stores

__all__ = ["CLOCK", "Cast", "Dao", "Dashboard", "Standing", "open_dao"]

REMEMBERED_PROPOSALS = 256
NEWEST_RESOLUTIONS = 50
BATCH = 100
LATE = ("voting_closed", "ballot_late")
"""Refusals of a ballot that the ledger keeps: it came, and it came too late."""
_DOCUMENT = re.compile(r"[0-9a-f]{64}")


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Cast:
    """`resolution` where this ballot decided the vote; `repeated` where the same ballot was there already under its key."""

    ballot: Ballot
    proposal: ProposalState
    resolution: Resolution | None
    repeated: bool


class Dao:
    """Safe to share between threads. Holds the connection pool, and what it has read of the newest proposals.

    Raises, each call: VoteError what the rules refuse; StoreError when the tables do not answer.
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

    def propose(
        self,
        proposer: str,
        title: str,
        text: str,
        *,
        topic: str = "general",
        amends: str | None = None,
        open: bool = True,
        quotes: Sequence[Quote] = (),
        key: str | None = None,
    ) -> ProposalState:
        """Where it is opened and no time is set for discussion, its vote begins at once. `quotes`: what stands in the text out
        of members' memories: the ledger, which forgets nothing, holds the hashes, and the words go with their document.

        Raises: UserInputError `proposal_invalid`.
        """
        title, text, topic = proposing.checked_words(title, text, topic)
        if quotes:
            keep_quotes(self.tables, quotes)
            text = cite_quotes(text, quotes)
        if amends is not None:
            text = self._cited_again(text, amends)
        request = content_id("propose", proposer, title, text, topic, amends or "", open)
        with self.session(proposer) as session:
            session.check_voice(proposer)
            session.lock()
            if (known := _repeated(session, proposer, key, request, ProposalDrafted)) is not None:
                assert isinstance(known, ProposalDrafted)
                return self._as_read([session.proposal(known.proposal_id)])[0]
            if amends is not None:
                session.proposal(amends)
            proposal_id = proposing.free_id(session.connection, proposer, title, text, topic, amends)
            drafted = ProposalDrafted(proposal_id, title, text, proposer, topic, rules_of(self.settings), amends)
            at = session.moment()
            session.append([Entry(at, proposer, drafted, key, request if key else None)])
            if open:
                session.append([Entry(at, proposer, ProposalOpened(proposal_id))])
                session.advance(proposal_id, at)
            session.settle(proposal_id, at)
            made = session.proposal(proposal_id)
        return self._as_read([made])[0]

    def open_proposal(self, actor: str, proposal_id: str) -> ProposalState:
        with self.session(actor) as session:
            session.lock()
            proposal = session.proposal(proposal_id)
            commands.check_open(proposal, actor)
            return self._happens(session, actor, proposal_id, ProposalOpened(proposal_id))

    def cancel(self, actor: str, proposal_id: str, why: str, *, by_operator: bool = False) -> ProposalState:
        """`by_operator`: the actor may do what the proposer may; whether they are one is the caller's to know."""
        with self.session(actor) as session:
            session.lock()
            proposal = session.proposal(proposal_id)
            commands.check_cancel(proposal, proposal.proposer if by_operator else actor, session.moment(proposal_id))
            return self._happens(session, actor, proposal_id, ProposalCancelled(proposal_id, proposing.checked_why(why)))

    def implement(self, actor: str, proposal_id: str, key: str | None = None, *, by_operator: bool = False) -> ProposalState:
        """`by_operator`: as of `cancel`; an operator need be no member."""
        request = content_id("implement", actor, proposal_id)
        with self.session(actor) as session:
            session.lock()
            if _repeated(session, actor, key, request, ProposalImplemented) is not None:
                return session.proposal(proposal_id)
            members = [actor] if by_operator else list_members(session.connection)
            commands.check_implement(session.proposal(proposal_id), members, actor)
            return self._happens(session, actor, proposal_id, ProposalImplemented(proposal_id), key=key, request=request)

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
        documents: Collection[str] = (),
        key: str | None = None,
        cast_at: datetime | None = None,
        allowed: Callable[[Connection], None] | None = None,
    ) -> Cast:
        """Closes the vote at once where this ballot decides it. What time asked for before is done before, and stays done where
        the ballot is refused. `documents`: what the reasons quote beside the documents that are cited; the reasons go with any
        of them. `allowed`: asked in the transaction of the ballot, as the voter; it raises VoteError where they may not.
        """
        reasons = proposing.checked_reasons(reasons)
        digest = sha256_hex(reasons.encode()) if reasons else None
        said = (choice, cast_by, str(confidence), consent or "", digest or "", *citations)
        request = content_id("vote", voter, proposal_id, cast_at.isoformat() if cast_at else "", *said)
        named = (*documents, *(each.partition(":")[0] for each in citations))
        quoted = {each for each in named if _DOCUMENT.fullmatch(each)}
        with self.session(voter) as session:
            session.check_member(voter)
            session.proposal(proposal_id)  # most of it is read before others have to wait
            if reasons and quoted:
                with session.as_member() as own:
                    lock_documents(own, voter)  # a deletion that is under way finds these words, or they find it
            session.lock()
            if (known := _repeated(session, voter, key, request, BallotCast)) is not None:
                assert isinstance(known, BallotCast)
                proposal = session.proposal(proposal_id)
                return Cast(known.ballot, proposal, proposal.resolution, repeated=True)
            at = session.moment(proposal_id)
            before = session.advance(proposal_id, at)
            proposal = session.proposal(proposal_id)
            try:
                if allowed is not None:
                    with session.as_member() as own:
                        allowed(own)
                when = commands.time_of_cast(cast_at, at)
                ballot = Ballot(
                    ballot_id=content_id("ballot", voter, proposal_id, when.isoformat(), key or "", *said),
                    proposal_id=proposal_id,
                    voter=voter,
                    choice=choice,
                    cast_by=cast_by,
                    cast_at=when,
                    counts_from=commands.counts_from(proposal.rules, cast_by, at),
                    confidence=confidence,
                    consent=consent,
                    citations=tuple(citations),
                    reasons_sha256=digest,
                )
                commands.check_ballot(proposal, ballot, at)
            except VoteError as error:
                if error.code == "not_in_electorate":
                    session.check_voice(voter)
                if _keep_refusal(session, voter, proposal_id, error.code, at) or before:
                    session.settle(proposal_id, at)
                    session.commit()
                raise
            if reasons:
                with session.as_member() as own:
                    keep_words(own, voter, reasons, quoted)
            session.append([Entry(at, voter, BallotCast(ballot), key, request if key else None)])
            session.advance(proposal_id, at)
            session.settle(proposal_id, at)
            proposal = session.proposal(proposal_id)
            return Cast(ballot, proposal, proposal.resolution, repeated=False)

    def veto(self, voter: str, proposal_id: str) -> ProposalState:
        with self.session(voter) as session:
            session.lock()
            taken_back = commands.check_veto(session.proposal(proposal_id), voter, session.moment(proposal_id))
            return self._happens(
                session, voter, proposal_id, *(BallotVetoed(proposal_id, each.ballot_id, voter) for each in taken_back)
            )

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
        scope = proposing.checked_scope(scope)
        said = (delegate, scope.kind, scope.of, ends_at.isoformat() if ends_at else "", standing)
        request = content_id("delegate", delegator, *said)
        with self.session(delegator) as session:
            session.check_voice(delegator)
            session.lock()
            if (known := _repeated(session, delegator, key, request, Delegated)) is not None:
                assert isinstance(known, Delegated)
                return session.delegations[known.delegation.delegation_id]
            at = session.moment()
            delegation_id = content_id("delegation", delegator, at.isoformat(), key or "", *said)
            delegation = Delegation(delegation_id, delegator, delegate, scope, at, ends_at, standing)
            state = proposing.state_for_delegation(session, scope)
            commands.check_delegation(state, delegation, session.voters(), at, self.settings.max_delegations)
            session.append([Entry(at, delegator, Delegated(delegation), key, request if key else None)])
            session.look_again(scope, at)
            return delegation

    def revoke(self, delegator: str, delegation_id: str) -> Delegation:
        with self.session(delegator) as session:
            session.lock()
            at = session.moment()
            given = commands.check_revocation(session.members_state, delegation_id, delegator, at)
            session.append([Entry(at, delegator, DelegationRevoked(delegation_id, delegator))])
            session.look_again(given.scope, at)
            return session.delegations[delegation_id]

    def delegations(self, member: str | None = None) -> list[Delegation]:
        """All ever given, or those from or to this member; the oldest first."""
        with self.session() as session:
            given = session.delegations.values()
        return [each for each in given if member is None or member in (each.delegator, each.delegate)]

    def set_attributes(self, actor: str, member: str, attributes: Mapping[str, int]) -> None:
        """Who may is the caller's to decide: an attribute is weight. They weigh in votes that begin later."""
        commands.check_attributes(attributes, rules_of(self.settings))
        with self.session(actor) as session:
            session.lock()
            session.check_member(member)
            session.append([Entry(session.moment(), actor, AttributesSet(member, dict(attributes)))])

    def assign_task(self, actor: str, task: Task, proposal_id: str | None = None, plan_id: str | None = None) -> None:
        """Idempotent by the task's id. Raises: VoteError `key_reused` for another task of the same id."""
        details = [f"{name}={value!r}" for name, value in sorted(task.details.items())]
        asked = (task.kind, task.title, task.assignee or "", proposal_id or "", plan_id or "", *details)
        request, key = content_id("task", task.task_id, *asked), f"task:{task.task_id}"
        with self.session(actor) as session:
            session.lock()
            if _repeated(session, actor, key, request, TaskAssigned) is not None:
                return
            assigned = TaskAssigned(task, proposal_id, plan_id)
            if proposal_id is not None:
                self._happens(session, actor, proposal_id, assigned, key=key, request=request)
            else:
                session.append([Entry(session.moment(), actor, assigned, key, request)])

    def tasks(self, proposal_id: str | None = None) -> list[TaskAssigned]:
        """The oldest first."""
        with self.session() as session:
            assigned = [event.happening for event in dao_ledger.tasks_assigned(session.connection)]
        return [each for each in assigned if isinstance(each, TaskAssigned) and proposal_id in (None, each.proposal_id)]

    def due(self, at: datetime | None = None) -> list[str]:
        """Proposals for which time has come to do something."""
        with self.session() as session:
            return dao_ledger.due_proposals(session.connection, at or self.clock())

    def advance(self, proposal_id: str, at: datetime | None = None) -> list[Event]:
        """Do what time asks for, until there is nothing more. Idempotent, whoever else does the same at once."""
        with self.session() as session:
            session.proposal(proposal_id)
            session.lock()
            session.proposal(proposal_id)
            moment = at or session.moment(proposal_id)
            events = session.advance(proposal_id, moment)
            session.settle(proposal_id, moment)
            return events

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

    def batches(self, only: Collection[str] | None = None) -> Iterator[list[ProposalState]]:
        """All proposals, or these, a hundred at once, by id."""
        with self.session() as session:
            rows = dao_ledger.list_proposals(session.connection)
        rows = [row for row in rows if only is None or row.proposal_id in only]
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

    def _cited_again(self, text: str, amends: str) -> str:
        """What an amendment repeats of a text goes where it goes there."""
        with self.session() as session:
            cited = session.proposal(amends).text
            return cite_again(text, cited, words_of(session.connection, digests_in([cited])))

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

    def _happens(
        self,
        session: Session,
        actor: str,
        proposal_id: str,
        *happenings: Happening,
        key: str | None = None,
        request: str | None = None,
    ) -> ProposalState:
        """This, and what time asks for after it."""
        session.proposal(proposal_id)
        at = session.moment(proposal_id)
        asked = request if key else None
        session.append([Entry(at, actor, each, key, asked) for each in happenings])
        session.advance(proposal_id, at)
        session.settle(proposal_id, at)
        return session.proposal(proposal_id)


def _keep_refusal(session: Session, voter: str, proposal_id: str, code: str, at: datetime) -> bool:
    """Whether there is a line of it now that was not there: one a voter and proposal, so that nobody fills the ledger."""
    key = f"late:{proposal_id}"
    if code not in LATE or dao_ledger.find_by_key(session.connection, voter, key) is not None:
        return False
    refused = BallotRefused(proposal_id, voter, code)
    session.append([Entry(at, voter, refused, key, content_id("late", voter, proposal_id))])
    return True


def _repeated(session: Session, actor: str, key: str | None, request: str, kind: type) -> Happening | None:
    """What came of the same request before. Raises: VoteError `key_reused`."""
    found = dao_ledger.find_by_key(session.connection, actor, key) if key else None
    if found is None:
        return None
    event, asked = found
    if asked != request or not isinstance(event.happening, kind):
        raise VoteError("key_reused", "this idempotency key was used for another request: take a new one for a new request")
    return event.happening


def open_dao(stores: Stores) -> Dao:
    return Dao(stores.tables, stores.settings.dao)
