"""Claims about Telegram.

Belongs here: checks without a partition, about groups.
Does not belong here: what is done about a group that cannot be read; somebody must let the account in.
"""

import dagster as dg

from lpm_kernel.social.report import GroupLook
from twin_assets.assets import social
from twin_assets.checks.claim import claim


@claim(social.telegram_messages, partitioned=False, blocking=False)
def every_group_can_be_read(context: dg.AssetCheckExecutionContext, telegram_messages: list[GroupLook]) -> dg.AssetCheckResult:
    """The last look read each group that it was to read. A pause that Telegram asked for is no failure."""
    unread = {look.chat: look.reason for look in telegram_messages if look.code and look.code != "telegram_flood"}
    return dg.AssetCheckResult(
        passed=not unread, severity=dg.AssetCheckSeverity.WARN, metadata={"unread": dg.MetadataValue.json(unread)}
    )
