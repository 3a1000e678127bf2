"""`/twin/{user_id}/releases`: which twin serves, and which might.

Belongs here: transport, and telling others once it is decided.
Does not belong here: what may serve (`lpm_kernel/L2/release.py`).
"""

from __future__ import annotations

import logging
import uuid

from fastapi import APIRouter, BackgroundTasks

from lpm_kernel.L2.announce import announce_release
from lpm_kernel.L2.release import promote_again, roll_back
from lpm_kernel.records import Release, check_user_id
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import list_releases
from lpm_kernel.stores.users import get_user
from lpm_kernel.stores.webhook import open_webhook
from twin_serving.data_schemas import ReleaseItemOut, ReleasesAnswer, release_out
from twin_serving.deps import ServicesDep

router = APIRouter()
log = logging.getLogger(__name__)


@router.get("/twin/{user_id}/releases")
def releases(user_id: str, services: ServicesDep) -> ReleasesAnswer:
    """Every release, the newest first, with what it scored and why it does not serve."""
    check_user_id(user_id)
    with services.stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)
        found = list_releases(connection, user_id)
    return ReleasesAnswer(user_id=user_id, releases=[release_out(release) for release in found])


@router.post("/twin/{user_id}/releases/{release_id}/promote")
def promote(user_id: str, release_id: str, services: ServicesDep, tasks: BackgroundTasks) -> ReleaseItemOut:
    """Let this release serve, whatever its gates said; the first letters of its id are enough. One that knew a deleted
    document, or is not whole any more, cannot.
    """
    stores = services.stores
    _check_known(stores, user_id)
    return _told(stores, promote_again(stores.tables, stores.blobs, stores.vectors, user_id, release_id), tasks)


@router.post("/twin/{user_id}/releases/rollback")
def rollback(user_id: str, services: ServicesDep, tasks: BackgroundTasks) -> ReleaseItemOut:
    """Go back to the newest release that served before the one that serves now."""
    stores = services.stores
    _check_known(stores, user_id)
    return _told(stores, roll_back(stores.tables, stores.blobs, stores.vectors, user_id), tasks)


def _check_known(stores: Stores, user_id: str) -> None:
    check_user_id(user_id)
    with stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)


def _told(stores: Stores, release: Release, tasks: BackgroundTasks) -> ReleaseItemOut:
    """Others are told after the answer: they may be slow, and it is decided already."""
    webhook, by_hand = open_webhook(stores.settings, breakers=stores.breakers), f"by-hand-{uuid.uuid4().hex[:8]}"
    if webhook is not None:
        tasks.add_task(announce_release, stores.tables, webhook, release, stores.settings.retries, by_hand, log.warning)
    return release_out(release)
