"""The steps of a plan: each takes the state that is stored and the lines, and leaves the next state and what is told of it.

Belongs here: asking minds, the model and the council, in the order of `NEXT`; each step may be taken again.
Does not belong here: storing (`run.py`), and the rules by which is decided (`choose.py`, `rounds.py`, `agreement.py`, ...).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lpm_kernel.dao.planner import agreement, amendments, outcome, rounds
from lpm_kernel.dao.planner.choose import ChoiceRules, choose
from lpm_kernel.dao.planner.council import Council, Matter
from lpm_kernel.dao.planner.minds import Minds
from lpm_kernel.dao.planner.records import (
    Conclusion,
    EventName,
    Judgement,
    Line,
    Plan,
    PlannedTask,
    PlanState,
    Spent,
    Standpoint,
    StepName,
)
from lpm_kernel.dao.planner.statements import choose_lines
from lpm_kernel.dao.planner.weighing import Case, Weighed, Weigher, choice_of
from lpm_kernel.dao.records import Task
from lpm_kernel.planner_settings import PlannerSettings

if TYPE_CHECKING:
    import numpy as np

    from lpm_kernel.stores.dao_plans import Plans

Told = list[tuple[EventName, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Desk:
    """What plans are worked on with."""

    plans: Plans
    council: Council
    minds: Minds
    weigher: Weigher
    planner: PlannerSettings
    clock: Callable[[], datetime]
    stopwatch: Callable[[], float] = time.monotonic


def take_step(desk: Desk, plan: Plan) -> tuple[PlanState, Told]:
    assert plan.state.next is not None, "a plan that is done has no step"
    return STEPS[plan.state.next](desk, plan)


def choose_twins(desk: Desk, plan: Plan) -> tuple[PlanState, Told]:
    order, planner = plan.order, desk.planner
    matter = desk.council.matter(order)
    profiles = desk.minds.profiles(desk.council.members(), matter.asked)
    rules = ChoiceRules(planner.twins, planner.min_expertise, planner.same_topics, planner.diversity, planner.conflicts)
    question = matter.question(order.asker)
    found = choose(profiles, question, matter.weights, desk.council.delegations(), rules, desk.clock())
    state = replace(plan.state, next="state" if found.consulted else "judge")
    state = replace(state, consulted=found.consulted, left_out=found.left_out)
    people = [
        {"member": person.member, "weight": person.weight, "expertise": person.expertise, "conflicts": list(person.conflicts)}
        for person in found.consulted
    ]
    return state, [("chosen", {"consulted": people, "left_out": dict(found.left_out)})]


def state_batch(desk: Desk, plan: Plan) -> tuple[PlanState, Told]:
    """The next few twins say what they know, and how likely it makes each choice. Their lines are kept before the state is."""
    state, planner = plan.state, desk.planner
    matter = desk.council.matter(plan.order)
    done = {standpoint.member for standpoint in state.standpoints}
    waiting = [person.member for person in state.consulted if person.member not in done]
    batch = waiting[: _room(desk, state.spent)]
    statements: dict[str, tuple[Line, ...]] = {}
    for member in batch:
        found = [line for line in desk.minds.lines(member, matter.asked, planner.lines) if line.cosine >= planner.line_cosine]
        statements[member] = choose_lines(found, planner.lines, planner.line_characters)
        desk.plans.keep_lines(plan.order.asker, plan.plan_id, member, statements[member])
    speaking = [member for member in batch if statements[member]]
    weighed, spent = _weigh(desk, matter, [rounds.state_case(statements[member]) for member in speaking], state.spent)
    by_member = dict(zip(speaking, weighed, strict=True))
    fresh = [rounds.stated(member, statements[member], by_member.get(member)) for member in batch]
    standpoints = (*state.standpoints, *fresh)
    told: Told = [("stated", _told(state.round, fresh, len(standpoints), len(state.consulted), planner))] if fresh else []
    state = replace(state, standpoints=standpoints, spent=spent)
    over = _budget(planner).exhausted(spent) is not None
    if len(standpoints) < len(state.consulted) and not over:
        return state, told
    return replace(_with_voices(desk, plan, state), next="judge" if over else "critique"), told


def _with_voices(desk: Desk, plan: Plan, state: PlanState) -> PlanState:
    lines = desk.plans.lines(plan.order.asker, plan.plan_id)
    statements = {each.member: [lines[key] for key in each.lines if key in lines] for each in state.standpoints}
    consulted = rounds.with_interests(state.consulted, statements)
    return replace(state, consulted=rounds.join_voices(consulted, statements, desk.planner.same_lines))


def critique(desk: Desk, plan: Plan) -> tuple[PlanState, Told]:
    state = plan.state
    lines = desk.plans.lines(plan.order.asker, plan.plan_id)
    put = rounds.put_to(state.consulted, state.standpoints, lines, desk.planner.heard)
    state = replace(state, put=put, next="revise" if put else "judge")
    heard = sorted({line_id for line_ids in put.values() for line_id in line_ids})
    return state, [("critiqued", {"round": state.round, "lines": heard, "twins": len(put)})]


def revise_batch(desk: Desk, plan: Plan) -> tuple[PlanState, Told]:
    state, planner = plan.state, desk.planner
    matter = desk.council.matter(plan.order)
    lines = desk.plans.lines(plan.order.asker, plan.plan_id)
    waiting = [each for each in state.standpoints if each.member in state.put and each.revised_in < state.round]
    batch = waiting[: _room(desk, state.spent)]
    cases = [rounds.revise_case(each, state.put[each.member], lines) for each in batch]
    weighed, spent = _weigh(desk, matter, cases, state.spent)
    fresh = {
        each.member: rounds.revised(each, state.put[each.member], result, state.round, planner.sway)
        for each, result in zip(batch, weighed, strict=True)
    }
    standpoints = tuple(fresh.get(each.member, each) for each in state.standpoints)
    count = len(state.put) - len(waiting) + len(batch)
    told: Told = [("revised", _told(state.round, list(fresh.values()), count, len(state.put), planner))] if fresh else []
    state = replace(state, standpoints=standpoints, spent=spent)
    over = _budget(planner).exhausted(spent) is not None
    return replace(state, next="judge" if over or len(batch) == len(waiting) else "revise"), told


def judge(desk: Desk, plan: Plan) -> tuple[PlanState, Told]:
    state, planner = plan.state, desk.planner
    matter = desk.council.matter(plan.order)
    lines = desk.plans.lines(plan.order.asker, plan.plan_id)
    rules = agreement.AgreementRules(planner.min_confidence, planner.movement, planner.like_evidence)
    vectors = _foremost(desk, state.standpoints, lines)
    over = _budget(planner).exhausted(state.spent) is not None
    found = agreement.judge(state.consulted, state.standpoints, vectors, matter.rules, rules, state.round, whole=not over)
    more = bool(rounds.put_to(state.consulted, state.standpoints, lines, planner.heard))
    why = agreement.ended(found, _budget(planner), state.spent, more_to_hear=more)
    state = replace(state, judgements=(*state.judgements, found), put={}, ended_by=why)
    state = replace(state, next="amend") if why else replace(state, next="critique", round=state.round + 1)
    return state, [("judged", {**_judged(found), "ended_by": why})]


def amend(desk: Desk, plan: Plan) -> tuple[PlanState, Told]:
    state, planner = plan.state, desk.planner
    lines = desk.plans.lines(plan.order.asker, plan.plan_id)
    found = amendments.conditions_of(
        state.consulted, state.standpoints, lines, min_cosine=planner.line_cosine, most=planner.conditions
    )
    named = [{"line_id": each.line_id, "member": each.member, "marker": each.marker, "weight": each.weight} for each in found]
    return replace(state, conditions=found, next="conclude"), [("amended", {"conditions": named})]


def conclude(desk: Desk, plan: Plan) -> tuple[PlanState, Told]:
    state, order = plan.state, plan.order
    matter = desk.council.matter(order)
    tasks: tuple[PlannedTask, ...] = ()
    if state.judgement is not None and state.judgement.agreed == "for":
        choices = agreement.choices_of(state.consulted, state.standpoints, desk.planner.min_confidence)
        assignee = outcome.assignee_of(state.consulted, choices)
        tasks = tuple(replace(task, assignee=assignee) for task in outcome.recognise_tasks(matter.own_words, plan.plan_id))
    found = outcome.conclude(order, state.judgement, state.ended_by, state.conditions, tasks, passed=matter.passed)
    content = {
        "ending": found.ending,
        "advice": found.advice,
        "tasks": [{"task_id": task.task_id, "kind": task.kind, "assignee": task.assignee} for task in found.tasks],
        "awaiting": [task.task_id for task in found.awaiting],
    }
    return replace(state, conclusion=found, next="act"), [("concluded", content)]


def act(desk: Desk, plan: Plan) -> tuple[PlanState, Told]:
    """What was concluded, through the ledger: each deed has a key that is the plan's, so that a second try finds it done."""
    state, order = plan.state, plan.order
    assert state.conclusion is not None, "what is done was concluded before"
    done, told = state.conclusion, list[tuple[EventName, dict[str, Any]]]()
    if done.proposes:
        matter = desk.council.matter(order)
        lines = desk.plans.lines(order.asker, plan.plan_id)
        text = amendments.amended_text(matter.ledger_text, state.conditions, lines)
        quotes = [each for each in amendments.quotes_of(state.conditions, lines) if each.words in text]
        title = f"Amended: {matter.title}" if matter.proposal_id else matter.title
        key = f"plan-{plan.plan_id}"
        proposal_id = desk.council.propose(order.asker, title, text, matter.topic, matter.proposal_id, key, quotes)
        done = replace(done, proposal_id=proposal_id)
        told.append(("proposed", {"proposal_id": proposal_id, "amends": matter.proposal_id}))
    if done.ending == "tasks":
        for planned in done.tasks:
            task = Task(planned.task_id, planned.kind, planned.title, planned.assignee, planned.details)
            desk.council.assign(order.asker, task, order.proposal_id, plan.plan_id)
            told.append(("assigned", {"task_id": task.task_id, "kind": task.kind, "assignee": task.assignee}))
        done = replace(done, assigned=tuple(task.task_id for task in done.tasks))
    return replace(state, conclusion=done, next=None), [*told, ("done", _done(done))]


