"""A plan as a LangGraph: the same steps as `run_plan`, each stored in our own table before the next.

Belongs here: which step follows which.
Does not belong here: what a step does (`lpm_kernel/dao/planner/steps.py`), and events on the wire.

The graph keeps no checkpoint of its own: its state is the plan as `PgPlans` has stored it, and it enters at the step that is
next there. So what is stored of a plan is what any reader of our tables sees, and whoever is killed goes on from it.

                 ┌──────────── resume: at the next step of what is stored ─────────────┐
                 ▼          ▼            ▼          ▼         ▼         ▼         ▼    ▼
    START ──► choose ──► state ⟲ ──► critique ──► revise ⟲ ──► judge ──► amend ──► conclude ──► act ──► END
                                        ▲                        │
                                        └────── next round ──────┘
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, TypedDict

from lpm_kernel.dao.planner.records import Plan, PlanEvent
from lpm_kernel.dao.planner.run import Desk, step_plan, tell
from lpm_kernel.dao.planner.steps import STEPS

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

MOST_STEPS = 2000
"""LangGraph stops a graph after so many; a plan's budget ends it long before."""
_LEFT = "left"


@dataclass(frozen=True, slots=True)
class Consultation:
    """What a run of the graph works with: the same through all its steps."""

    desk: Desk
    progress: Callable[[PlanEvent], None] | None = None
    is_left: Callable[[], bool] = field(default=lambda: False)


class Course(TypedDict):
    plan: Plan
    left: bool
    """Whether the rest is for another time."""


def run_planner(
    desk: Desk,
    asker: str,
    plan_id: str,
    progress: Callable[[PlanEvent], None] | None = None,
    is_left: Callable[[], bool] = lambda: False,
) -> Plan:
    """As `run_plan`, and raises the same.

    Why tracing is off whatever the environment says: LangSmith's variables in a shell would send people's words there.
    """
    from langsmith import tracing_context

    plan = desk.plans.get(asker, plan_id)
    with tracing_context(enabled=False):
        work = Consultation(desk, progress, is_left)
        return compiled().invoke({"plan": plan, "left": False}, {"recursion_limit": MOST_STEPS}, context=work)["plan"]


@cache
def compiled() -> CompiledStateGraph[Any, Any, Any, Any]:
    from langgraph.graph import END, START, StateGraph

    graph = StateGraph(Course, context_schema=Consultation)
    ways: dict[Hashable, str] = {**{name: name for name in STEPS}, _LEFT: END}
    for name in STEPS:
        graph.add_node(name, take)
        graph.add_conditional_edges(name, next_of, ways)
    graph.add_conditional_edges(START, next_of, ways)
    return graph.compile(name="plan")


def take(state: Course, runtime: Runtime[Consultation]) -> dict[str, Any]:
    """Every node takes the step that is next; which that is, the edges have made sure of."""
    work = runtime.context
    plan, events = step_plan(work.desk, state["plan"])
    tell(events, work.progress)
    return {"plan": plan, "left": work.is_left()}


def next_of(state: Course) -> str:
    step = state["plan"].state.next
    return _LEFT if state["left"] or step is None or state["plan"].status != "running" else step
