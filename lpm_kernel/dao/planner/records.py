"""What a plan is made of: who asks for what, who is consulted, how they stand, what it ends in.

Belongs here: frozen records; each has a form in JSON (`artefacts.encode_record`), and that is how a plan is resumed.
Does not belong here: how one follows from another (`choose.py`, `rounds.py`, `agreement.py`, `outcome.py`).

No record but `Line` holds a word of a person: the others name lines by id, so that what is deleted is gone from every plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from lpm_kernel.dao.ballot_draft import Choice
from lpm_kernel.dao.records import Outcome, ResolutionReason, Tally
from lpm_kernel.records import Citation

StepName = Literal["choose", "state", "critique", "revise", "judge", "amend", "conclude", "act"]
PlanStatus = Literal["running", "done", "failed"]
Ending = Literal["recommendation", "proposal", "tasks"]
ConflictKind = Literal["proposer", "named", "interest", "delegate", "same_person"]
"""`named`: what is proposed names them as who gains by it; `interest`: they wrote that they do; `delegate`: of the one who asks
or proposes, or the other way round; `same_person`: the twin of the one who asks or proposes, under another name."""
EndedBy = Literal["agreement", "deadlock", "nothing_new", "rounds", "statements", "tokens", "seconds", "nobody"]
"""`nothing_new`: no line is left that somebody has not heard. `rounds`, `statements`, `tokens`, `seconds`: the budget.
`nobody`: no twin knows of it."""
TaskKind = Literal["print_job", "maintenance", "purchase"]
EventName = Literal[
    "started",
    "chosen",
    "stated",
    "critiqued",
    "revised",
    "judged",
    "amended",
    "concluded",
    "proposed",
    "assigned",
    "done",
    "failed",
]


@dataclass(frozen=True, slots=True)
class Order:
    """`asker`: the member for whom it is made. What they do not let it do, it only recommends."""

    asker: str
    goal: str
    """In words; of a proposal its title."""
    proposal_id: str | None = None
    topic: str = "general"
    may_propose: bool = False
    """Whether it may propose, in the asker's name, what comes of it; as a draft, unless the settings say otherwise."""
    may_assign: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence of a member's memory that others may hear."""

    line_id: str
    member: str
    text: str
    citation: Citation
    cosine: float
    """To what is asked."""


@dataclass(frozen=True, slots=True)
class Consulted:
    """`weight`: in the DAO. `voice`: of members whose memory says the same; it is heard once, however many they are."""

    member: str
    weight: int
    expertise: float
    topic_id: str | None
    """Of the topic that it is out of."""
    voice: str
    conflicts: tuple[ConflictKind, ...] = ()
    counts: bool = True
    """False: heard, and not counted."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """Likelihoods of the three choices; they add up to 1."""

    for_: float
    against: float
    abstain: float

    def of(self, choice: Choice) -> float:
        return {"for": self.for_, "against": self.against, "abstain": self.abstain}[choice]

    @property
    def lean(self) -> float:
        """From -1, wholly against, to 1, wholly for."""
        return self.for_ - self.against


@dataclass(frozen=True, slots=True)
class Standpoint:
    """How one twin stands: by its own lines alone, and with what others said."""

    member: str
    lines: tuple[str, ...]
    """Ids of its own."""
    own: Opinion | None
    """None: it has no line about it, and was not asked."""
    heard: tuple[str, ...] = ()
    """Ids of others' lines that were put to it."""
    now: Opinion | None = None
    moved: float = 0.0
    """In its last revision, of its lean."""
    revised_in: int = 0

    @property
    def opinion(self) -> Opinion | None:
        return self.now or self.own


@dataclass(frozen=True, slots=True)
class Coalition:
    """Members of like stance, out of like lines."""

    choice: Choice
    members: tuple[str, ...]
    weight: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """`outcome` and `reason`: what the DAO's own rules would say of these stances as ballots."""

    round: int
    tally: Tally
    outcome: Outcome
    reason: ResolutionReason
    moved: float
    """By how much, on average by weight, stances moved in this round."""
    coalitions: tuple[Coalition, ...]
    agreed: Choice | None
    """On what there is agreement: for, or against."""
    deadlock: bool


@dataclass(frozen=True, slots=True)
class Condition:
    """A line that says under what it would be agreed to."""

    line_id: str
    member: str
    marker: str
    """Such as `unless`."""
    weight: int
    """Of all whose voice says it."""


@dataclass(frozen=True, slots=True)
class PlannedTask:
    task_id: str
    kind: TaskKind
    title: str
    assignee: str | None
    details: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Conclusion:
    """`advice`: what the asker is told. `tasks` and `proposes`: what is done, where the order allows it; else recommended."""

    ending: Ending
    advice: Literal["for", "against", "amend", "undecided", "nobody_knows"]
    proposes: bool = False
    tasks: tuple[PlannedTask, ...] = ()
    proposal_id: str | None = None
    """That it proposed, once it did."""
    assigned: tuple[str, ...] = ()
    """Ids of the tasks that it assigned."""
    awaiting: tuple[PlannedTask, ...] = ()
    """Tasks that cost money: they wait for a vote, which twins' agreement is not."""


@dataclass(frozen=True, slots=True)
class Spent:
    statements: int = 0
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class PlanState:
    """After a step; the next step needs nothing else but the lines."""

    number: int = 0
    """Steps taken."""
    next: StepName | None = "choose"
    """None: it is done."""
    round: int = 1
    consulted: tuple[Consulted, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Members that were not consulted: how many, by why."""
    standpoints: tuple[Standpoint, ...] = ()
    put: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Member to the ids of the lines that this round's critique puts to them."""
    judgements: tuple[Judgement, ...] = ()
    ended_by: EndedBy | None = None
    conditions: tuple[Condition, ...] = ()
    conclusion: Conclusion | None = None
    spent: Spent = field(default_factory=Spent)
    told: int = 0
    """Number of the last event."""

    @property
    def judgement(self) -> Judgement | None:
        return self.judgements[-1] if self.judgements else None


@dataclass(frozen=True, slots=True)
class PlanFailure:
    """Why a plan cannot go on: of an error that no later try would mend."""

    code: str
    message: str
    step: StepName
    at: datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """`failure`: of one that failed; how far it came is in `state` still."""

    plan_id: str
    order: Order
    created_at: datetime
    status: PlanStatus
    state: PlanState
    key: str | None = None
    failure: PlanFailure | None = None


@dataclass(frozen=True, slots=True)
class PlanEvent:
    """Progress. `number` counts from 1 within a plan; whoever has a number is told what comes after it."""

    number: int
    at: datetime
    name: EventName
    content: Mapping[str, Any]
    """Ids and numbers, no words of anybody's memory."""
