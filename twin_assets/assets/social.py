"""Telegram and X: what was read there in one run.

Belongs here: the two assets, and their figures for the UI.
Does not belong here: reading and storing (`lpm_kernel/social`), and when groups are looked at (`social_sensors.py`).

A group belongs to no user, so `telegram_messages` has no partition. The documents that come of it wait for `users_sensor`.
"""

from contextlib import closing
from datetime import UTC, datetime

import dagster as dg
from pydantic import Field

from lpm_kernel.L2.engine import adapter_folder
from lpm_kernel.records import content_id
from lpm_kernel.social.documents import make_every_document
from lpm_kernel.social.report import COLUMNS, NAMED, GroupLook, count_figures, group_look, look_row, made_figures, total
from lpm_kernel.social.telegram import look_at_groups
from lpm_kernel.social.telegram_client import open_telegram
from lpm_kernel.social.x import import_x
from lpm_kernel.social.x_client import open_x
from twin_assets.failures import dagster_failures
from twin_assets.resources import StoresResource
from twin_assets.stages import Made, stage
from twin_assets.tables import table


class DueGroups(dg.Config):
    """Which groups to look at, by their names, or by the keys of those in the settings; none named: all of the settings. What
    stands here is kept with the run, so an invitation belongs in the settings."""

    chats: list[str] = Field(default_factory=list)


@dg.asset(
    group_name="social", code_version="1", kinds={"telegram", "postgres"}, owners=["team:twin"], io_manager_key="jsonl"
)  # fmt: skip
def telegram_messages(
    context: dg.AssetExecutionContext, config: DueGroups, stores: StoresResource
) -> dg.Output[list[GroupLook]]:
    """One row a group that was looked at: how many messages of known accounts were new, edited or deleted, what was passed
    over, and why a group could not be read. The messages themselves lie in PostgreSQL; each user's days become documents, which
    `raw_documents` takes up like uploads. Read by nobody here; its numbers plot over the looks."""
    port = stores.stores
    with dagster_failures(context.retry_number, port.settings.retries):
        now = datetime.now(UTC)
        chats = config.chats or list(port.settings.social.telegram_chats)
        polls = look_at_groups(
            port.tables, lambda: open_telegram(port.settings, breakers=port.breakers), port.settings.social, chats, now
        )
        made, failed = make_every_document(port, adapter_folder(), now)
    looks = [group_look(poll) for poll in polls]
    counts = total(polls)
    return dg.Output(
        looks,
        metadata={
            **count_figures(counts),
            **made_figures(made),
            "accounts of nobody": dg.MetadataValue.json(dict(counts.of_others.most_common(NAMED))),
            "groups that cannot be read": dg.MetadataValue.json({look.chat: look.reason for look in looks if look.code}),
            "users left out": dg.MetadataValue.json(failed),
            "refused because": dg.MetadataValue.json(made.refused),
            "looks": table(COLUMNS, [look_row(look) for look in looks]),
        },
    )


@stage(group="social", io_manager_key="json", code_version="1", kinds={"x", "postgres"}, automatic=False)
def x_posts(context: dg.AssetExecutionContext, stores: StoresResource) -> Made:
    """What a user's accounts on X posted since the last time, in figures: one run reads all there is, page by page, as far as X
    lets it. The posts lie in PostgreSQL; each day and thread becomes a document, which `raw_documents` takes up like an upload.
    Made only when somebody asks."""
    port = stores.stores
    with closing(open_x(port.settings, breakers=port.breakers)) as reader:
        done = import_x(port, context.partition_key, reader, adapter_folder(), datetime.now(UTC))
    figures = {**count_figures(done.counts), **made_figures(done.made), "accounts": done.accounts, "pages": done.pages}
    pause = done.not_before.isoformat() if done.not_before else ""
    told = {"x_asks_to_wait_until": pause, "accounts that cannot be read": dg.MetadataValue.json(done.failed)}
    return Made(figures, metadata={**figures, **told}, version=content_id(str(sorted(figures.items()))))
