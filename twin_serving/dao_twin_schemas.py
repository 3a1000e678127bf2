"""The forms of consent, of a twin's ballot and of alignment on the wire.

Belongs here: pydantic models of these routes, and how a record becomes one.
Does not belong here: obeying consent (`lpm_kernel/dao/twin_ballots.py`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from lpm_kernel.dao.alignment import Alignment
from lpm_kernel.dao.ballot_draft import Choice
from lpm_kernel.dao.stance import Stance
from lpm_kernel.dao.twin_ballots import TwinBallot
from lpm_kernel.stores.dao_consent import MAX_TOPIC_CHARACTERS, MAX_TOPICS, Consent, Mode
from twin_serving.dao_answers import vote_out
from twin_serving.dao_schemas import MAX_ATTRIBUTE, Asked, Id, VoteAnswer
from twin_serving.schemas import BallotDraftOut, draft_out


class ConsentForm(Asked):
    """`never`: the twin does nothing; `draft`: it writes ballots for its person to cast; `autonomous`: it casts them where all
    the conditions hold, and drafts them where one does not.

    `topics`: null is every topic. `own_proposals`: whether it may vote on what its person proposed. `max_weight`: of its person
    in a vote, over which it only drafts; null is any.
    """

    mode: Mode
    min_confidence: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.8
    topics: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=MAX_TOPIC_CHARACTERS)]], Field(max_length=MAX_TOPICS)]
        | None
    ) = None
    own_proposals: bool = False
    max_weight: Annotated[int, Field(ge=0, le=MAX_ATTRIBUTE)] | None = None


class ConsentOut(ConsentForm):
    """`changed_at`: null where the person has never said anything."""

    user_id: str
    changed_at: datetime | None


class TwinBallotRequest(Asked):
    proposal: Id


class EvidenceOut(BaseModel):
    """A sentence of the person's and where it stands. `leans`: for which choice, `weight`: how likely it says that. `shared`:
    whether others may hear of it; a ballot quotes nothing else."""

    text: str
    citation: str
    source: str
    leans: Choice
    weight: float
    shared: bool


class StanceOut(BaseModel):
    choice: Choice
    confidence: float
    probabilities: dict[Choice, float]
    evidence: list[EvidenceOut]
    degraded: list[str]


class TwinBallotOut(BaseModel):
    """`why`: of a cast ballot the consent it rests on; of a draft the condition that did not hold; of an abstention
    `no_evidence` or `unsure`; of a refusal `never`, or what stands already. `stance`: null where the twin did not have to make
    up its mind."""

    outcome: Literal["cast", "drafted", "abstained", "refused"]
    why: str
    stance: StanceOut | None
    ballot: VoteAnswer | None
    draft: BallotDraftOut | None


class AlignmentOut(BaseModel):
    """Votes in which both have chosen: `same` of `compared`, the `share` with its interval of 95 %. `vetoed`: ballots that the
    person took back."""

    user_id: str
    same: int
    compared: int
    opposed: int
    vetoed: int
    share: float | None
    low: float
    high: float


def consent_out(consent: Consent) -> ConsentOut:
    return ConsentOut(
        user_id=consent.user_id,
        mode=consent.mode,
        min_confidence=consent.min_confidence,
        topics=None if consent.topics is None else list(consent.topics),
        own_proposals=consent.own_proposals,
        max_weight=consent.max_weight,
        changed_at=consent.changed_at,
    )


def consent_of(user_id: str, form: ConsentForm) -> Consent:
    return Consent(
        user_id,
        form.mode,
        form.min_confidence,
        None if form.topics is None else tuple(form.topics),
        form.own_proposals,
        form.max_weight,
    )


def twin_ballot_out(found: TwinBallot) -> TwinBallotOut:
    return TwinBallotOut(
        outcome=found.outcome,
        why=found.why,
        stance=stance_out(found.stance) if found.stance else None,
        ballot=vote_out(found.cast) if found.cast else None,
        draft=draft_out(found.draft) if found.draft else None,
    )


def stance_out(stance: Stance) -> StanceOut:
    return StanceOut(
        choice=stance.choice,
        confidence=stance.confidence,
        probabilities={choice: round(value, 4) for choice, value in stance.probabilities.items()},
        evidence=[
            EvidenceOut(
                text=each.said,
                citation=each.line.citation,
                source=each.line.source,
                leans=each.leans,
                weight=each.weight,
                shared=each.line.shared,
            )
            for each in stance.evidence
        ],
        degraded=list(stance.degraded),
    )


def alignment_out(user_id: str, found: Alignment) -> AlignmentOut:
    low, high = found.interval
    return AlignmentOut(
        user_id=user_id,
        same=found.same,
        compared=found.compared,
        opposed=found.opposed,
        vetoed=found.vetoed,
        share=None if found.share is None else round(found.share, 4),
        low=low,
        high=high,
    )
