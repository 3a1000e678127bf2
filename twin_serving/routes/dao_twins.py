"""`/twin/{user_id}/consent`, `/ballots` and `/alignment`: what a twin may do in a vote, what it does, and how well that fits.

Belongs here: transport.
Does not belong here: making up its mind and obeying consent (`lpm_kernel/dao/twin_ballots.py`).
"""

from __future__ import annotations

import anyio
from anyio import to_thread
from fastapi import APIRouter

from lpm_kernel.dao.alignment import measure_alignment
from lpm_kernel.dao.twin_ballots import TwinBallot, cast_twin_ballot
from lpm_kernel.records import check_user_id
from lpm_kernel.stores.dao_consent import get_consent, set_consent
from lpm_kernel.stores.users import get_user
from twin_serving.dao_access import DaoDep
from twin_serving.dao_twin_schemas import (
    AlignmentOut,
    ConsentForm,
    ConsentOut,
    TwinBallotOut,
    TwinBallotRequest,
    alignment_out,
    consent_of,
    consent_out,
    twin_ballot_out,
)
from twin_serving.deps import Services, ServicesDep
from twin_serving.errors import problems

router = APIRouter()


@router.get("/twin/{user_id}/consent", summary="What a twin may do in a vote")
def consent(user_id: str, services: ServicesDep) -> ConsentOut:
    """What the person lets their twin do in a vote; drafts alone, where they have said nothing."""
    check_user_id(user_id)
    with services.stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)
        return consent_out(get_consent(connection, user_id))


@router.put("/twin/{user_id}/consent", summary="Say what a twin may do in a vote")
def change_consent(user_id: str, request: ConsentForm, services: ServicesDep, dao: DaoDep) -> ConsentOut:
    """The whole of it, in place of what was said before. It holds for ballots that are cast from now on; what the twin has cast
    is taken back by `POST /proposals/{proposal_id}/veto`, or by voting."""
    check_user_id(user_id)
    with services.stores.tables.transaction(user_id) as connection:
        return consent_out(set_consent(connection, consent_of(user_id, request), dao.clock()))


@router.post("/twin/{user_id}/ballots", responses=problems(403), summary="Let a twin vote")
async def let_vote(user_id: str, request: TwinBallotRequest, services: ServicesDep) -> TwinBallotOut:
    """The twin weighs its person's memory, and casts, drafts or abstains as their consent says; `stance` tells what it rests
    on. A twin that has cast, and one whose person has voted, does nothing more."""
    check_user_id(user_id)
    # a thread of its own, as chats have: it waits for the engine
    found = await to_thread.run_sync(_vote, services, user_id, request.proposal, limiter=anyio.CapacityLimiter(1))
    return twin_ballot_out(found)


@router.get("/twin/{user_id}/alignment", responses=problems(403), summary="How well a twin's votes fit")
def alignment(user_id: str, services: ServicesDep, dao: DaoDep) -> AlignmentOut:
    """How often the twin chose as its person did, over all votes in which both have chosen."""
    check_user_id(user_id)
    with services.stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)
    return alignment_out(user_id, measure_alignment(dao, services.stores.tables, [user_id]).overall)


def _vote(services: Services, user_id: str, proposal_id: str) -> TwinBallot:
    side = services.dao_side
    with services.stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)
    side.dao.proposal(proposal_id)  # before a model is waited for
    found = cast_twin_ballot(side.dao, services.stores, services.llm, user_id, proposal_id)
    if found.cast is not None:
        side.count(found.cast)
    return found
