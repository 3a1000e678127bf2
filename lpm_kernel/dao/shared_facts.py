"""Events as facts that all members may know: who voted how on what, what came of it, and who votes for whom.

Belongs here: the words, the ends, and whose name a fact holds. Pure: of one event, and of the proposal that it is about.
Does not belong here: writing them into the graph (`projection.py`), finding them (`recall/shared_facts.py`).

    (:DigitalTwin)-[:VOTED]->(:Vote)-[:ON]->(:Proposal)<-[:RESOLVES]-(:DAOResolution)

A member is their twin here, whoever of the two cast the ballot; the words say who. A vote has one ON at a time: a later ballot,
or a veto, ends the one before. All moments are those of the ledger, so that a later event never comes before an earlier one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from lpm_kernel.dao.events import (
    BallotCast,
    BallotVetoed,
    Delegated,
    DelegationRevoked,
    Event,
    ProposalCancelled,
    ProposalImplemented,
    ProposalOpened,
    ProposalResolved,
)
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.records import Delegation
from lpm_kernel.records import Fact, GraphEntity
from lpm_kernel.stores.graph import SHARED

MOST_TEXT = 600
"""Characters of a proposal's text."""


@dataclass(frozen=True, slots=True)
class SharedFact:
    """`persons`: whose name is in it; it leaves the graph with any of them. `ends`: it was written before without its end."""

    fact: Fact
    persons: frozenset[str]
    ends: bool = False


def facts_of(
    event: Event, find: Callable[[str], ProposalState | None], delegations: Mapping[str, Delegation]
) -> list[SharedFact]:
    """`find`: a proposal, at any later state; `delegations`: with their ends as far as they are known."""
    match event.happening:
        case ProposalOpened(proposal_id):
            return _opened(event, find(proposal_id))
        case BallotCast(ballot):
            proposal = find(ballot.proposal_id)
            if proposal is None:
                return []
            voter, by = ballot.voter, "'s twin" if ballot.cast_by == "twin" else ""
            words = {"for": "votes for", "against": "votes against", "abstain": "abstains on"}[ballot.choice]
            vote, cast, stands = _vote(proposal, voter), f"cast a ballot on {_named(proposal)}", f"{words} {_named(proposal)}"
            return [
                _fact(event, _twin(voter), "VOTED", vote, f"{voter}{by} {cast}", voter),
                _fact(event, vote, "ON", _proposal(proposal), f"{voter}{by} {stands}", voter),
            ]
        case BallotVetoed(proposal_id=proposal_id, voter=voter):
            proposal = find(proposal_id)
            if proposal is None:
                return []
            words = f"{voter} took back what their twin had cast on {_named(proposal)}"
            return [_fact(event, _vote(proposal, voter), "ON", _proposal(proposal), words, voter)]
        case ProposalResolved(resolution):
            return _resolved(event, find(resolution.proposal_id))
        case ProposalImplemented(proposal_id):
            proposal = find(proposal_id)
            return [_done(event, proposal, "IMPLEMENTED", "says is implemented")] if proposal else []
        case ProposalCancelled(proposal_id, why):
            proposal = find(proposal_id)
            return [_done(event, proposal, "CANCELLED", "cancelled", f": {why}")] if proposal else []
        case Delegated(delegation):
            return [delegation_fact(delegations.get(delegation.delegation_id, delegation), find)]
        case DelegationRevoked(delegation_id=delegation_id):
            given = delegations.get(delegation_id)
            return [replace(delegation_fact(given, find), ends=True)] if given else []
        case _:
            return []


def _opened(event: Event, proposal: ProposalState | None) -> list[SharedFact]:
    if proposal is None:
        return []
    proposer, topic = proposal.proposer, GraphEntity("PolicyTopic", proposal.topic)
    about = f"{_named(proposal)} is about {proposal.topic}: {' '.join(proposal.text.split())[:MOST_TEXT]}"
    return [
        _fact(event, _twin(proposer), "AUTHORED", _proposal(proposal), f"{proposer} proposed {_named(proposal)}", proposer),
        _fact(event, _proposal(proposal), "MENTIONS", topic, about),
    ]


def _resolved(event: Event, proposal: ProposalState | None) -> list[SharedFact]:
    if proposal is None or not isinstance(event.happening, ProposalResolved):
        return []
    end = event.happening.resolution
    sums, reason = end.tally, end.reason.replace("_", " ")
    words = (
        f"{_named(proposal)} {end.outcome} ({reason}): {sums.for_} for, {sums.against} against, {sums.abstain} abstaining "
        f"of {sums.electorate}"
    )
    resolution = GraphEntity("DAOResolution", f"{end.proposal_id}/{end.rules_version}")
    return [_fact(event, resolution, "RESOLVES", _proposal(proposal), words)]


def _done(event: Event, proposal: ProposalState, relation: str, words: str, why: str = "") -> SharedFact:
    said = f"{event.actor} {words} {_named(proposal)}{why}" if why else f"{_named(proposal)}: {event.actor} {words}"
    return _fact(event, _twin(event.actor), relation, _proposal(proposal), said, event.actor)


def delegation_fact(given: Delegation, find: Callable[[str], ProposalState | None]) -> SharedFact:
    """With its end, stated or by revocation, as far as it is known."""
    ends = [each for each in (given.ends_at, given.revoked_at) if each is not None]
    proposal = find(given.scope.of) if given.scope.kind == "proposal" else None
    what = {"all": "everything", "topic": given.scope.of, "proposal": _named(proposal) if proposal else given.scope.of}
    when = " when they are away" if given.standing else ""
    words = f"{given.delegator} lets {given.delegate} vote for them on {what[given.scope.kind]}{when}"
    between = _twin(given.delegator), "DELEGATED", _twin(given.delegate)
    fact = Fact(SHARED, *between, words, given.given_at, given.given_at, invalid_at=min(ends, default=None))  # type: ignore[arg-type]
    return SharedFact(fact, frozenset({given.delegator, given.delegate}))


def _fact(event: Event, subject: GraphEntity, relation: str, object: GraphEntity, words: str, *persons: str) -> SharedFact:
    fact = Fact(SHARED, subject, relation, object, words, event.at, event.at)  # type: ignore[arg-type]
    return SharedFact(fact, frozenset(persons))


def _named(proposal: ProposalState) -> str:
    return f"proposal {proposal.proposal_id}, “{proposal.title}”"


def _twin(member: str) -> GraphEntity:
    return GraphEntity("DigitalTwin", member)


def _vote(proposal: ProposalState, voter: str) -> GraphEntity:
    return GraphEntity("Vote", f"{proposal.proposal_id}/{voter}")


def _proposal(proposal: ProposalState) -> GraphEntity:
    return GraphEntity("Proposal", proposal.proposal_id)
