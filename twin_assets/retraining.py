"""Weekly retraining: whoever has enough new to learn is trained again.

Belongs here: the schedule, its job, the pure decision, and counting what is new since the live release.
Does not belong here: training on request (`retrain.py`), and what a change of documents carries on (`automation.py`).

Documents move down the graph by themselves while `automation` is on. This is for whoever switches that off, so that weights are
made once a week and not with each upload, and for ratings, which nothing else carries on: they reach `dpo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from lpm_kernel.automation_settings import RetrainAfter
from lpm_kernel.errors import TwinError
from lpm_kernel.settings import Settings
from lpm_kernel.stores.calibration import list_pairs
from lpm_kernel.stores.documents import list_documents
from lpm_kernel.stores.feedback import list_rated
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import live_release
from twin_assets.automation import WHOLE_CHAIN, schedule_status
from twin_assets.jobs import CHAIN
from twin_assets.partitions import PARTITION_TAG, users
from twin_assets.resources import StoresResource
from twin_assets.sensors import UNFINISHED

WEEKLY = "30 1 * * 0"
WEEK_TAG = "twin/retrain-week"

retraining_job = dg.define_asset_job(
    "retraining_job",
    selection=CHAIN | dg.AssetSelection.assets("dpo"),
    tags=WHOLE_CHAIN,
    description="From a user's documents to their live release, every stage once, and what their ratings teach.",
)


@dataclass(frozen=True, slots=True)
class NewMemory:
    """What a user has that their live release was not made from, and whether a run of theirs keeps them from being trained."""

    user_id: str
    documents: int
    ratings: int
    memories: int
    done_or_busy: bool = False
    """Asked for this week already, or a run of theirs is queued or under way."""


def decide_retraining(found: Sequence[NewMemory], enough: RetrainAfter, week: str) -> tuple[tuple[str, str], ...]:
    """Whom to train now: (user id, run key). Enough of one kind is enough; a user is asked for once a week."""

    def is_enough(count: int, wanted: int) -> bool:
        return wanted > 0 and count >= wanted

    return tuple(
        (item.user_id, f"retrain-{item.user_id}-{week}")
        for item in found
        if not item.done_or_busy
        and (
            is_enough(item.documents, enough.documents)
            or is_enough(item.ratings, enough.ratings)
            or is_enough(item.memories, enough.memories)
        )
    )


def week_of(now: datetime) -> str:
    year, week, _ = now.astimezone(UTC).isocalendar()
    return f"{year}-w{week:02d}"


def count_new(stores: Stores, user_id: str, enough: RetrainAfter, now: datetime) -> NewMemory | None:
    """None where nothing serves yet: a first twin is built by the automation, and needs no second time.

    Memories are counted only where they are asked for: it means to read them all. Raises: StoreError.
    """
    with stores.tables.transaction(user_id) as connection:
        live = live_release(connection, user_id)
        if live is None:
            return None
        built = set(live.documents or ())
        documents = [item for item in list_documents(connection, user_id) if item.status == "read"]
        rated = [item.created_at for item in list_rated(connection, user_id)]
        picked = [pair.picked_at for pair in list_pairs(connection, user_id) if pair.picked_at is not None]
    fresh = [item for item in documents if item.sha256 not in built and (built or item.created_at > live.created_at)]
    ratings = [at for at in (*rated, *picked) if at > live.created_at]
    memories = 0
    if enough.memories:
        held = stores.memories.current(user_id, as_of=now)
        memories = sum(memory.created_at > live.created_at for memory in held)
    return NewMemory(user_id, len(fresh), len(ratings), memories)


def build_weekly_retraining(settings: Settings) -> dg.ScheduleDefinition:
    @dg.schedule(
        name="weekly_retraining",
        job=retraining_job,
        cron_schedule=WEEKLY,
        execution_timezone="UTC",
        default_status=schedule_status(settings, "weekly_retraining"),
    )
    def weekly_retraining(context: dg.ScheduleEvaluationContext, stores: StoresResource) -> list[dg.RunRequest] | dg.SkipReason:
        """Users with enough that their twin has not learned (`automation.retrain_after`) are trained in the night to Sunday."""
        return ask_for_retraining(context.instance, stores.stores, settings.automation.retrain_after, datetime.now(UTC))

    return weekly_retraining


def ask_for_retraining(
    instance: dg.DagsterInstance, stores: Stores, enough: RetrainAfter, now: datetime
) -> list[dg.RunRequest] | dg.SkipReason:
    """A run for each of them. A store that cannot be read is a skip, never "nothing is new"; a record that cannot be read is
    its user's alone."""
    week, found, unread = week_of(now), list[NewMemory](), dict[str, str]()
    user_ids = instance.get_dynamic_partitions(users.name or "")
    for user_id in sorted(user_ids):
        try:
            new = count_new(stores, user_id, enough, now)
        except TwinError as error:
            if error.retryable:  # a store is away, and would be asked in vain once for each user
                return dg.SkipReason(f"what is new cannot be read: {error}")
            unread[user_id] = error.code  # a record of theirs, which keeps nobody else from being trained
            continue
        if new is not None:
            of_user = {PARTITION_TAG: user_id}
            asked = instance.get_runs_count(dg.RunsFilter(tags={**of_user, WEEK_TAG: week}))
            busy = instance.get_runs_count(dg.RunsFilter(tags=of_user, statuses=UNFINISHED))
            counts = new.documents, new.ratings, new.memories
            found.append(NewMemory(user_id, *counts, done_or_busy=bool(asked or busy)))
    wanted = decide_retraining(found, enough, week)
    if not wanted:
        told = f"none of {len(user_ids)} users has enough new memory"
        return dg.SkipReason(f"{told}; unreadable: {unread}" if unread else told)
    return [dg.RunRequest(run_key=key, partition_key=user_id, tags={WEEK_TAG: week}) for user_id, key in wanted]
