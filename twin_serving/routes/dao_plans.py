"""`/plans`: having other twins consulted on a goal or a proposal, and how far that is.

Belongs here: transport, and who may do it.
Does not belong here: working on a plan (`twin_serving/dao_plans.py`) and its steps (`lpm_kernel/dao/planner`).
"""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response

from lpm_kernel.dao.planner.records import Order
from twin_serving.auth import PrincipalDep
from twin_serving.dao_access import KeyHeader, actor_of, key_of
from twin_serving.dao_plan_schemas import PlanAnswer, PlanRequest, plan_out
from twin_serving.dao_plans import number_of, plan_events
from twin_serving.dao_schemas import Member
from twin_serving.dao_stream import HeardResponse
from twin_serving.deps import ServicesDep
from twin_serving.errors import problems
from twin_serving.routes.dao_dashboard import STREAM

router = APIRouter()
Asker = Annotated[Member | None, Query(description="whose plan it is, where the token does not say")]


@router.post("/plans", status_code=202, responses=problems(403, 404, 409, 429), summary="Consult other twins")
def begin(request: PlanRequest, principal: PrincipalDep, services: ServicesDep, key: KeyHeader = None) -> PlanAnswer:
    """Begin a plan. Twins that know of the goal, or of the proposal, are asked in rounds of statement, critique and revision
    within the budget of `planner`; it ends in advice, or in a proposal or tasks where the asker allows it. No ballot is cast by
    it. It goes on by itself: `GET /plans/{plan_id}` says how far it is, `GET /plans/{plan_id}/events` tells its steps."""
    from lpm_kernel.dao.planner.run import start_plan

    asker, plans = actor_of(principal, request.asker), services.dao_side.plans
    order = Order(
        asker,
        request.goal,
        proposal_id=request.proposal,
        topic=request.topic,
        may_propose=request.may_propose,
        may_assign=request.may_assign,
    )
    plan = start_plan(plans.desk(), order, key=key_of(key, request.key))
    plans.wake()
    return plan_out(plan)


@router.get("/plans/{plan_id}", responses=problems(403), summary="How far a plan is")
def plan(plan_id: str, principal: PrincipalDep, services: ServicesDep, asker: Asker = None) -> PlanAnswer:
    """Who was consulted and why, how each stands and what it rests on, each round's judgement, and the conclusion. A plan is
    its asker's alone."""
    whose, plans = actor_of(principal, asker), services.dao_side.plans
    found = plans.plans.get(whose, plan_id)
    return plan_out(found, plans.plans.lines(whose, plan_id), plans.failure(plan_id))


@router.get(
    "/plans/{plan_id}/events",
    response_class=Response,
    responses={**STREAM, 204: {"description": "it is done, and every event has been seen"}, **problems(403)},
    summary="Hear a plan's steps",
)
async def events(
    plan_id: str,
    request: Request,
    principal: PrincipalDep,
    services: ServicesDep,
    asker: Asker = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """The steps of a plan as they are stored, after `Last-Event-ID` where it is given, until `done` or `failed`. They hold ids
    and numbers and no words of anybody's memory."""
    whose, number = actor_of(principal, asker), number_of(last_event_id)
    plans, stop = services.dao_side.plans.plans, request.app.state.stop
    found = await to_thread.run_sync(plans.get, whose, plan_id)
    if found.status != "running" and not await to_thread.run_sync(plans.events_after, whose, plan_id, number):
        return Response(status_code=204)
    life_s = services.stores.settings.dao.stream_life_s
    heard = plan_events(plans, whose, plan_id, number, life_s, lambda: stop.begun)
    return HeardResponse(heard, services.dao_side.listeners.one_more)
