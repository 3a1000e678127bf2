"""A twin's ballot: weighed from its person's memory, and cast, drafted or left alone as the person allows.

Belongs here: obeying consent, and what is said of the reasons.
Does not belong here: the stance (`stance.py`), consent's rows (`stores/dao_consent.py`) and the rules of a vote
(`commands.py`).

A twin that cannot tell casts nothing: an abstention counts to the quorum, and that somebody wrote nothing is no reason for
one. Where the person wrote that they abstain, their twin does. Nobody else hears of a document that its writer keeps to
themselves: it may weigh, and it is neither quoted nor cited in a ballot. A draft, which the person alone sees, quotes all.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, Protocol

from lpm_kernel.dao.ballot_draft import BallotDraft
from lpm_kernel.dao.delegation import delegations_of_vote
from lpm_kernel.dao.orders import without_orders
from lpm_kernel.dao.records import ENDED, Ballot
from lpm_kernel.dao.stance import Stance, WeighedLine, weigh_stance
from lpm_kernel.errors import VoteError
from lpm_kernel.records import is_sha256
from lpm_kernel.stores.ballot_drafts import KeptDraft, keep_twin_draft
from lpm_kernel.stores.dao_consent import Consent, get_consent, lock_consent
from lpm_kernel.stores.documents import lock_documents, private_documents, shared_documents

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from lpm_kernel.dao.evidence import Memory
    from lpm_kernel.dao.fold import ProposalState
    from lpm_kernel.dao.service import Cast, Dao
    from lpm_kernel.settings import StanceSettings
    from lpm_kernel.stores.llm import AdapterFile, Llm
    from lpm_kernel.stores.open import Stores


class Weigh(Protocol):
    """`weigh_stance`, or what a test puts in its place."""

    def __call__(
        self,
        stores: Stores,
        llm: Llm,
        user_id: str,
        proposal: ProposalState,
        *,
        adapter: AdapterFile | None = None,
        memory: Memory | None = None,
    ) -> Stance: ...


REASON_SHARE = 0.6
"""Of the strongest line's weight, under which a line is no reason."""
Outcome = Literal["cast", "drafted", "abstained", "refused"]


@dataclass(frozen=True, slots=True)
class TwinBallot:
    """`why`: of a cast ballot the consent it rests on; of a draft the condition that did not hold, or `draft_only`; of an
    abstention `no_evidence` or `unsure`; of a refusal `never`, or what stands already: `human_voted`, `vetoed`,
    `already_cast`."""

    outcome: Outcome
    why: str
    stance: Stance | None = None
    ballot: Ballot | None = None
    draft: KeptDraft | None = None
    cast: Cast | None = None


def cast_twin_ballot(
    dao: Dao,
    stores: Stores,
    llm: Llm,
    user_id: str,
    proposal_id: str,
    *,
    adapter: AdapterFile | None = None,
    memory: Memory | None = None,
    weigh: Weigh = weigh_stance,
) -> TwinBallot:
    """Idempotent: a twin that has cast is not asked again, and there is one draft a proposal. `memory`: as in `weigh_stance`.

    Raises: VoteError `proposal_unknown`, `voting_closed`, `not_in_electorate`; UserInputError `no_release`; as `weigh_stance`.
    """
    proposal = dao.proposal(proposal_id)
    _check_open(proposal, user_id, dao.clock())
    standing = _standing(proposal, user_id)
    if standing is not None:
        return standing
    if _consent(stores, user_id).mode == "never":
        return TwinBallot("refused", "never")
    stance = weigh(stores, llm, user_id, proposal, adapter=adapter, memory=memory)
    if stance.abstained_why is not None:
        return TwinBallot("abstained", stance.abstained_why, stance)
    # weighing takes seconds, in which consent may be taken back and the vote may end
    consent, proposal = _consent(stores, user_id), dao.proposal(proposal_id)
    if consent.mode == "never":
        return TwinBallot("refused", "never", stance)
    against = why_not(consent, proposal, stance.confidence, dao.clock())
    given = delegations_of_vote(
        dao.delegations(user_id), proposal_id, proposal.topic, dao.clock(), standing=proposal.standing_applied
    )
    if against is None and user_id in given:
        against = "delegated"  # the person said who votes for them, and that goes before what their twin casts
    if against is not None:
        return _draft(stores, user_id, proposal, stance, against, dao.clock())
    reasons, citations = reasons_of(stance, stores.settings.stance, for_others=True)

    def still_allowed(connection: Connection) -> None:
        """In the ballot's own transaction: what a person takes back is taken back from the moment that they are told so."""
        lock_consent(connection, user_id)
        if get_consent(connection, user_id) != consent:
            raise VoteError("consent_changed", f"{user_id} said otherwise of their twin's ballots meanwhile")

    try:
        cast = dao.vote(
            user_id,
            proposal_id,
            stance.choice,
            cast_by="twin",
            confidence=stance.confidence,
            consent=rule_of(consent),
            reasons=reasons,
            citations=citations,
            allowed=still_allowed,
        )
    except VoteError as error:
        if error.code == "consent_changed":
            weighed = stance
            return cast_twin_ballot(dao, stores, llm, user_id, proposal_id, weigh=lambda *_, **__: weighed)
        if error.code != "ballot_final":
            raise
        return _standing(dao.proposal(proposal_id), user_id) or TwinBallot("refused", error.code, stance)
    return TwinBallot("cast", rule_of(consent), stance, cast.ballot, cast=cast)


