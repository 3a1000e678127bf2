"""The forms of plans on the wire.

Belongs here: pydantic models of these routes, and how a plan becomes one.
Does not belong here: what a plan does (`lpm_kernel/dao/planner`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from lpm_kernel.dao.ballot_draft import Choice
from lpm_kernel.dao.planner.records import ConflictKind, EndedBy, Line, Opinion, Plan, PlanStatus, StepName, TaskKind
from lpm_kernel.errors import TwinError
from twin_serving.dao_answers import tally_out
from twin_serving.dao_schemas import MAX_TOPIC_CHARACTERS, Asked, Id, Key, Member, TallyOut

MAX_GOAL_CHARACTERS = 2_000


class PlanRequest(Asked):
    """A goal in words, or a proposal. `may_propose`, `may_assign`: what the asker lets it do in their name; else it only
    advises."""

    goal: Annotated[str, Field(max_length=MAX_GOAL_CHARACTERS)] = ""
    proposal: Id | None = None
    topic: Annotated[str, Field(min_length=1, max_length=MAX_TOPIC_CHARACTERS)] = "general"
    may_propose: bool = False
    may_assign: bool = False
    asker: Member | None = None
    key: Key | None = None


class _Told(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ConsultedOut(_Told):
    """`counts`: false is heard and not counted, for its `conflicts`."""

    member: str
    weight: int
    expertise: float
    topic_id: str | None
    voice: str
    conflicts: list[ConflictKind]
    counts: bool


class OpinionOut(BaseModel):
    """Likelihoods; they add up to 1."""

    for_: Annotated[float, Field(alias="for")]
    against: float
    abstain: float


class StandpointOut(BaseModel):
    """`own`: by its own lines alone; `now`: with what others said. `lines`, `heard`: ids of what it rests on."""

    member: str
    own: OpinionOut | None
    now: OpinionOut | None
    lines: list[str]
    heard: list[str]
    moved: float


class CoalitionOut(_Told):
    choice: Choice
    members: list[str]
    weight: int


class JudgementOut(BaseModel):
    round: int
    tally: TallyOut
    outcome: str
    reason: str
    moved: float
    coalitions: list[CoalitionOut]
    agreed: Choice | None
    deadlock: bool


class ConditionOut(_Told):
    line_id: str
    member: str
    marker: str
    weight: int


class TaskOut(_Told):
    task_id: str
    kind: TaskKind
    title: str
    assignee: str | None
    details: dict[str, str | int]


class ConclusionOut(_Told):
    """`proposal_id`, `assigned`: what it did; null and none where it was not allowed to. `awaiting`: tasks that cost money
    and wait for a vote that passes."""

    ending: str
    advice: str
    proposes: bool
    tasks: list[TaskOut]
    proposal_id: str | None
    assigned: list[str]
    awaiting: list[TaskOut]


class SpentOut(_Told):
    statements: int
    tokens: int
    seconds: float


class LineOut(BaseModel):
    """A sentence that its member shares; gone from here when it is gone from there."""

    line_id: str
    member: str
    text: str
    filename: str
    document_sha256: str


class PlanFailureOut(BaseModel):
    """Why its last step failed. `final`: it has ended by that; else it is tried again."""

    code: str
    message: str
    final: bool


class PlanAnswer(BaseModel):
    """`next`: the step that comes, or that failed; null when it is done. `left_out`: how many members were not asked, by
    why."""

    plan_id: str
    asker: str
    goal: str
    proposal_id: str | None
    topic: str
    created_at: datetime
    status: PlanStatus
    next: StepName | None
    round: int
    consulted: list[ConsultedOut]
    left_out: dict[str, int]
    standpoints: list[StandpointOut]
    judgements: list[JudgementOut]
    ended_by: EndedBy | None
    conditions: list[ConditionOut]
    conclusion: ConclusionOut | None
    spent: SpentOut
    lines: list[LineOut]
    failure: PlanFailureOut | None


def plan_out(plan: Plan, lines: Mapping[str, Line] | None = None, failure: TwinError | None = None) -> PlanAnswer:
    state = plan.state
    return PlanAnswer(
        plan_id=plan.plan_id,
        asker=plan.order.asker,
        goal=plan.order.goal,
        proposal_id=plan.order.proposal_id,
        topic=plan.order.topic,
        created_at=plan.created_at,
        status=plan.status,
        next=state.next,
        round=state.round,
        consulted=[ConsultedOut.model_validate(each) for each in state.consulted],
        left_out=dict(state.left_out),
        standpoints=[
            StandpointOut(
                member=each.member,
                own=_opinion_out(each.own),
                now=_opinion_out(each.now),
                lines=list(each.lines),
                heard=list(each.heard),
                moved=each.moved,
            )
            for each in state.standpoints
        ],
        judgements=[
            JudgementOut(
                round=each.round,
                tally=tally_out(each.tally),
                outcome=each.outcome,
                reason=each.reason,
                moved=each.moved,
                coalitions=[CoalitionOut.model_validate(coalition) for coalition in each.coalitions],
                agreed=each.agreed,
                deadlock=each.deadlock,
            )
            for each in state.judgements
        ],
        ended_by=state.ended_by,
        conditions=[ConditionOut.model_validate(each) for each in state.conditions],
        conclusion=ConclusionOut.model_validate(state.conclusion) if state.conclusion else None,
        spent=SpentOut.model_validate(state.spent),
        lines=[line_out(each) for each in (lines or {}).values()],
        failure=_failure_out(plan, failure),
    )


def _failure_out(plan: Plan, failure: TwinError | None) -> PlanFailureOut | None:
    if plan.failure is not None:
        return PlanFailureOut(code=plan.failure.code, message=plan.failure.message, final=True)
    if failure is None or plan.status == "done":
        return None
    return PlanFailureOut(code=failure.code, message=failure.message, final=False)


def line_out(line: Line) -> LineOut:
    place = line.citation
    return LineOut(
        line_id=line.line_id,
        member=line.member,
        text=line.text,
        filename=place.filename,
        document_sha256=place.document_sha256,
    )


def _opinion_out(opinion: Opinion | None) -> OpinionOut | None:
    if opinion is None:
        return None
    return OpinionOut.model_validate({"for": opinion.for_, "against": opinion.against, "abstain": opinion.abstain})
