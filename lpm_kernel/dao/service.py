"""The DAO as its members and its clock use it: each call is one transaction upon the ledger.

Belongs here: asking the rules, and appending what they allow.
Does not belong here: whatever only reads (`reading.py`), the rules (`commands.py`, `steps.py`, `tally.py`), SQL, HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lpm_kernel.dao import commands, proposing
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
from lpm_kernel.dao.heard import Quote, cite_again, cite_quotes, digests_in, keep_quotes
from lpm_kernel.dao.reading import DaoReader
from lpm_kernel.dao.records import Ballot, CastBy, Delegation, Resolution, Scope, Task
from lpm_kernel.dao.rules import rules_of
from lpm_kernel.dao.session import Session
from lpm_kernel.dao.standings import Dashboard, Standing
from lpm_kernel.errors import VoteError
from lpm_kernel.records import content_id, sha256_hex
from lpm_kernel.stores import dao_ledger
from lpm_kernel.stores.dao_ledger import Entry
from lpm_kernel.stores.dao_members import CLOCK, list_members
from lpm_kernel.stores.dao_words import keep_words, words_of
from lpm_kernel.stores.documents import lock_documents

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from lpm_kernel.stores.open import Stores

__all__ = ["CLOCK", "Cast", "Dao", "Dashboard", "Standing", "open_dao"]

LATE = ("voting_closed", "ballot_late")
"""Refusals of a ballot that the ledger keeps: it came, and it came too late."""
_DOCUMENT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Cast:
    """`resolution` where this ballot decided the vote; `repeated` where the same ballot was there already under its key."""

    ballot: Ballot
    proposal: ProposalState
    resolution: Resolution | None
    repeated: bool


class Dao(DaoReader):
    """Safe to share between threads. What is asked of it is in its base.

    Raises, each call: VoteError what the rules refuse; StoreError when the tables do not answer.
    """

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

    def _cited_again(self, text: str, amends: str) -> str:
        """What an amendment repeats of a text goes where it goes there."""
        with self.session() as session:
            cited = session.proposal(amends).text
            return cite_again(text, cited, words_of(session.connection, digests_in([cited])))

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
