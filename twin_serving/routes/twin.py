"""`GET` and `DELETE /twin/{user_id}`: how a twin stands, and its end.

Belongs here: transport.
Does not belong here: counting (`lpm_kernel/status.py`) and deleting (`lpm_kernel/erase.py`).
"""

from __future__ import annotations

from fastapi import APIRouter

from lpm_kernel.erase import delete_user
from lpm_kernel.errors import TwinError
from lpm_kernel.status import read_status
from twin_serving.data_schemas import StatusAnswer, UserDeletionAnswer, status_out
from twin_serving.deps import Services, ServicesDep

router = APIRouter()


@router.get("/twin/{user_id}")
def status(user_id: str, services: ServicesDep) -> StatusAnswer:
    """Documents by status, what is still to be done of them, what failed for good, the release that serves, and counts."""
    return status_out(read_status(services.stores, user_id))


@router.delete("/twin/{user_id}")
def delete(user_id: str, services: ServicesDep) -> UserDeletionAnswer:
    """Remove the user from every store. Afterwards they are unknown, and an upload under this id begins anew.

    Where a store fails, 503 `deletion_incomplete` names it; the others are empty by then, nobody is answered under this id
    meanwhile, and the next call goes on.
    """
    try:
        done = delete_user(services.stores, user_id, services.adapters)
    except TwinError as error:
        if error.code in ("deletion_incomplete", "lease_lost"):
            _let_go(services, user_id)
        raise  # where it was not even begun nobody's talk is broken off
    _let_go(services, user_id)
    return UserDeletionAnswer(user_id=done.user_id, existed=done.existed, blobs=done.blobs, memories=done.memories)


def _let_go(services: Services, user_id: str) -> None:
    """What was said to them or by their twin is told nobody any more, and their adapter leaves the memory now, and not with the
    next look at all."""
    services.turns.drop(user_id)
    if services.releases is not None:
        services.releases.tell(user_id)