def why_not(consent: Consent, proposal: ProposalState, confidence: float, at: datetime) -> str | None:
    """The first condition under which the twin may not cast by itself, if there is one. Pure."""
    if consent.mode != "autonomous":
        return "draft_only"
    if proposal.proposer == consent.user_id and not consent.own_proposals:
        return "own_proposal"
    if without_orders(proposal.text) is not proposal.text:
        return "tells_twins_what_to_say"
    if consent.topics is not None and proposal.topic.casefold() not in {topic.casefold() for topic in consent.topics}:
        return "topic_not_allowed"
    weight = proposal.electorate.get(consent.user_id, 0)
    if consent.max_weight is not None and weight > consent.max_weight:
        return "weight_over_limit"
    if confidence < consent.min_confidence:
        return "confidence_too_low"
    if proposal.ends_at is None:
        return "voting_not_open"
    if at + timedelta(hours=proposal.rules.veto_hours) > proposal.ends_at:
        return "too_late_to_veto"
    return None


def rule_of(consent: Consent) -> str:
    """The consent in words, as a ballot carries it."""
    topics = "any topic" if consent.topics is None else f"topics {', '.join(consent.topics) or 'none'}"
    weight = "any weight" if consent.max_weight is None else f"weight up to {consent.max_weight}"
    own = "own proposals too" if consent.own_proposals else "no proposal of one's own"
    since = consent.changed_at.date().isoformat() if consent.changed_at else "the beginning"
    return f"autonomous since {since}: confidence from {consent.min_confidence:g}, {topics}, {own}, {weight}"


def reason_lines(found: Stance, stance: StanceSettings, *, for_others: bool) -> list[WeighedLine]:
    """The lines for the choice that decided it, the strongest first, none much weaker than the strongest: what says little of
    this proposal says much of another."""
    chosen = [line for line in found.evidence if line.leans == found.choice and line.decided]
    least = max([stance.min_evidence, *(REASON_SHARE * line.weight for line in chosen)])
    strong = [line for line in chosen if line.weight >= least and (line.line.shared or not for_others)]
    return strong[: stance.reasons]


def reasons_of(found: Stance, stance: StanceSettings, *, for_others: bool) -> tuple[str | None, tuple[str, ...]]:
    """The lines that speak for the choice, each quoted with where it stands, and their citations."""
    quoted: list[str] = []
    citations: list[str] = []
    left = stance.reasons_characters
    for line in reason_lines(found, stance, for_others=for_others):
        words = quote(line)
        if len(words) <= left:
            quoted.append(words)
            citations.append(line.line.citation)
            left -= len(words) + 1
    return ("\n".join(quoted) or None), tuple(citations)


def quote(line: WeighedLine) -> str:
    return f"“{' '.join(line.said.split())}” ({line.line.source})"


def _consent(stores: Stores, user_id: str) -> Consent:
    with stores.tables.transaction(user_id) as connection:
        return get_consent(connection, user_id)


def _check_open(proposal: ProposalState, user_id: str, at: datetime) -> None:
    if proposal.status in ENDED or (proposal.ends_at is not None and at > proposal.ends_at):
        raise VoteError("voting_closed", f"the vote on {proposal.proposal_id} is over: its twin's word would come too late")
    if proposal.status == "voting" and user_id not in proposal.electorate:
        raise VoteError("not_in_electorate", f"{user_id!r} was no member when the vote on {proposal.proposal_id} began")


def _standing(proposal: ProposalState, user_id: str) -> TwinBallot | None:
    """What already stands in the way of the twin's word."""
    own = [ballot for ballot in proposal.ballots if ballot.voter == user_id]
    if any(ballot.cast_by == "human" for ballot in own):
        return TwinBallot("refused", "human_voted")
    if any(ballot.ballot_id in proposal.vetoed for ballot in own):
        return TwinBallot("refused", "vetoed")
    if own:
        return TwinBallot("refused", "already_cast", ballot=max(own, key=lambda ballot: (ballot.cast_at, ballot.ballot_id)))
    return None


def _draft(stores: Stores, user_id: str, proposal: ProposalState, stance: Stance, why: str, at: datetime) -> TwinBallot:
    reasons, citations = reasons_of(stance, stores.settings.stance, for_others=False)
    with stores.tables.transaction(user_id) as connection:
        lock_documents(connection, user_id)
        there = shared_documents(connection, user_id) | private_documents(connection, user_id)
        named = {each.partition(":")[0] for each in citations}
        if not set(filter(is_sha256, named)) <= there:  # deleted while the twin weighed: it is quoted no more
            reasons, citations = None, ()
        kept = keep_twin_draft(
            connection,
            user_id,
            BallotDraft(proposal.proposal_id, stance.choice, reasons),
            at,
            confidence=stance.confidence,
            citations=citations,
            why=why,
        )
    return TwinBallot("drafted", why, stance, draft=kept)
