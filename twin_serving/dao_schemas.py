"""The forms of proposals, ballots, delegations and the dashboard on the wire.

Belongs here: pydantic models of these routes.
Does not belong here: how a record becomes one (`dao_answers.py`), rules (the kernel checks what is allowed) and who asks
(`dao_access.py`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from lpm_kernel.dao.ballot_draft import MAX_REASON_CHARACTERS, Choice
from lpm_kernel.dao.records import CastBy, ScopeKind, Status
from lpm_kernel.records import USER_ID_PATTERN

MAX_TITLE_CHARACTERS = 200
MAX_TEXT_CHARACTERS = 20_000
MAX_TOPIC_CHARACTERS = 80
MAX_WHY_CHARACTERS = 500
MAX_ID_CHARACTERS = 200
MAX_KEY_CHARACTERS = 200
MAX_ATTRIBUTES = 50
MAX_ATTRIBUTE = 1_000_000_000
MAX_SEQ = 2**62

Member = Annotated[str, Field(pattern=f"^{USER_ID_PATTERN.pattern}$")]
Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARACTERS)]
Key = Annotated[str, Field(min_length=1, max_length=MAX_KEY_CHARACTERS)]
Topic = Annotated[str, Field(min_length=1, max_length=MAX_TOPIC_CHARACTERS)]


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProposalRequest(Asked):
    """`amends`: the proposal whose text this one would change. `open`: false keeps it a draft."""

    title: Annotated[str, Field(min_length=1, max_length=MAX_TITLE_CHARACTERS)]
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARACTERS)]
    topic: Topic = "general"
    amends: Id | None = None
    open: bool = True
    proposer: Member | None = None
    key: Key | None = None


class ActorRequest(Asked):
    """`actor`: who does it, where the token does not say."""

    actor: Member | None = None


class CancelRequest(ActorRequest):
    why: Annotated[str, Field(min_length=1, max_length=MAX_WHY_CHARACTERS)]


class ImplementRequest(ActorRequest):
    key: Key | None = None


class VoteRequest(Asked):
    """A choice on a proposal; or `draft_id`, of a ballot that the twin has drafted. All members read `reasons`; the draft's
    own, which may quote what nobody else has heard, are told only with `publish_reason`.

    `cast_at`: when the voter chose, where that is not now. `weight`: what the sender takes the voter's weight to be; nobody
    chooses theirs, so any other than it is is refused.
    """

    proposal: Id | None = None
    choice: Choice | None = None
    voter: Member | None = None
    draft_id: Id | None = None
    publish_reason: bool = False
    reasons: Annotated[str, Field(max_length=MAX_REASON_CHARACTERS)] | None = None
    cast_at: AwareDatetime | None = None
    weight: int | None = None
    key: Key | None = None


class ScopeForm(BaseModel):
    """`of`: the topic or the proposal's id; empty where it is for everything."""

    model_config = ConfigDict(extra="forbid")

    kind: ScopeKind = "all"
    of: Annotated[str, Field(max_length=MAX_ID_CHARACTERS)] = ""


class DelegationRequest(Asked):
    """`standing`: it counts only once a vote that stalls calls for it."""

    delegate: Member
    delegator: Member | None = None
    scope: ScopeForm = ScopeForm()
    ends_at: AwareDatetime | None = None
    standing: bool = False
    key: Key | None = None


class AttributesForm(Asked):
    """What a member has of what the rules give weight for; each a whole number over 0, and what is left out they have not."""

    attributes: Annotated[dict[str, int], Field(max_length=MAX_ATTRIBUTES)]


class RulesOut(BaseModel):
    version: str
    quorum_percent: int
    abstain_counts_to_quorum: bool
    threshold_percent: int
    discussion_hours: int
    voting_hours: int
    close: Literal["decided", "deadline"]
    late_quorum_hours: int
    extension_hours: int
    remind_at_percent: list[int]
    standing_at_percent: int
    extend_stalled: bool
    transitive_delegation: bool
    max_delegated: int
    veto_hours: int
    weights: dict[str, int]
    counting: int
    """By which code's reading of the rules; no setting."""


class TallyOut(BaseModel):
    """Weights. `electorate`: all there was when voting began; `voters` and `represented` are heads."""

    for_: Annotated[int, Field(serialization_alias="for", validation_alias="for")]
    against: int
    abstain: int
    electorate: int
    voters: int
    represented: int


