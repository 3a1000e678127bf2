"""Whether what failed was made since: by the stages themselves, and not by how a run of them is called.

Belongs here: which stages a failure left unmade, and looking for them in Dagster's tables.
Does not belong here: the letters (`dead_letters.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import dagster as dg
from dagster._core.events import AssetMaterializationPlannedData

from lpm_kernel.L2.announce import STAGE as WEBHOOK
from twin_assets.automation import ON_REQUEST

LAST = "twin_release"
"""The stage behind whose success nothing of the chain is left to mend."""
BESIDE_THE_CHAIN = {WEBHOOK, *ON_REQUEST}
"""What a release does not mend: a message, and what is made on request."""


def is_mended(
    instance: dg.DagsterInstance, stages: Collection[str], user_id: str, since: datetime, *, lost: str | None = None
) -> bool:
    """Whether each of these stages of the user was made since then, or the last of the chain that they are of, but by the run
    that was lost: not all stages lie before the last.

    Why not "a later run has succeeded": one that read somebody's posts mends no training.
    """
    beside = BESIDE_THE_CHAIN.intersection(stages)
    if stages and not beside and _was_made(instance, LAST, user_id, since, not_by=lost):
        return True
    return bool(stages) and all(_was_made(instance, stage, user_id, since) for stage in stages)


def planned_stages(instance: dg.DagsterInstance, run_id: str, user_id: str) -> set[str]:
    """Of this user, what the run was to make."""
    planned: set[str] = set()
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED):
        told = entry.dagster_event.event_specific_data if entry.dagster_event else None
        if isinstance(told, AssetMaterializationPlannedData) and told.partition == user_id:
            planned.add(told.asset_key.path[-1])
    return planned


def _was_made(instance: dg.DagsterInstance, stage: str, user_id: str, since: datetime, *, not_by: str | None = None) -> bool:
    wanted = dg.AssetRecordsFilter(dg.AssetKey([stage]), asset_partitions=[user_id], after_timestamp=since.timestamp())
    found = instance.fetch_materializations(wanted, limit=100).records  # the newest first
    return any(record.run_id != not_by for record in found)
