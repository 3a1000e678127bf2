"""Partitions that stayed behind: an hourly look at what of each user was not made, or not anew.

Belongs here: the schedule, its job, the pure decision, and reading Dagster's record of what was made from what.
Does not belong here: making it (`sensors.py`: what can be taken up again is), and dead letters (`dead_letters.py`).

Automation asks for a stage once. Where its run failed, or a sensor was off that would have asked, nothing says so by itself.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import dagster as dg

from lpm_kernel.alerts import Alert, open_alerts
from lpm_kernel.records import sha256_hex
from lpm_kernel.settings import Settings
from twin_assets.automation import ON_REQUEST, schedule_status
from twin_assets.partitions import PARTITION_TAG, users
from twin_assets.resources import StoresResource
from twin_assets.sensors import UNFINISHED
from twin_assets.tables import table

HOURLY = "37 * * * *"
DAILY_S = 86_400
TOLD_TAG = "twin/told"
"""On a run that has told somebody: of which set."""
SHOWN = 200
VERSION_TAG = "dagster/data_version"
MADE_FROM_TAG = "dagster/input_data_version/"
"""Dagster keeps the sha256 of the versions of the partitions that were read, which here is one."""
AT_ONCE = 500
"""Events that are read by one question."""
Why = Literal["failed", "missing", "behind"]


@dataclass(frozen=True, slots=True)
class Made:
    """The last materialization of one partition: its content, and the contents that it was made from."""

    version: str | None
    made_from: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Lagging:
    """`failed`: its last run failed. `missing`: what it is made from is there. `behind`: that has changed since."""

    user_id: str
    asset: str
    why: Why


@dataclass(frozen=True, slots=True)
class Chain:
    """What Dagster has on record of the users' stages."""

    upstream: Mapping[str, Collection[str]]
    made: Mapping[tuple[str, str], Made]
    """By user and asset."""
    failed: Collection[tuple[str, str]]
    busy: Collection[str]
    """Users of whom a run is queued or under way: of them nothing can be said yet."""


def find_lagging(chain: Chain, user_ids: Sequence[str]) -> list[Lagging]:
    """What should be otherwise, by user and in the order of the stages. A stage behind one that lags is not told of: it waits
    for that one."""
    found: list[Lagging] = []
    for user_id in user_ids:
        if user_id in chain.busy:
            continue
        told: set[str] = set()
        for asset, parents in chain.upstream.items():
            if told & set(parents):
                told.add(asset)
            elif (why := _why(chain, user_id, asset, parents)) is not None:
                told.add(asset)
                found.append(Lagging(user_id, asset, why))
    return found


def _why(chain: Chain, user_id: str, asset: str, parents: Collection[str]) -> Why | None:
    if (user_id, asset) in chain.failed:
        return "failed"
    made = chain.made.get((user_id, asset))
    sources = {parent: chain.made.get((user_id, parent)) for parent in parents}
    if made is None:
        return "missing" if sources and all(sources.values()) else None
    changed = (
        source is not None and parent in made.made_from and source.version not in (None, made.made_from[parent])
        for parent, source in sources.items()
    )
    return "behind" if any(changed) else None


def upstream_of(assets: Sequence[object]) -> dict[str, tuple[str, ...]]:
    """Each stage of a user's chain with the stages it is made from, those before it first."""
    parents: dict[str, set[str]] = {}
    for asset in assets:
        if isinstance(asset, dg.AssetsDefinition) and asset.partitions_def is not None:
            for key, of in asset.asset_deps.items():
                parents[key.to_user_string()] = {parent.to_user_string() for parent in of}
    chain = {name: of for name, of in parents.items() if name not in ON_REQUEST}
    ordered: dict[str, tuple[str, ...]] = {}
    while len(ordered) < len(chain):
        ready = sorted(n for n, of in chain.items() if n not in ordered and all(p in ordered for p in of if p in chain))
        if not ready:
            raise ValueError("the stages are no chain")
        ordered |= {name: tuple(sorted(parent for parent in chain[name] if parent in chain)) for name in ready}
    return ordered


