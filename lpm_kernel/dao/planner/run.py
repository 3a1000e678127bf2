"""A plan from its order to its end, step by step; killed between any two, it goes on from the last that is stored.

Belongs here: beginning a plan, storing each step with what is told of it, and going on until there is none.
Does not belong here: what a step does (`steps.py`).

    choose ─► state ─► critique ─► revise ─► judge ─┬─► amend ─► conclude ─► act
              (in batches)          (in batches)    └─► critique, for the next round
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lpm_kernel.dao.planner.records import Order, Plan, PlanEvent, PlanFailure, PlanState
from lpm_kernel.dao.planner.steps import Desk, take_step
from lpm_kernel.dao.proposing import MOST_TOPIC
from lpm_kernel.errors import TwinError, UserInputError, VoteError
from lpm_kernel.records import check_user_id, content_id, is_text

if TYPE_CHECKING:
    from datetime import datetime

    from lpm_kernel.dao.service import Dao
    from lpm_kernel.stores.dao_plans import Plans
    from lpm_kernel.stores.llm import Llm
    from lpm_kernel.stores.open import Stores

__all__ = ["Desk", "fail_plan", "open_desk", "run_plan", "start_plan", "step_plan", "tell"]

MAX_GOAL_CHARACTERS = 2000
MAX_KEY_CHARACTERS = 200
Progress = Callable[[PlanEvent], None]


def open_desk(stores: Stores, llm: Llm, dao: Dao) -> Desk:
    from lpm_kernel.dao.planner.council import DaoCouncil
    from lpm_kernel.dao.planner.llm_weigher import LlmWeigher
    from lpm_kernel.dao.planner.minds import StoredMinds
    from lpm_kernel.stores.dao_plans import PgPlans

    planner = stores.settings.planner
    council = DaoCouncil(dao, opens=planner.open_proposals)
    weigher = LlmWeigher(llm, stores.embedder, stores.settings.stance.min_evidence)
    return Desk(PgPlans(stores.tables), council, StoredMinds(stores), weigher, planner, dao.clock)


def start_plan(desk: Desk, order: Order, *, key: str | None = None) -> Plan:
    """Check the order and keep it; nothing is asked yet. The same key gives the same plan.

    Raises: VoteError `not_a_member`, `proposal_unknown`, `key_reused`, `plans_busy`; UserInputError `user_id_invalid`,
    `goal_empty`, `goal_invalid`, `goal_too_long`, `key_invalid`; StoreError.
    """
    check_user_id(order.asker)
    goal = " ".join(order.goal.split())
    if not is_text(goal) or (key is not None and not is_text(key)):
        raise UserInputError("goal_invalid", "the goal or its key holds a NUL or half of a character, which no text may")
    if len(goal) > MAX_GOAL_CHARACTERS:
        raise UserInputError("goal_too_long", f"{len(goal)} characters, and {MAX_GOAL_CHARACTERS} are allowed")
    if key is not None and not 0 < len(key) <= MAX_KEY_CHARACTERS:
        raise UserInputError("key_invalid", f"an idempotency key is 1-{MAX_KEY_CHARACTERS} characters")
    if order.asker not in desk.council.members():
        raise VoteError("not_a_member", f"{order.asker!r} is no member of the DAO, and only members have twins consulted")
    topic = " ".join(order.topic.split()).casefold() or "general"
    if not is_text(topic) or len(topic) > MOST_TOPIC:
        raise UserInputError("goal_invalid", f"a topic has at most {MOST_TOPIC} characters, none of them NUL")
    matter = desk.council.matter(replace(order, goal=goal, topic=topic))
    if not matter.title:
        raise UserInputError("goal_empty", "there is no goal: say in words what is to be reached, or name a proposal")
    order = replace(order, goal=matter.title, topic=matter.topic)
    at = desk.clock()
    plan_id = content_id("plan", order.asker, key or f"{at.isoformat()} {order.goal}")[:32]
    plan = Plan(plan_id, order, at, "running", PlanState(), key)
    return desk.plans.begin(plan, PlanEvent(1, at, "started", {"proposal_id": order.proposal_id}), desk.planner.unfinished)


def step_plan(desk: Desk, plan: Plan) -> tuple[Plan, list[PlanEvent]]:
    """One step, stored with its events or not at all. Raises: as `run_plan`."""
    began = desk.stopwatch()
    state, told = take_step(desk, plan)
    at = desk.clock()
    events = [PlanEvent(plan.state.told + place, at, name, content) for place, (name, content) in enumerate(told, start=1)]
    spent = replace(state.spent, seconds=round(state.spent.seconds + desk.stopwatch() - began, 3))
    state = replace(state, number=plan.state.number + 1, told=plan.state.told + len(events), spent=spent)
    return desk.plans.save(plan, state, events), events


def fail_plan(plans: Plans, asker: str, plan_id: str, error: TwinError, at: datetime) -> Plan:
    """End a plan whose next step no later try would mend. Raises: VoteError `plan_unknown`, `plan_moved_on`; StoreError."""
    plan = plans.get(asker, plan_id)
    if plan.state.next is None or plan.status != "running":
        return plan
    return plans.fail(plan, PlanFailure(error.code, error.message, plan.state.next, at))


def tell(events: Sequence[PlanEvent], progress: Progress | None) -> None:
    if progress is not None:
        for event in events:
            progress(event)


def run_plan(
    desk: Desk,
    asker: str,
    plan_id: str,
    progress: Progress | None = None,
    is_left: Callable[[], bool] = lambda: False,
) -> Plan:
    """Go on from the last stored step to the end, or until `is_left` after a step; `progress` is told each event once it is
    stored. Without a graph; `twin_serving/agent/planner_graph.py` takes the same steps as one. Run it outside of a request: it
    opens rows of all who are consulted, for what they share.

    Raises: VoteError `plan_unknown`, `plan_moved_on` (somebody else works on it); LlmError; StoreError.
    """
    plan = desk.plans.get(asker, plan_id)
    while plan.status == "running":
        plan, events = step_plan(desk, plan)
        tell(events, progress)
        if is_left():
            break
    return plan
