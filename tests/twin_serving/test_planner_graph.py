"""The planner's graph: the same end as without one, the same when it is killed at any step, and nothing told to others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lpm_kernel.dao.planner.records import Order, Plan, PlanEvent
from lpm_kernel.dao.planner.run import run_plan, start_plan
from lpm_kernel.dao.planner.steps import STEPS
from tests.dao.planner.fakes import ASKER, GOAL, Town, crash_at, make_desk, village
from twin_serving.agent.planner_graph import compiled, run_planner

ORDER = Order(ASKER, GOAL, may_propose=True)


def town() -> Town:
    return Town(village(in_favour=5, opposed=4))


def without_time(plan: Plan) -> Plan:
    return replace(
        plan, created_at=plan.created_at.min, state=replace(plan.state, spent=replace(plan.state.spent, seconds=0.0))
    )


def plain() -> Plan:
    desk = make_desk(town())
    return run_plan(desk, ASKER, start_plan(desk, ORDER, key="k").plan_id)


def test_it_has_a_node_for_each_step() -> None:
    assert set(compiled().get_graph().nodes) == {*STEPS, "__start__", "__end__"}


def test_it_ends_as_the_plain_loop_does_and_tells_the_same() -> None:
    desk, told = make_desk(town()), list[PlanEvent]()
    plan = run_planner(desk, ASKER, start_plan(desk, ORDER, key="k").plan_id, told.append)
    assert without_time(plan) == without_time(plain())
    assert told == desk.plans.events_after(ASKER, plan.plan_id, 1)
    assert run_planner(desk, ASKER, plan.plan_id) == plan


@pytest.mark.parametrize("at", range(1, 15))
def test_left_after_any_step_it_is_entered_there_again(at: int) -> None:
    desk = make_desk(town())
    plan_id = start_plan(desk, ORDER, key="k").plan_id
    left = run_planner(desk, ASKER, plan_id, is_left=crash_at(at))
    assert left.state.number == min(at, plain().state.number)
    assert without_time(run_planner(desk, ASKER, plan_id)) == without_time(plain())


def test_a_plan_that_was_begun_without_a_graph_goes_on_in_one() -> None:
    desk = make_desk(town())
    plan_id = start_plan(desk, ORDER, key="k").plan_id
    run_plan(desk, ASKER, plan_id, is_left=crash_at(4))
    assert without_time(run_planner(desk, ASKER, plan_id)) == without_time(plain())


def test_tracing_is_off_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from langsmith.utils import tracing_is_enabled

    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    monkeypatch.setenv("LANGSMITH_API_KEY", "none")
    seen: list[bool | str] = []
    desk = make_desk(town())
    run_planner(desk, ASKER, start_plan(desk, ORDER).plan_id, lambda _: seen.append(tracing_is_enabled()))
    assert seen
    assert not any(seen)