STEPS: Mapping[StepName, Callable[[Desk, Plan], tuple[PlanState, Told]]] = {
    "choose": choose_twins,
    "state": state_batch,
    "critique": critique,
    "revise": revise_batch,
    "judge": judge,
    "amend": amend,
    "conclude": conclude,
    "act": act,
}


def _budget(planner: PlannerSettings) -> agreement.Budget:
    return agreement.Budget(planner.rounds, planner.statements, planner.tokens, planner.seconds)


def _room(desk: Desk, spent: Spent) -> int:
    """How many the next batch may ask, within what is left of the budget of statements."""
    return max(0, min(desk.planner.batch, desk.planner.statements - spent.statements))


def _weigh(desk: Desk, matter: Matter, cases: Sequence[Case], spent: Spent) -> tuple[list[Weighed], Spent]:
    weighed = desk.weigher.weigh(matter.subject, cases) if cases else []
    tokens = sum(each.tokens for each in weighed)
    return weighed, replace(spent, statements=spent.statements + len(cases), tokens=spent.tokens + tokens)


def _foremost(desk: Desk, standpoints: Sequence[Standpoint], lines: Mapping[str, Line]) -> dict[str, np.ndarray]:
    """Of each who has an opinion the vector of the line nearest to what is asked."""
    texts = {
        each.member: lines[key].text
        for each in standpoints
        if each.opinion is not None and (key := next((key for key in each.lines if key in lines), None)) is not None
    }
    return dict(zip(texts, desk.minds.vectors(list(texts.values())), strict=True)) if texts else {}


