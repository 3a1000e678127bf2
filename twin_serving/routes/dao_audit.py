"""`GET /audit`: the ledger, counted again from its first event.

Belongs here: transport.
Does not belong here: what is compared (`lpm_kernel/dao/audit.py`).
"""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query

from twin_serving.dao_access import DaoDep, MemberDep
from twin_serving.dao_answers import lines_out
from twin_serving.dao_schemas import MAX_SEQ, AuditAnswer
from twin_serving.deps import ServicesDep
from twin_serving.errors import problems

router = APIRouter()
LINES = 50
MAX_LINES = 500


@router.get("/audit", responses=problems(403), summary="Audit the ledger")
async def audit(
    member: MemberDep,
    services: ServicesDep,
    dao: DaoDep,
    after: Annotated[int, Query(ge=0, le=MAX_SEQ, description="lines of the ledger after this number")] = 0,
    limit: Annotated[int, Query(ge=0, le=MAX_LINES, description="how many lines")] = LINES,
) -> AuditAnswer:
    """Every hash, state, tally and resolution is computed again from the events and compared; `broken` says what differs. An
    answer of the last seconds is given again. `lines` are of the ledger, page by page with `after`."""
    side = services.dao_side
    # one at once, and who waits for it keeps no thread from others
    report, at = await to_thread.run_sync(side.audit, limiter=side.auditing)
    events = await to_thread.run_sync(dao.events_after, after, limit + 1) if limit else []
    lines = lines_out(events[:limit])
    return AuditAnswer(
        ok=report.ok,
        events=report.events,
        proposals=report.proposals,
        resolutions=report.resolutions,
        broken=list(report.broken),
        other_rules=list(report.other_rules),
        at=at,
        lines=lines,
        next_after=lines[-1].seq if len(events) > limit and lines else None,
    )
