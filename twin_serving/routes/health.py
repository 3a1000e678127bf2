"""`GET /healthz`: whether this process can reach what it needs.

Belongs here: cheap questions to each store.
Does not belong here: starting or repairing anything.
"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from lpm_kernel.errors import StoreError
from twin_serving.deps import Services, ServicesDep

router = APIRouter()


@router.get("/healthz")
def healthz(services: ServicesDep) -> JSONResponse:
    """200 when every store answers, else 503; the body names each."""
    found = {"tables": _tables(services), "blobs": _blobs(services)}
    healthy = all(state == "ok" for state in found.values())
    return JSONResponse({"status": "ok" if healthy else "unavailable", **found}, 200 if healthy else 503)


def _tables(services: Services) -> str:
    try:
        with services.stores.tables.operator_transaction():
            return "ok"
    except StoreError as error:
        return error.code


def _blobs(services: Services) -> str:
    try:
        services.stores.blobs.check()
        return "ok"
    except StoreError as error:
        return error.code