class ResolutionOut(BaseModel):
    proposal_id: str
    outcome: str
    reason: str
    closed_by: str
    tally: TallyOut
    rules_version: str
    resolved_at: datetime


class ProposalItemOut(BaseModel):
    proposal_id: str
    title: str
    topic: str
    proposer: str
    status: Status
    amends: str | None
    drafted_at: datetime
    opened_at: datetime | None
    starts_at: datetime | None
    ends_at: datetime | None
    extended: bool
    ended_why: str | None
    resolution: ResolutionOut | None


class ProposalOut(ProposalItemOut):
    text: str
    implemented_at: datetime | None
    cancelled_at: datetime | None
    rules: RulesOut


class ProposalsAnswer(BaseModel):
    proposals: list[ProposalItemOut]
    next_cursor: str | None


class StandingOut(BaseModel):
    """`stalled`: without a quorum although standing delegations were called for. `time_left_s`: 0 where no vote runs."""

    proposal: ProposalItemOut
    tally: TallyOut
    turnout_percent: float
    time_left_s: float
    stalled: bool


class OpenProposalsAnswer(BaseModel):
    at: datetime
    proposals: list[StandingOut]


class CountedOut(BaseModel):
    """`through`: whose ballot carried the weight, the member's own or their delegate's; null: nobody's."""

    member: str
    weight: int
    choice: Choice | None
    through: str | None


class StatusAnswer(BaseModel):
    at: datetime
    proposal: ProposalOut
    tally: TallyOut
    turnout_percent: float
    time_left_s: float
    stalled: bool
    members: list[CountedOut]


class BallotOut(BaseModel):
    """`counts`: whether it is the one of its voter that counts now. `reasons`: null where there are none, or none that may be
    heard: then `reasons_withdrawn` says so, and their hash is what the ledger keeps. `citations_withheld`: how many of them are
    for the voter alone."""

    ballot_id: str
    voter: str
    choice: Choice
    cast_by: CastBy
    cast_at: datetime
    counts_from: datetime
    counts: bool
    vetoed: bool
    confidence: float | None
    consent: str | None
    reasons: str | None
    reasons_sha256: str | None
    reasons_withdrawn: bool
    citations: list[str]
    citations_withheld: int


class BallotsAnswer(BaseModel):
    proposal_id: str
    ballots: list[BallotOut]
    next_cursor: str | None


class VoteAnswer(BaseModel):
    """`resolution` where this ballot decided the vote. `repeated`: it was there already, under the same key."""

    ballot_id: str
    proposal_id: str
    voter: str
    choice: Choice
    cast_by: CastBy
    cast_at: datetime
    counts_from: datetime
    status: Status
    resolution: ResolutionOut | None
    repeated: bool


class DelegationOut(BaseModel):
    delegation_id: str
    delegator: str
    delegate: str
    scope: ScopeForm
    given_at: datetime
    ends_at: datetime | None
    standing: bool
    revoked_at: datetime | None


class DelegationsAnswer(BaseModel):
    delegations: list[DelegationOut]


class DashboardOut(BaseModel):
    """`last_seq`: of the ledger; what `GET /dao/stream` names its events by."""

    at: datetime
    open: list[StandingOut]
    resolved: list[ResolutionOut]
    members: int
    last_seq: int


class LedgerLineOut(BaseModel):
    """`actor`: a member, or `clock`."""

    seq: int
    at: datetime
    actor: str
    kind: str
    proposal_id: str | None
    hash: str


class ChangeOut(BaseModel):
    """What differs since the event before: lines of the ledger, and how the votes that they are about stand now."""

    at: datetime
    events: list[LedgerLineOut]
    standings: list[StandingOut]
    resolved: list[ResolutionOut]
    members: int
    last_seq: int


class AuditAnswer(BaseModel):
    """`broken`: what does not follow from the events before it, by words; none where `ok`. `other_rules`: what cannot be
    computed again, since other code than this decided it; no fault of the ledger. `lines`: of the ledger, after `after`."""

    ok: bool
    events: int
    proposals: int
    resolutions: int
    broken: list[str]
    other_rules: list[str]
    at: datetime
    lines: list[LedgerLineOut]
    next_after: int | None