def read_chain(instance: dg.DagsterInstance, upstream: Mapping[str, Collection[str]], user_ids: Sequence[str]) -> Chain:
    """Three questions an asset, and one more for each five hundred users."""
    storage = instance.event_log_storage
    made: dict[tuple[str, str], Made] = {}
    failed: set[tuple[str, str]] = set()
    for asset, parents in upstream.items():
        key = dg.AssetKey([asset])
        newest = storage.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION)
        for user_id, of in _tags_of(instance, key, sorted(newest.values())).items():
            sources = {parent: of[MADE_FROM_TAG + parent] for parent in parents if MADE_FROM_TAG + parent in of}
            version = of.get(VERSION_TAG)
            made[user_id, asset] = Made(version and sha256_hex(version.encode()), sources)
        statuses = instance.get_status_by_partition(key, list(user_ids), users) or {}
        failed |= {(user_id, asset) for user_id, status in statuses.items() if status is not None and status.name == "FAILED"}
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    return Chain(upstream, made, failed, {run.tags.get(PARTITION_TAG, "") for run in runs})


def _tags_of(instance: dg.DagsterInstance, key: dg.AssetKey, events: Sequence[int]) -> dict[str, Mapping[str, str]]:
    """Tags of these materializations, by partition. Why from the events: Dagster finds no such tag by partition."""
    found: dict[str, Mapping[str, str]] = {}
    for first in range(0, len(events), AT_ONCE):
        these = dg.AssetRecordsFilter(asset_key=key, storage_ids=events[first : first + AT_ONCE])
        for record in instance.fetch_materializations(these, limit=AT_ONCE).records:
            made = record.asset_materialization
            if made is not None and made.partition is not None:
                found[made.partition] = made.tags or {}
    return found


def build_failed_partitions(settings: Settings, assets: Sequence[object]) -> tuple[dg.JobDefinition, dg.ScheduleDefinition]:
    """The job that looks, and the schedule that lets it."""
    upstream = upstream_of(assets)

    @dg.op
    def look_for_failed_partitions(context: dg.OpExecutionContext, stores: StoresResource) -> None:
        """Each user's stages that failed, are missing, or are older than what they are made from: a table on this run, a mark
        on the page of each such asset, and one alert a day for the same set."""
        user_ids = sorted(context.instance.get_dynamic_partitions(users.name or ""))
        lagging = find_lagging(read_chain(context.instance, upstream, user_ids), user_ids)
        rows = [(item.user_id, item.asset, item.why) for item in lagging]
        for item in lagging[:SHOWN]:
            context.log_event(
                dg.AssetObservation(
                    item.asset, partition=item.user_id, description="It stayed behind.", metadata={"lags": item.why}
                )
            )
        context.add_output_metadata(
            {
                "users": len(user_ids),
                **{why: sum(item.why == why for item in lagging) for why in ("failed", "missing", "behind")},
                "partitions": table(("user", "asset", "why"), rows[:SHOWN]),
            }
        )
        if lagging:
            alert = alert_of(lagging, context.run.run_id)
            alerts = open_alerts(settings, breakers=stores.stores.breakers)
            if not told_lately(context.instance, alert.subject, alert.at) and alerts.tell(alert, DAILY_S):
                context.instance.add_run_tags(context.run.run_id, {TOLD_TAG: alert.subject})

    @dg.job(name="failed_partitions_job", description="Looks which users' stages failed, are missing, or stayed behind.")
    def failed_partitions_job() -> None:
        look_for_failed_partitions()

    schedule = dg.ScheduleDefinition(
        name="failed_partitions",
        job=failed_partitions_job,
        cron_schedule=HOURLY,
        execution_timezone="UTC",
        default_status=schedule_status(settings, "failed_partitions"),
    )
    return failed_partitions_job, schedule


def told_lately(instance: dg.DagsterInstance, subject: str, now: datetime) -> bool:
    """Whether a run of the last day has told of the same set.

    Why from the runs: each is a process of its own, and without Redis none knows what another has said.
    """
    since = now - timedelta(seconds=DAILY_S)
    return instance.get_runs_count(dg.RunsFilter(tags={TOLD_TAG: subject}, created_after=since)) > 0


def alert_of(lagging: Sequence[Lagging], run_id: str) -> Alert:
    """One for all of them; the same set is the same alert."""
    named = sha256_hex(repr([(item.user_id, item.asset, item.why) for item in lagging]).encode())[:12]
    worst = next((why for why in ("failed", "missing", "behind") if any(item.why == why for item in lagging)), "behind")
    now = datetime.now(UTC)
    return Alert("partitions_behind", named, "failed_partitions", "SYNC_ERROR", worst, now, run_id, len(lagging))
