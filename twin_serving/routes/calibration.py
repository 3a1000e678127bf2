"""`/twin/{user_id}/calibration`: pairs of answers in blind order, and what the person takes of them.

Belongs here: showing pairs, keeping picks, and the counts.
Does not belong here: making the answers (`lpm_kernel/calibrate.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import anyio
from anyio import to_thread
from fastapi import APIRouter

from lpm_kernel.calibrate import begin_calibration, count_picks
from lpm_kernel.records import check_user_id
from lpm_kernel.stores.calibration import CalibrationPair, keep_pick, list_pairs
from lpm_kernel.stores.users import get_user
from twin_serving.deps import Services, ServicesDep
from twin_serving.feedback_schemas import (
    CalibrationAnswer,
    CalibrationSummary,
    PairOut,
    PickRequest,
    pair_out,
    pick_count_out,
)

router = APIRouter()


@router.post("/twin/{user_id}/calibration")
async def begin(user_id: str, services: ServicesDep) -> CalibrationAnswer:
    """A few questions with two answers each, one of them the twin's; while pairs of the live release are open, those again."""
    check_user_id(user_id)
    # a thread of its own, as chats have: it waits for the engine
    pairs = await to_thread.run_sync(_begin, services, user_id, limiter=anyio.CapacityLimiter(1))
    return CalibrationAnswer(pairs=[pair_out(pair) for pair in pairs])


@router.post("/twin/{user_id}/calibration/{pair_id}")
def pick(user_id: str, pair_id: str, request: PickRequest, services: ServicesDep) -> PairOut:
    """Take the answer the person would have given, or neither. The newest pick of a pair stands."""
    check_user_id(user_id)
    with services.stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)
        return pair_out(keep_pick(connection, user_id, pair_id, request.pick, datetime.now(UTC)))


@router.get("/twin/{user_id}/calibration")
def calibration(user_id: str, services: ServicesDep) -> CalibrationSummary:
    """Pairs that wait for a pick, and by release how often the twin was preferred to the base."""
    check_user_id(user_id)
    with services.stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)
        pairs = list_pairs(connection, user_id)
    return CalibrationSummary(
        open=[pair_out(pair) for pair in pairs if pair.pick is None],
        counts=[pick_count_out(count) for count in count_picks(pairs)],
    )


def _begin(services: Services, user_id: str) -> list[CalibrationPair]:
    begin_now = partial(begin_calibration, services.stores, services.llm, user_id, services.adapters)
    return begin_now(now=datetime.now(UTC))