def _told(round_: int, fresh: Sequence[Standpoint], done: int, of: int, planner: PlannerSettings) -> dict[str, Any]:
    twins = [
        {
            "member": each.member,
            "choice": choice_of(each.opinion, planner.min_confidence),
            "for": round(each.opinion.for_, 3) if each.opinion else None,
            "against": round(each.opinion.against, 3) if each.opinion else None,
            "lines": list(each.lines),
            "moved": round(each.moved, 3),
        }
        for each in fresh
    ]
    return {"round": round_, "done": done, "of": of, "twins": twins}


def _judged(found: Judgement) -> dict[str, Any]:
    tally = found.tally
    return {
        "round": found.round,
        "for": tally.for_,
        "against": tally.against,
        "abstain": tally.abstain,
        "electorate": tally.electorate,
        "outcome": found.outcome,
        "reason": found.reason,
        "agreed": found.agreed,
        "deadlock": found.deadlock,
        "moved": found.moved,
        "coalitions": [
            {"choice": each.choice, "members": list(each.members), "weight": each.weight} for each in found.coalitions
        ],
    }


def _done(done: Conclusion) -> dict[str, Any]:
    return {"ending": done.ending, "advice": done.advice, "proposal_id": done.proposal_id, "tasks": list(done.assigned)}
