"""Plans: a step is stored with what is told of it or not at all, by one of two; words in it stay whose they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import text

from lpm_kernel.dao.planner.records import (
    Coalition,
    Conclusion,
    Condition,
    Consulted,
    Judgement,
    Opinion,
    Order,
    Plan,
    PlanEvent,
    PlanFailure,
    PlannedTask,
    PlanState,
    Spent,
    Standpoint,
)
from lpm_kernel.dao.records import Tally
from lpm_kernel.errors import StoreError, VoteError
from lpm_kernel.stores.dao_plans import PgPlans, Plans, forget_plan_lines
from lpm_kernel.stores.documents import put_document, set_private
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.users import remove_user
from tests.dao.planner.fakes import GOAL, NOON, MemoryPlans, make_line
from tests.deletions import during_deletion
from tests.samples import make_document

STARTED = PlanEvent(1, NOON, "started", {"proposal_id": None})

STATE = PlanState(
    number=1,
    next="revise",
    round=2,
    consulted=(
        Consulted("ada", 3, 0.5, "t-1", "ada", ("proposer", "named"), counts=False),
        Consulted("bob", 1, 0.25, None, "ada"),
    ),
    left_out={"conflict": 2},
    standpoints=(
        Standpoint("ada", ("l-1", "l-2"), Opinion(0.5, 0.25, 0.25), ("l-3",), Opinion(0.25, 0.5, 0.25), 0.25, 2),
        Standpoint("bob", (), None),
    ),
    put={"ada": ("l-4",)},
    judgements=(
        Judgement(
            1, Tally(1, 2, 3, 9, 4, 0), "failed", "quorum_not_met", 0.5, (Coalition("for", ("ada", "bob"), 4),), None, True
        ),
    ),
    ended_by="deadlock",
    conditions=(Condition("l-1", "ada", "unless", 4),),
    conclusion=Conclusion(
        "tasks", "for", True, (PlannedTask("t", "purchase", "Buy glue", "ada", {"quantity": 2}),), "P-3", ("t",)
    ),
    spent=Spent(3, 400, 1.5),
    told=2,
)


def make_plan(asker: str, key: str | None = "k", plan_id: str = "") -> Plan:
    return Plan(plan_id or f"plan-of-{asker}", Order(asker, GOAL), NOON, "running", PlanState(), key)


@pytest.fixture(params=["memory", "postgres"])
def plans(request: pytest.FixtureRequest) -> Plans:
    if request.param == "memory":
        return MemoryPlans()
    return PgPlans(request.getfixturevalue("stores").tables)


def test_a_state_comes_back_as_it_was_stored_with_what_was_told(plans: Plans, user_id: str) -> None:
    plan = plans.begin(make_plan(user_id), STARTED)
    assert plan.state.told == 1
    told = PlanEvent(2, NOON, "chosen", {"consulted": ["ada"]})
    saved = plans.save(plan, STATE, [told])
    assert saved.state == STATE
    assert plans.get(user_id, plan.plan_id) == saved
    assert plans.events_after(user_id, plan.plan_id) == [STARTED, told]
    assert plans.events_after(user_id, plan.plan_id, 1) == [told]
    assert plans.newest(user_id) == [saved]


def test_a_key_is_one_plan_and_no_key_is_none(plans: Plans, user_id: str) -> None:
    plan = plans.begin(make_plan(user_id), STARTED)
    assert plans.begin(replace(plan, plan_id=f"other-{user_id}", state=PlanState()), STARTED) == plan
    assert plans.events_after(user_id, plan.plan_id) == [STARTED]
    with pytest.raises(VoteError) as raised:
        plans.begin(replace(plan, order=Order(user_id, "Something else")), STARTED)
    assert raised.value.code == "key_reused"
    keyless = [plans.begin(make_plan(user_id, None, f"{number}-{user_id}"), STARTED) for number in (1, 2)]
    assert len({each.plan_id for each in (plan, *keyless)}) == 3


def test_of_two_that_take_the_same_step_the_second_is_refused_and_tells_nothing(plans: Plans, user_id: str) -> None:
    plan = plans.begin(make_plan(user_id), STARTED)
    plans.save(plan, STATE, [PlanEvent(2, NOON, "chosen", {})])
    with pytest.raises(VoteError) as raised:
        plans.save(plan, STATE, [PlanEvent(2, NOON, "stated", {})])
    assert raised.value.code == "plan_moved_on"
    assert [event.name for event in plans.events_after(user_id, plan.plan_id)] == ["started", "chosen"]


def test_what_is_not_done_is_found_by_whoever_goes_on_with_it(plans: Plans, user_id: str) -> None:
    plan = plans.begin(make_plan(user_id), STARTED)
    assert (user_id, plan.plan_id) in plans.running(1000)
    assert plans.save(plan, replace(STATE, next=None), []).status == "done"
    assert (user_id, plan.plan_id) not in plans.running(1000)


def test_a_plan_is_its_askers(plans: Plans, new_user: Callable[[], str]) -> None:
    one, other = new_user(), new_user()
    plan = plans.begin(make_plan(one), STARTED)
    for plan_id in (plan.plan_id, "nothing"):
        with pytest.raises(VoteError) as raised:
            plans.get(other, plan_id)
        assert raised.value.code == "plan_unknown"


def test_the_asker_hears_lines_of_others_and_nobody_else_does(stores: Stores, new_user: Callable[[], str]) -> None:
    plans = PgPlans(stores.tables)
    asker, member, stranger = new_user(), new_user(), new_user()
    plan = plans.begin(make_plan(asker), STARTED)
    lines = [make_line(member, "I want “this” roof."), make_line(member, "It is dear.")]
    for _ in range(2):
        plans.keep_lines(asker, plan.plan_id, member, lines)
    assert plans.lines(asker, plan.plan_id) == {line.line_id: line for line in lines}
    with stores.tables.transaction(stranger) as connection:
        for table in ("dao_plan", "dao_plan_event", "dao_plan_line"):
            assert connection.execute(text(f"select count(*) from {table}")).scalar_one() == 0
    with stores.tables.transaction(asker) as connection:
        assert connection.execute(text("delete from dao_plan_line")).rowcount == 0
    with stores.tables.transaction(stranger) as connection:
        assert connection.execute(text("update dao_plan_line set line = '{}'")).rowcount == 0
    with pytest.raises(StoreError), stores.tables.transaction(stranger) as connection:
        connection.execute(text(f"insert into dao_plan_event values ('{plan.plan_id}', 9, '{asker}', now(), 'done', '{{}}')"))


def test_words_leave_a_plan_with_their_document_and_with_their_person(stores: Stores, new_user: Callable[[], str]) -> None:
    plans = PgPlans(stores.tables)
    asker, one, two = new_user(), new_user(), new_user()
    plan = plans.begin(make_plan(asker), STARTED)
    first, second, third = make_line(one, "A line."), make_line(one, "Another."), make_line(two, "A third.")
    plans.keep_lines(asker, plan.plan_id, one, [first, second])
    plans.keep_lines(asker, plan.plan_id, two, [third])
    with stores.tables.transaction(one) as connection:
        forget_plan_lines(connection, one, [first.citation.document_sha256])
    assert set(plans.lines(asker, plan.plan_id)) == {second.line_id, third.line_id}
    with stores.tables.transaction(two) as connection:
        remove_user(connection, two)
    assert set(plans.lines(asker, plan.plan_id)) == {second.line_id}
    with stores.tables.transaction(asker) as connection:
        remove_user(connection, asker)
    with stores.tables.transaction(one) as connection:
        assert connection.execute(text("select count(*) from dao_plan_line")).scalar_one() == 0


@pytest.mark.parametrize("way", ["deletes", "keeps to themself"])
def test_a_line_of_a_document_that_goes_at_that_moment_is_not_kept(
    stores: Stores, new_user: Callable[[], str], way: str
) -> None:
    """It was read while the deletion was not over, and stored after it, for good."""
    plans = PgPlans(stores.tables)
    asker, member = new_user(), new_user()
    plan = plans.begin(make_plan(asker), STARTED)
    line, sha256 = make_line(member, "A line."), make_line(member, "A line.").citation.document_sha256
    with stores.tables.transaction(member) as connection:
        put_document(connection, replace(make_document(member), sha256=sha256, status="read"))

    def keep() -> None:
        plans.keep_lines(asker, plan.plan_id, member, [line])

    if way == "deletes":
        during_deletion(stores.tables, member, [sha256], keep, lambda own: forget_plan_lines(own, member, [sha256]))
    else:
        during_deletion(stores.tables, member, [], keep, lambda own: set_private(own, member, sha256, True))
    assert plans.lines(asker, plan.plan_id) == {}


def test_a_plan_is_one_workers_until_it_leaves_it_or_is_gone(plans: Plans, user_id: str) -> None:
    """Two processes worked on one plan, and each threw away the half of what the other did."""
    plan = plans.begin(make_plan(user_id), STARTED)
    assert plans.lease(user_id, plan.plan_id, "one", 60)
    assert plans.lease(user_id, plan.plan_id, "one", 60), "it has it already"
    assert not plans.lease(user_id, plan.plan_id, "two", 60)
    assert (user_id, plan.plan_id) not in plans.running(1000)
    plans.leave(user_id, plan.plan_id, "two")
    assert not plans.lease(user_id, plan.plan_id, "two", 60), "who does not have it leaves it to nobody"
    plans.leave(user_id, plan.plan_id, "one")
    assert (user_id, plan.plan_id) in plans.running(1000)
    assert plans.lease(user_id, plan.plan_id, "two", 0.0), "and is killed"
    assert (user_id, plan.plan_id) in plans.running(1000)
    assert plans.lease(user_id, plan.plan_id, "one", 60)


def test_a_plan_that_cannot_go_on_ends_with_the_code_and_keeps_what_it_had(plans: Plans, user_id: str) -> None:
    plan = plans.save(plans.begin(make_plan(user_id), STARTED), STATE, [PlanEvent(2, NOON, "chosen", {})])
    failure = PlanFailure("proposal_unknown", "there is none", "revise", NOON)
    failed = plans.fail(plan, failure)
    assert (failed.status, failed.failure) == ("failed", failure)
    assert failed.state == replace(STATE, told=3)
    assert plans.get(user_id, plan.plan_id) == failed
    assert plans.events_after(user_id, plan.plan_id, 2) == [
        PlanEvent(3, NOON, "failed", {"code": "proposal_unknown", "step": "revise"})
    ]
    assert (user_id, plan.plan_id) not in plans.running(1000)
    assert not plans.lease(user_id, plan.plan_id, "one", 60)
    for late in (lambda: plans.save(failed, STATE, []), lambda: plans.fail(failed, failure)):
        with pytest.raises(VoteError) as raised:
            late()
        assert raised.value.code == "plan_moved_on"


def test_no_more_plans_than_may_be_are_under_way_for_one_asker(plans: Plans, new_user: Callable[[], str]) -> None:
    one, other = new_user(), new_user()
    first = plans.begin(make_plan(one, "k-1", f"1-{one}"), STARTED, 2)
    plans.begin(make_plan(one, "k-2", f"2-{one}"), STARTED, 2)
    with pytest.raises(VoteError) as raised:
        plans.begin(make_plan(one, "k-3", f"3-{one}"), STARTED, 2)
    assert raised.value.code == "plans_busy"
    assert plans.begin(make_plan(one, "k-1", f"1-{one}"), STARTED, 2) == first, "what is there is no other"
    plans.begin(make_plan(other), STARTED, 2)
    plans.save(first, replace(STATE, next=None), [])
    assert plans.begin(make_plan(one, "k-3", f"3-{one}"), STARTED, 2).status == "running"
