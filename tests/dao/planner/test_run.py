"""A whole plan: it comes to an end, spends no more than it may, and killed anywhere it goes on without doing anything twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from lpm_kernel.dao.planner.records import Order, Plan, PlanEvent, PlanState
from lpm_kernel.dao.planner.run import run_plan, start_plan
from lpm_kernel.errors import StoreError, TwinError, UserInputError, VoteError
from tests.dao.planner.fakes import ASKER, GOAL, MemoryPlans, Town, WordWeigher, crash_at, make_desk, names_of, village

PRINT = "Print 12 hinges in PETG for the gate"
ORDER = Order(ASKER, GOAL, may_propose=True, may_assign=True)


def run(town: Town, order: Order = ORDER, **changed: Any) -> Plan:
    desk = make_desk(town, **changed)
    return run_plan(desk, ASKER, start_plan(desk, order).plan_id)


def test_twins_that_agree_end_it_after_one_round() -> None:
    plan = run(Town(village(in_favour=7, opposed=2)))
    assert plan.status == "done"
    assert plan.state.ended_by == "agreement"
    judgement = plan.state.judgement
    assert judgement is not None
    assert (judgement.agreed, judgement.round) == ("for", 1)
    assert (judgement.tally.for_, judgement.tally.against, judgement.tally.electorate) == (7, 2, 9)


def test_what_is_agreed_on_becomes_a_proposal_where_the_asker_lets_it() -> None:
    town = Town(village(in_favour=5, opposed=0))
    plan = run(town)
    assert plan.state.conclusion is not None
    assert (plan.state.conclusion.ending, plan.state.conclusion.advice) == ("proposal", "for")
    assert plan.state.conclusion.proposal_id == "P-2"
    assert list(town.proposed.values()) == [(ASKER, GOAL, GOAL, "general", None)]
    told = run(Town(village(in_favour=5, opposed=0)), replace(ORDER, may_propose=False)).state.conclusion
    assert told is not None
    assert (told.ending, told.advice, told.proposal_id) == ("recommendation", "for", None)


def test_work_that_is_agreed_on_goes_to_who_knows_most_of_it_and_has_nothing_to_gain() -> None:
    near = [[0.99, 0.1, 0.1]]
    town = Town(
        {"ada": ["I want hinges, I printed gates before."], "bob": ["Hinges are good for the gate."], "cyd": ["Yes, hinges."]},
        topics={"ada": near},
    )
    plan = run(town, Order(ASKER, PRINT, may_assign=True))
    assert plan.state.conclusion is not None
    assert plan.state.conclusion.ending == "tasks"
    ((asker, task, proposal_id, plan_id),) = town.assigned.values()
    assert (asker, proposal_id, plan_id) == (ASKER, None, plan.plan_id)
    assert (task.kind, task.title, task.assignee) == ("print_job", PRINT, "ada")
    assert task.details == {"quantity": 12, "material": "PETG"}


def test_who_asks_makes_nobody_a_party_by_naming_them() -> None:
    """An asker named the opponents in the goal, and their twins were heard and not counted."""
    says = village(in_favour=2, opposed=4)
    goal = f"{GOAL}: pay con-00, the contract goes to con-01, hire con-02 and give con-03 a bench"
    plan = run(Town(says), Order(ASKER, goal))
    assert all(person.counts for person in plan.state.consulted)
    put = run(Town(says, proposer="pro-00", text="Pay con-00 for it."), Order(ASKER, "", "P-1"))
    assert {person.member: person.conflicts for person in put.state.consulted if person.conflicts} == {
        "pro-00": ("proposer",),
        "con-00": ("named",),
    }


def test_who_wrote_that_they_gain_by_it_is_heard_and_not_counted() -> None:
    says = village(in_favour=3, opposed=2)
    says["pro-00"] = ["I want the roof, for my firm would build it."]
    says["pro-01"] = ["I want the roof. Petra said: I would be paid for it."]
    plan = run(Town(says))
    assert {person.member: person.conflicts for person in plan.state.consulted if person.conflicts} == {"pro-00": ("interest",)}
    assert [person.member for person in plan.state.consulted if not person.counts] == ["pro-00"]
    assert plan.state.judgement is not None
    assert plan.state.judgement.tally.electorate == 4


def test_what_costs_money_waits_for_a_vote_whatever_twins_agree_on() -> None:
    """A goal became a purchase that a member was told to make, and nobody had voted."""
    says = {
        "ada": ["I want hinges, I printed gates before."],
        "bob": ["Hinges are good for the gate."],
        "cyd": ["Yes, hinges."],
    }
    goal = f"{PRINT} and buy 2 kg of PETG. Repair the lathe for 300 euros."
    town = Town(says)
    conclusion = run(town, Order(ASKER, goal, may_assign=True)).state.conclusion
    assert conclusion is not None
    assert (conclusion.ending, [task.kind for task in conclusion.tasks]) == ("tasks", ["print_job"])
    assert [task.kind for task in conclusion.awaiting] == ["purchase", "maintenance"]
    assert [task.kind for _, task, _, _ in town.assigned.values()] == ["print_job"]
    town = Town(says)
    both = run(town, Order(ASKER, goal, may_assign=True, may_propose=True)).state.conclusion
    assert both is not None
    assert (both.proposal_id, len(town.proposed), len(town.assigned)) == ("P-2", 1, 1)
    town = Town(says)
    only = run(town, Order(ASKER, "Buy 2 kg of PETG", may_assign=True)).state.conclusion
    assert only is not None
    assert (only.ending, [task.kind for task in only.awaiting], town.assigned) == ("recommendation", ["purchase"], {})
    town = Town(says, text="Buy 2 kg of PETG.", passed=True)
    run(town, Order(ASKER, "", "P-1", may_assign=True))
    assert [task.kind for _, task, _, _ in town.assigned.values()] == ["purchase"]


def test_conditions_amend_a_proposal_on_which_there_is_no_agreement() -> None:
    says = village(in_favour=3, opposed=3)
    says["con-00"] = ["The roof is dear; I would accept it if the old beams are used again."]
    town = Town(says, proposer="pro-00", text="The yard gets a roof.")
    plan = run(town, Order(ASKER, "", "P-1", may_propose=True))
    assert plan.state.conclusion is not None
    assert plan.state.conclusion.advice == "amend"
    ((asker, title, text, topic, amends),) = town.proposed.values()
    assert (asker, title, topic, amends) == (ASKER, f"Amended: {GOAL}", "works", "P-1")
    assert text.startswith("The yard gets a roof.\n\nOn these conditions, quoted from members' memories")
    assert "1. “The roof is dear; I would accept it if the old beams are used again.” (con-00, con-00.md, bytes 0-68)" in text


def test_nobody_who_knows_of_it_is_said_and_nothing_is_done() -> None:
    town = Town(village(in_favour=0, opposed=0, silent=4))
    plan = run(town)
    assert plan.state.ended_by == "nobody"
    assert plan.state.conclusion is not None
    assert plan.state.conclusion.advice == "nobody_knows"
    assert town.calls == []


def test_twins_that_stand_still_without_a_majority_are_a_deadlock() -> None:
    plan = run(Town(village(in_favour=4, opposed=4)), sway=0.0)
    assert plan.state.ended_by == "deadlock"
    judgement = plan.state.judgement
    assert judgement is not None
    assert judgement.deadlock
    assert judgement.moved == 0
    assert plan.state.conclusion is not None
    assert plan.state.conclusion.advice == "undecided"


def test_rounds_end_by_the_budget_and_no_line_is_heard_twice() -> None:
    weigher = WordWeigher()
    plan = run(Town(village(in_favour=6, opposed=5)), weigher=weigher, rounds=3, movement=0.0, heard=1)
    assert plan.state.ended_by == "rounds"
    assert [each.round for each in plan.state.judgements] == [1, 2, 3]
    for standpoint in plan.state.standpoints:
        assert len(set(standpoint.heard)) == len(standpoint.heard) == 3
        assert not set(standpoint.heard) & set(standpoint.lines)


@pytest.mark.parametrize(
    ("changed", "why"),
    [({"statements": 5}, "statements"), ({"tokens": 60}, "tokens"), ({"seconds": 0.2}, "seconds")],
)
def test_a_budget_is_kept_and_says_so(changed: dict[str, Any], why: str) -> None:
    plan = run(Town(village(in_favour=6, opposed=5)), **changed)
    assert plan.status == "done"
    assert plan.state.ended_by == why
    if why == "statements":
        assert plan.state.spent.statements == 5
    heard = [each for each in plan.state.standpoints if each.opinion is not None]
    assert len(heard) < 11
    judgement = plan.state.judgement
    assert judgement is not None
    assert judgement.tally.voters == len(heard)
    assert judgement.tally.electorate == 11


class Killed(BaseException):
    """Nothing catches it."""


class DyingPlans(MemoryPlans):
    """Dies at its n-th save: before it is stored, or just after."""

    def __init__(self, at: int, *, before: bool) -> None:
        super().__init__()
        self.left, self.before = at, before

    def save(self, plan: Plan, state: PlanState, events: Sequence[PlanEvent]) -> Plan:
        self.left -= 1
        if self.left == 0 and self.before:
            raise Killed
        saved = super().save(plan, state, events)
        if self.left == 0:
            raise Killed
        return saved


def outcome(plan: Plan) -> Plan:
    """Without what time says of it."""
    return replace(plan, state=replace(plan.state, spent=replace(plan.state.spent, seconds=0.0)))


def worlds() -> list[tuple[Town, Order]]:
    """One that ends in a proposal after two rounds, one that ends in tasks."""
    says = village(in_favour=4, opposed=4)
    says["con-01"] = ["It is dear, unless the old beams are used again."]
    tasks = {name: ["I want hinges on the gate, they are good."] for name in ("ada", "bob")}
    tasks["cyd"] = ["Yes to hinges, and to paint."]
    return [
        (Town(says, text="A roof.", proposer="pro-00"), Order(ASKER, "", "P-1", may_propose=True)),
        (Town(tasks), Order(ASKER, f"{PRINT} and repair the lathe", may_assign=True)),
    ]


def steps_of(number: int) -> int:
    town, order = worlds()[number]
    desk = make_desk(town)
    return run_plan(desk, ASKER, start_plan(desk, order, key="k").plan_id).state.number


@pytest.mark.parametrize("before", [True, False], ids=["before it is stored", "after it is stored"])
@pytest.mark.parametrize(("world", "at"), [(world, at) for world in (0, 1) for at in range(1, steps_of(world) + 1)])
def test_killed_at_any_step_it_goes_on_and_does_nothing_twice(world: int, at: int, before: bool) -> None:
    town, order = worlds()[world]
    plain = make_desk(town)
    expected = run_plan(plain, ASKER, start_plan(plain, order, key="k").plan_id)

    town, order = worlds()[world]
    plans = DyingPlans(at, before=before)
    desk = make_desk(town, plans=plans)
    plan_id = start_plan(desk, order, key="k").plan_id
    with pytest.raises(Killed):
        run_plan(desk, ASKER, plan_id)
    second = make_desk(town, plans=plans)  # of a new process: nothing but what is stored is left
    told: list[PlanEvent] = []
    found = run_plan(second, ASKER, plan_id, told.append)
    assert outcome(found) == outcome(replace(expected, created_at=found.created_at))
    assert len(town.proposed) == (1 if world == 0 else 0)
    assert len(town.assigned) == (0 if world == 0 else 2)
    numbers = [event.number for event in plans.events_after(ASKER, plan_id)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert plans.events_after(ASKER, plan_id)[-1].name == "done"
    assert told == plans.events_after(ASKER, plan_id)[len(numbers) - len(told) :]


def test_who_is_left_stops_after_a_step_and_another_goes_on() -> None:
    town = Town(village(in_favour=5, opposed=1))
    desk = make_desk(town)
    plan_id = start_plan(desk, ORDER).plan_id
    stopped = run_plan(desk, ASKER, plan_id, is_left=crash_at(2))
    assert (stopped.status, stopped.state.number, stopped.state.next) == ("running", 2, "state")
    assert run_plan(desk, ASKER, plan_id).status == "done"


def test_of_two_that_take_one_step_one_is_told_so() -> None:
    town = Town(village(in_favour=3, opposed=1))
    desk = make_desk(town)
    plan = start_plan(desk, ORDER)
    run_plan(desk, ASKER, plan.plan_id, is_left=lambda: True)
    with pytest.raises(VoteError) as raised:
        desk.plans.save(plan, replace(plan.state, number=1), [])
    assert raised.value.code == "plan_moved_on"


def test_a_model_that_fails_leaves_the_plan_where_it_was() -> None:
    class Failing(WordWeigher):
        def weigh(self, subject: Any, cases: Any) -> Any:
            raise StoreError("gone", "told to")

    town = Town(village(in_favour=3, opposed=1))
    desk = make_desk(town, weigher=Failing())
    plan_id = start_plan(desk, ORDER).plan_id
    with pytest.raises(TwinError):
        run_plan(desk, ASKER, plan_id)
    assert desk.plans.get(ASKER, plan_id).state.next == "state"
    assert run_plan(make_desk(town, plans=desk.plans), ASKER, plan_id).status == "done"


def test_progress_tells_every_step_and_no_word_of_anybody() -> None:
    town = Town(village(in_favour=4, opposed=3))
    desk = make_desk(town)
    told: list[PlanEvent] = []
    run_plan(desk, ASKER, start_plan(desk, ORDER).plan_id, told.append)
    names = names_of(told)
    assert names[0] == "chosen"
    assert names[-1] == "done"
    assert [name for name in dict.fromkeys(names) if name in ("stated", "critiqued", "revised", "judged", "amended")] == [
        "stated", "critiqued", "revised", "judged", "amended",
    ]  # fmt: skip
    assert "bench" not in str(told)
    assert "yard" not in str(told)


def test_the_same_key_is_the_same_plan_and_another_order_under_it_is_refused() -> None:
    desk = make_desk(Town(village(in_favour=1, opposed=0)))
    first = start_plan(desk, ORDER, key="k")
    assert start_plan(desk, ORDER, key="k") == first
    with pytest.raises(VoteError) as raised:
        start_plan(desk, replace(ORDER, goal="Something else"), key="k")
    assert raised.value.code == "key_reused"


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (Order("stranger", GOAL), "not_a_member"),
        (Order(ASKER, "  "), "goal_empty"),
        (Order(ASKER, "x" * 2001), "goal_too_long"),
        (Order(ASKER, "a\x00b"), "goal_invalid"),
        (Order(ASKER, GOAL, topic="t" * 81), "goal_invalid"),
        (Order(ASKER, "", "P-9"), "proposal_unknown"),
        (Order("../x", GOAL), "user_id_invalid"),
    ],
)
def test_an_order_that_cannot_be_is_refused_by_name(order: Order, code: str) -> None:
    with pytest.raises((VoteError, UserInputError)) as raised:
        start_plan(make_desk(Town(village(in_favour=1, opposed=0))), order)
    assert raised.value.code == code
