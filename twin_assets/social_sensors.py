"""When groups on Telegram are looked at.

Belongs here: the sensor, the jobs of Telegram and X, and the pure decision under the sensor.
Does not belong here: what a look does (`assets/social.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from lpm_kernel.errors import TwinError
from lpm_kernel.settings import Settings
from lpm_kernel.social.telegram_client import telegram_configured
from lpm_kernel.social.telegram_names import names_by_key
from lpm_kernel.social.telegram_turns import pause_of
from lpm_kernel.stores.social_cursors import Cursor, list_cursors
from twin_assets.assets.social import DueGroups
from twin_assets.automation import sensor_status
from twin_assets.resources import StoresResource
from twin_assets.sensors import UNFINISHED

telegram_job = dg.define_asset_job(
    "telegram_job",
    selection=dg.AssetSelection.assets("telegram_messages"),
    description="Looks at the groups on Telegram and makes documents of what users said there.",
)

x_job = dg.define_asset_job(
    "x_job",
    selection=dg.AssetSelection.assets("x_posts"),
    description="Reads what a user posted on X since the last time, and makes documents of it.",
)


@dataclass(frozen=True, slots=True)
class Look:
    """Groups to look at now, by their keys, or why at none."""

    chats: tuple[str, ...]
    reason: str = ""


def decide_look(chats: Sequence[str], held: Mapping[str, Cursor], now: datetime) -> Look:
    """Those of the groups that may be asked, by their keys: an invitation has no place in what is kept of a run. A pause that
    Telegram asked for holds for all of them, since it is the account's, and one that cannot be read rests for itself. `held`:
    cursors by group, also of those that are named no more."""
    pause = pause_of(held.values(), now)
    if pause is not None and pause.not_before is not None:
        return Look((), f"Telegram asked for a pause until {pause.not_before.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
    resting = {cursor.chat for cursor in held.values() if cursor.not_before is not None and cursor.not_before > now}
    keys = names_by_key(chats, chats)
    due = tuple(key for key in keys if key not in resting)
    return Look(due, "" if due else f"none of {len(keys)} groups can be read; each is tried again within the hour")


def build_telegram_poll(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="telegram_poll",
        job=telegram_job,
        minimum_interval_seconds=settings.social.poll_interval_s,
        default_status=sensor_status(settings, "telegram_poll"),
    )
    def telegram_poll(context: dg.SensorEvaluationContext, stores: StoresResource) -> dg.RunRequest | dg.SkipReason:
        """Groups on Telegram, each `social.poll_interval_s`: one run for all that may be asked. Without groups or keys it does
        nothing; what is stored and cannot be read is a skip, never "nothing was said"."""
        if lacks := telegram_configured(settings):
            return dg.SkipReason(f"Telegram is not read: {lacks}")
        return ask_for_look(context.instance, stores, settings, datetime.now(UTC))

    return telegram_poll


def ask_for_look(
    instance: dg.DagsterInstance, stores: StoresResource, settings: Settings, now: datetime
) -> dg.RunRequest | dg.SkipReason:
    """A run, unless one is under way: two that read one group would read it twice."""
    try:
        with stores.stores.tables.operator_transaction() as connection:
            held = {cursor.chat: cursor for cursor in list_cursors(connection, "telegram")}
    except TwinError as error:
        return dg.SkipReason(f"how far groups were read cannot be read: {error}")
    look = decide_look(settings.social.telegram_chats, held, now)
    if not look.chats:
        return dg.SkipReason(look.reason)
    if instance.get_runs_count(dg.RunsFilter(job_name=telegram_job.name, statuses=UNFINISHED)):
        return dg.SkipReason("the run of the last look is not over")
    return dg.RunRequest(
        run_key=f"telegram-{int(now.timestamp() // settings.social.poll_interval_s)}",
        run_config=dg.RunConfig(ops={"telegram_messages": DueGroups(chats=list(look.chats))}),
    )
