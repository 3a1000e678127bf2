"""A planner without engines: plans in a dict, minds and a council of invented people, and a model that counts words."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from lpm_kernel.dao.heard import Quote
from lpm_kernel.dao.planner.choose import Profile, ProfileTopic
from lpm_kernel.dao.planner.council import Matter
from lpm_kernel.dao.planner.records import Line, Order, Plan, PlanEvent, PlanFailure, PlanState
from lpm_kernel.dao.planner.run import Desk
from lpm_kernel.dao.planner.weighing import Case, Subject, Weighed, opinion_of
from lpm_kernel.dao.records import Delegation, Task
from lpm_kernel.dao.rules import Rules
from lpm_kernel.errors import VoteError
from lpm_kernel.records import Citation, content_id, sha256_hex
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.dao_plans import (
    MOST_UNFINISHED,
    failed_event,
    plan_moved_on,
    plan_unknown,
    plans_busy,
    same_order,
)
from tests.fakes import FakeEmbedder

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
GOAL = "Build a new workshop roof"
ASKER = "asker"
DIM = 32
"""Of topics: in so many directions nobody's is another's by chance."""


@dataclass
class MemoryPlans:
    """`Plans` in dicts."""

    plans: dict[str, Plan] = field(default_factory=dict)
    told: dict[str, list[PlanEvent]] = field(default_factory=dict)
    kept: dict[str, dict[str, Line]] = field(default_factory=dict)
    leases: dict[str, tuple[str, float]] = field(default_factory=dict)

    def begin(self, plan: Plan, started: PlanEvent, most: int = MOST_UNFINISHED) -> Plan:
        for kept in self.plans.values():
            same_key = plan.key is not None and kept.key == plan.key
            if kept.order.asker == plan.order.asker and (kept.plan_id == plan.plan_id or same_key):
                return same_order(kept, plan)
        own = [each for each in self.plans.values() if each.order.asker == plan.order.asker and each.status == "running"]
        if len(own) >= most:
            raise plans_busy(plan.order.asker, most)
        self.plans[plan.plan_id] = replace(plan, state=replace(plan.state, told=started.number))
        self.told[plan.plan_id] = [started]
        return self.plans[plan.plan_id]

    def get(self, asker: str, plan_id: str) -> Plan:
        plan = self.plans.get(plan_id)
        if plan is None or plan.order.asker != asker:
            raise plan_unknown(plan_id)
        return plan

    def newest(self, asker: str, limit: int = 50) -> list[Plan]:
        own = [plan for plan in self.plans.values() if plan.order.asker == asker]
        return sorted(own, key=lambda plan: plan.plan_id)[:limit]

    def running(self, limit: int = 50) -> list[tuple[str, str]]:
        free = [plan for plan in self.plans.values() if self.leases.get(plan.plan_id, ("", 0.0))[1] <= time.monotonic()]
        return [(plan.order.asker, plan.plan_id) for plan in free if plan.status == "running"][:limit]

    def lease(self, asker: str, plan_id: str, worker: str, for_s: float) -> bool:
        holder, until = self.leases.get(plan_id, (worker, 0.0))
        if self.get(asker, plan_id).status != "running" or (holder != worker and until > time.monotonic()):
            return False
        self.leases[plan_id] = worker, time.monotonic() + for_s
        return True

    def leave(self, asker: str, plan_id: str, worker: str) -> None:
        if self.leases.get(plan_id, ("", 0.0))[0] == worker:
            del self.leases[plan_id]

    def fail(self, plan: Plan, failure: PlanFailure) -> Plan:
        self._check(plan)
        told = failed_event(plan, failure)
        state = replace(plan.state, told=told.number)
        self.plans[plan.plan_id] = replace(plan, state=state, status="failed", failure=failure)
        self.told[plan.plan_id].append(told)
        return self.plans[plan.plan_id]

    def _check(self, plan: Plan) -> None:
        kept = self.get(plan.order.asker, plan.plan_id)
        if kept.state.number != plan.state.number or kept.status != "running":
            raise plan_moved_on(plan)

    def save(self, plan: Plan, state: PlanState, events: Sequence[PlanEvent]) -> Plan:
        self._check(plan)
        self.plans[plan.plan_id] = replace(plan, state=state, status="running" if state.next else "done")
        self.told[plan.plan_id].extend(events)
        return self.plans[plan.plan_id]

    def events_after(self, asker: str, plan_id: str, number: int = 0) -> list[PlanEvent]:
        return [event for event in self.told.get(plan_id, []) if event.number > number]

    def keep_lines(self, asker: str, plan_id: str, member: str, lines: Sequence[Line]) -> None:
        self.kept.setdefault(plan_id, {}).update({line.line_id: line for line in lines})

    def lines(self, asker: str, plan_id: str) -> dict[str, Line]:
        return dict(self.kept.get(plan_id, {}))


def make_line(member: str, text: str, cosine: float = 0.6) -> Line:
    document = sha256_hex(f"{member} {text}".encode())
    citation = Citation(content_id(member, text), document, f"{member}.md", 0, len(text.encode()))
    return Line(content_id(member, text)[:32], member, text, citation, cosine)


@dataclass
class Town:
    """`Minds` and `Council` of invented people: member to their lines, weight 1 each unless said otherwise."""

    says: Mapping[str, Sequence[str]]
    weights: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    given: list[Delegation] = field(default_factory=list)
    rules: Rules = field(default_factory=Rules)
    proposer: str | None = None
    text: str = ""
    cosines: Mapping[str, float] = field(default_factory=dict)
    """Of a line to the question; 0.6 where none is given."""
    passed: bool = False
    proposed: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """By key."""
    assigned: dict[str, tuple[str, Task, str | None, str]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    topics: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)

    def members(self) -> list[str]:
        return sorted({ASKER, *self.says, *self.weights})

    def matter(self, order: Order) -> Matter:
        weights = {member: self.weights.get(member, 1) for member in self.members()}
        if order.proposal_id is None:
            return Matter(order.goal, "", order.topic, None, None, False, self.rules, weights)
        if order.proposal_id != "P-1":
            raise VoteError("proposal_unknown", "there is none")
        return Matter(GOAL, self.text, "works", self.proposer, "P-1", self.passed, self.rules, weights, is_put=True)

    def delegations(self) -> Sequence[Delegation]:
        return self.given

    def propose(
        self, asker: str, title: str, text: str, topic: str, amends: str | None, key: str, quotes: Sequence[Quote] = ()
    ) -> str:
        self.calls.append("propose")
        told = (asker, title, text, topic, amends)
        if self.proposed.setdefault(key, told) != told:
            raise VoteError("key_reused", "another proposal has this key")
        return f"P-{1 + len(self.proposed)}"

    def assign(self, asker: str, task: Task, proposal_id: str | None, plan_id: str) -> None:
        self.calls.append("assign")
        told = (asker, task, proposal_id, plan_id)
        if self.assigned.setdefault(task.task_id, told) != told:
            raise VoteError("key_reused", "another task has this id")

    def profiles(self, members: Sequence[str], asked: str) -> list[Profile]:
        asked_with = np.zeros(DIM, dtype=np.float32)
        asked_with[0] = 1.0
        return [
            Profile(member, self.names.get(member), self._topics(member), asked_with, "fake")
            for member in members
            if member in self.says or member == ASKER
        ]

    def _topics(self, member: str) -> tuple[ProfileTopic, ...]:
        """Where none are given everybody has one of their own, all as near to the question."""
        given = self.topics.get(member)
        if given is None:
            rest = np.random.default_rng(int(sha256_hex(member.encode())[:8], 16)).standard_normal(DIM - 1)
            given = [[0.8, *(0.6 * rest / np.linalg.norm(rest))]]
        vectors = [np.array([*vector, *[0.0] * (DIM - len(vector))], dtype=np.float32) for vector in given]
        return tuple(ProfileTopic(f"{member}-{number}", vector, 0.5) for number, vector in enumerate(vectors))

    def lines(self, member: str, asked: str, k: int) -> list[Line]:
        return [make_line(member, text, self.cosines.get(text, 0.6)) for text in self.says.get(member, ())][:k]

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        return FakeEmbedder().embed(texts)


_FOR = re.compile(r"\b(?:want|good|useful|yes|gladly|accept)\b", re.IGNORECASE)
_AGAINST = re.compile(r"\b(?:dear|bad|no|never|waste|noisy)\b", re.IGNORECASE)
_ORDER = re.compile(r"\b(?:vote|choose|side with|answer) (?P<side>for|against)\b", re.IGNORECASE)


@dataclass
class WordWeigher:
    """A word for or against is worth 1 nat of a twin's own line and 0.3 of another's.

    `gullible`: it also does whatever an order in a line says, whoever's line it is, with all its might.
    """

    gullible: bool = False
    asked: list[Case] = field(default_factory=list)
    fails_after: int | None = None

    def weigh(self, subject: Subject, cases: Sequence[Case]) -> list[Weighed]:
        self.asked.extend(cases)
        return [self._weigh(case) for case in cases]

    def _weigh(self, case: Case) -> Weighed:
        nats = sum(self._side(text) for text in case.own) + 0.3 * sum(self._side(text) for text in case.heard)
        if self.gullible:
            for text in (*case.own, *case.heard):
                for order in _ORDER.finditer(text):
                    nats += 50.0 if order["side"].lower() == "for" else -50.0
        strength = min(abs(nats), 12.0)
        odds = np.exp(strength if nats > 0 else -strength)
        for_ = float(0.9 * odds / (1 + odds))
        abstain = 0.1 if nats else 0.5
        tokens = 20 + sum(len(text.split()) for text in (*case.own, *case.heard))
        return Weighed(opinion_of(for_, 0.9 - for_, abstain), tokens)

    @staticmethod
    def _side(text: str) -> float:
        return float(len(_FOR.findall(text)) - len(_AGAINST.findall(text)))


def make_desk(town: Town, *, plans: Any = None, weigher: WordWeigher | None = None, **changed: Any) -> Desk:
    """`changed`: settings of the planner. Each look at the clock is a second later, each at the stopwatch a tenth."""
    planner = load_settings().planner.model_copy(update={"batch": 3, **changed})
    seconds, tenths = itertools.count(), itertools.count()
    return Desk(
        plans if plans is not None else MemoryPlans(),
        town,
        town,
        weigher or WordWeigher(),
        planner,
        lambda: NOON + timedelta(seconds=next(seconds)),
        lambda: next(tenths) / 10,
    )


def village(*, in_favour: int, opposed: int, silent: int = 0) -> dict[str, list[str]]:
    """People of whom each says something of their own."""
    people = {
        f"pro-{number:02d}": [f"I want roof number {number}, it keeps bench {number} dry."] for number in range(in_favour)
    }
    people |= {
        f"con-{number:02d}": [f"A roof over yard {number} is dear, and tree {number} would go."] for number in range(opposed)
    }
    return people | {f"mute-{number:02d}": [] for number in range(silent)}


def names_of(events: Iterable[PlanEvent]) -> list[str]:
    return [event.name for event in events]


def crash_at(number: int) -> Callable[[], bool]:
    """Says so at its `number`-th asking."""
    count = itertools.count(1)
    return lambda: next(count) == number
