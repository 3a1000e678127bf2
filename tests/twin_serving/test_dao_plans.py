"""Plans over the API: begun, worked on beside the requests, taken up after an end, told step by step, their asker's alone."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lpm_kernel.dao.planner.records import Order, Plan, PlanEvent, PlanState
from lpm_kernel.dao.service import Dao
from lpm_kernel.errors import UserInputError
from lpm_kernel.stores.dao_plans import PgPlans
from tests.twin_serving.dao_town import Town, dao_tables, town
from tests.twin_serving.event_stream import Read, read_events
from tests.twin_serving.test_dao_votes import refused
from tests.twin_serving.test_live_turns import eventually
from twin_serving import dao_plans
from twin_serving.dao_plans import MOST_INTERNAL, PlanWorker, number_of

__all__ = ["dao_tables", "town"]


def done(client: TestClient, plan_id: str, **how: Any) -> dict[str, Any]:
    """Once it is; the first plan of a process waits for what it loads."""
    deadline = time.monotonic() + 60
    while (plan := client.get(f"/plans/{plan_id}", **how).json())["status"] != "done":
        assert time.monotonic() < deadline, plan["failure"]
        time.sleep(0.05)
    return plan


def steps(client: TestClient, plan_id: str, after: str | None = None, **how: Any) -> list[Read]:
    headers = {**how.pop("headers", {}), **({"Last-Event-ID": after} if after else {})}
    answer = client.get(f"/plans/{plan_id}/events", headers=headers, **how)
    assert answer.status_code == 200, answer.text
    return read_events(answer.content)


def test_a_plan_is_worked_on_by_itself_and_told_step_by_step(town: Town) -> None:
    client = town.client(stream_life_s=60)
    begun = client.post("/plans", json={"goal": "Plant ten oaks by the river.", "asker": "ada", "key": "k"})
    assert (begun.status_code, begun.json()["status"]) == (202, "running")
    plan_id, whose = begun.json()["plan_id"], {"params": {"asker": "ada"}}
    told = steps(client, plan_id, **whose)
    assert (told[0].name, told[-1].name) == ("started", "done")
    assert [event.id for event in told] == [str(number) for number in range(1, len(told) + 1)]
    plan = done(client, plan_id, **whose)
    assert (plan["ended_by"], plan["conclusion"]["advice"]) == ("nobody", "nobody_knows"), "none of them has a memory"
    assert steps(client, plan_id, after="1", **whose) == told[1:]
    seen_all = client.get(f"/plans/{plan_id}/events", headers={"Last-Event-ID": told[-1].id}, **whose)
    assert seen_all.status_code == 204
    again = client.post("/plans", json={"goal": "Plant ten oaks by the river.", "asker": "ada", "key": "k"})
    assert again.json()["plan_id"] == plan_id


def test_a_plan_that_another_process_left_is_taken_up(town: Town) -> None:
    at = datetime.now(UTC)
    left = Plan("left-behind", Order("ada", "Plant ten oaks."), at, "running", PlanState())
    PgPlans(town.stores.tables).begin(left, PlanEvent(1, at, "started", {"proposal_id": None}))
    assert done(town.client(), "left-behind", params={"asker": "ada"})["ended_by"] == "nobody"


def test_a_plan_is_its_askers_and_what_cannot_be_asked_is_refused(town: Town) -> None:
    client, bearer = town.client(tokens=True), town.issuer.bearer
    begun = client.post("/plans", json={"goal": "Oaks.", "key": "mine"}, headers=bearer("ada")).json()
    path = f"/plans/{begun['plan_id']}"
    assert client.get(path, headers=bearer("ada")).status_code == 200
    for asked in (path, f"{path}/events"):
        assert refused(client, "GET", asked, headers=bearer("bo")) == (404, "plan_unknown")
        assert refused(client, "GET", asked, headers=bearer("bo"), params={"asker": "ada"}) == (403, "not_yours")

    def refusal(**body: Any) -> tuple[int, str]:
        return refused(client, "POST", "/plans", json=body, headers=bearer("ada"))

    assert refusal(goal="Elms.", key="mine") == (409, "key_reused")
    assert refusal(goal="") == (422, "goal_empty")
    assert refusal(goal="x" * 2001) == (422, "request_invalid")
    assert refusal(proposal="p-none") == (404, "proposal_unknown")
    assert refusal(goal="Oaks.", asker="bo") == (403, "not_yours")
    assert refused(client, "POST", "/plans", json={"goal": "Oaks."}, headers=bearer("stranger")) == (403, "not_a_member")


@pytest.mark.parametrize("named", ["x", "-1", "9" * 12])
def test_an_id_that_no_step_has_is_refused(named: str) -> None:
    with pytest.raises(UserInputError):
        number_of(named)


def test_a_plan_that_another_process_works_on_is_left_to_it(town: Town) -> None:
    at = datetime.now(UTC)
    plans = PgPlans(town.stores.tables)
    held = Plan("held", Order("ada", "Plant ten oaks."), at, "running", PlanState())
    plans.begin(held, PlanEvent(1, at, "started", {"proposal_id": None}))
    assert plans.lease("ada", "held", "another process", 600)
    client = town.client()
    begun = client.post("/plans", json={"goal": "Plant ten elms.", "asker": "ada"}).json()
    done(client, begun["plan_id"], params={"asker": "ada"})
    assert plans.get("ada", "held").state.number == 0
    plans.leave("ada", "held", "another process")
    assert done(client, "held", params={"asker": "ada"})["ended_by"] == "nobody"


def test_a_plan_that_no_later_try_would_mend_has_failed_and_says_why(town: Town) -> None:
    """It was tried again for ever, and its asker saw it running."""
    at = datetime.now(UTC)
    lost = Plan("lost", Order("ada", "Oaks.", proposal_id="p-gone"), at, "running", PlanState())
    PgPlans(town.stores.tables).begin(lost, PlanEvent(1, at, "started", {"proposal_id": "p-gone"}))
    client, whose = town.client(), {"params": {"asker": "ada"}}
    eventually(lambda: client.get("/plans/lost", **whose).json()["status"] == "failed")
    failure = client.get("/plans/lost", **whose).json()["failure"]
    assert (failure["code"], failure["final"]) == ("proposal_unknown", True)
    told = steps(client, "lost", **whose)
    assert [event.name for event in told] == ["started", "failed"]
    assert client.get("/plans/lost/events", headers={"Last-Event-ID": told[-1].id}, **whose).status_code == 204


def test_what_nobody_foresaw_is_tried_again_and_then_the_plan_has_failed(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime.now(UTC)
    plans = PgPlans(town.stores.tables)
    plans.begin(Plan("odd", Order("ada", "Oaks."), at, "running", PlanState()), PlanEvent(1, at, "started", {}))
    worker = PlanWorker(town.stores, Dao(town.stores.tables, town.stores.settings.dao), lambda: town.llm)

    def breaks(*_: object) -> None:
        raise RuntimeError("told to")

    monkeypatch.setattr(worker, "_work_on", breaks)
    monkeypatch.setattr(dao_plans, "AGAIN_S", 0.0)
    for tries in range(MOST_INTERNAL):
        assert plans.get("ada", "odd").status == "running", tries
        assert worker.work() > 0
    failure = plans.get("ada", "odd").failure
    assert failure is not None
    assert (failure.code, failure.step) == ("internal", "choose")
    assert ("ada", "odd") not in plans.running(1000)


def test_one_asker_has_only_so_many_plans_under_way(town: Town) -> None:
    at = datetime.now(UTC)
    plans, most = PgPlans(town.stores.tables), town.stores.settings.planner.unfinished
    for number in range(most):
        held = Plan(f"held-{number}", Order("bo", "Oaks."), at, "running", PlanState())
        plans.begin(held, PlanEvent(1, at, "started", {"proposal_id": None}))
        assert plans.lease("bo", held.plan_id, "another process", 600)
    client = town.client()
    assert refused(client, "POST", "/plans", json={"goal": "Elms.", "asker": "bo"}) == (429, "plans_busy")
    assert client.post("/plans", json={"goal": "Elms.", "asker": "cy"}).status_code == 202
