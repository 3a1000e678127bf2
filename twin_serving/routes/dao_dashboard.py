"""`GET /dao/state` and `GET /dao/stream`: the dashboard, once and as it changes.

Belongs here: transport.
Does not belong here: reading the ledger for all who listen (`twin_serving/dao_stream.py`).
"""

from __future__ import annotations

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Request, Response

from twin_serving.dao_access import DaoDep, MemberDep
from twin_serving.dao_answers import dashboard_out
from twin_serving.dao_schemas import DashboardOut
from twin_serving.dao_stream import HeardResponse, dashboard_events, seq_of
from twin_serving.deps import ServicesDep
from twin_serving.errors import problems

router = APIRouter()
_EVENT = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("data", "event", "id")},
    "required": ["data"],
}
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": _EVENT}}, "description": "Events, as they come; `data` is JSON."}
}


@router.get("/dao/state", responses=problems(403), summary="The dashboard")
def state(member: MemberDep, dao: DaoDep) -> DashboardOut:
    """What is open and how it stands, the newest resolutions, how many members there are."""
    return dashboard_out(dao.dashboard())


@router.get(
    "/dao/stream",
    response_class=Response,
    responses={**STREAM, **problems(403)},
    summary="The dashboard as it changes",
)
async def stream(
    request: Request, member: MemberDep, services: ServicesDep, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """`state`, as `GET /dao/state` says it, and then a `change` for what happens: lines of the ledger, how the votes that they
    are about stand now, and new resolutions. The id of an event is a number of the ledger: who comes back with `Last-Event-ID`
    hears one `change` with all that they missed, or, where that is too much, the `state`. A comment every 15 seconds shows that
    the stream lives; it ends after `dao.stream_life_s` and with the server.
    """
    feed, seq = services.dao_side.feed, seq_of(last_event_id)
    with feed.heard():
        begin, number = await feed.state()
        if seq is not None and (since := await to_thread.run_sync(feed.since, seq)) is not None:
            begin, number = since
    life_s, stop = services.stores.settings.dao.stream_life_s, request.app.state.stop
    return HeardResponse(dashboard_events(feed, begin, number, life_s, lambda: stop.begun), feed.heard)
