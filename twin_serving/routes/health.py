"""`GET /healthz`, `/readyz`, `/metrics`: for whoever watches this process.

Belongs here: what watchers ask, each answered within a few seconds whatever is down.
Does not belong here: starting or repairing anything.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from twin_serving.deps import ServicesDep
from twin_serving.metrics import CONTENT_TYPE
from twin_serving.probes import OK

router = APIRouter()
NEEDED = ("tables", "blobs", "vectors", "model")
"""Without these no twin answers, or nobody can upload; without the others answers are poorer, and say so."""


class HealthAnswer(BaseModel):
    status: str


class ReadyAnswer(BaseModel):
    """`status` is `ready`; `degraded`, when a store is away that answers can do without; `not_ready`; or `stopping`."""

    status: str
    model: str
    """`ok`, `loading`, `unloaded`, or the code of what keeps it from being loaded."""
    stores: dict[str, str]
    """`ok`, `silent`, or the code of the error."""
    circuits: dict[str, str]
    """Dependencies whose circuit is not closed: `open`, nobody asks them for a while; `half_open`, one caller may."""


@router.get("/healthz", summary="Whether this process lives")
async def healthz() -> HealthAnswer:
    """200 whenever this process lives; asks nothing of anybody. A supervisor restarts what does not answer here."""
    return HealthAnswer(status="ok")


@router.get(
    "/readyz",
    summary="Whether twins can answer",
    response_model=ReadyAnswer,
    responses={503: {"model": ReadyAnswer, "description": "Send nobody here yet, or any more"}},
)
def readyz(request: Request, services: ServicesDep) -> Response:
    """200 when twins can answer: the base model is loaded and the stores they need answer; else 503. The body names each."""
    stores = request.app.state.probes.states()
    states = {**stores, "model": services.model_state}
    away = [name for name, state in states.items() if state != OK]
    if request.app.state.stop.begun:
        status = "stopping"
    elif any(name in NEEDED for name in away):
        status = "not_ready"
    else:
        status = "degraded" if away else "ready"
    answer = ReadyAnswer(status=status, model=states["model"], stores=stores, circuits=services.circuits_open())
    return JSONResponse(answer.model_dump(), 200 if status in ("ready", "degraded") else 503)


@router.get(
    "/metrics", summary="Figures of this process", response_class=Response, responses={200: {"content": {CONTENT_TYPE: {}}}}
)
def metrics(request: Request) -> Response:
    """Figures of this process in Prometheus' text form."""
    return Response(request.app.state.metrics.render(), media_type=CONTENT_TYPE)
