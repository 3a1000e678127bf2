"""Claims about the DAO: its ledger, and that no vote was forgotten.

Belongs here: checks without a partition, about what all members share.
Does not belong here: repairing a ledger; nothing repairs one.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from lpm_kernel.dao.audit import audit
from lpm_kernel.dao.service import open_dao
from twin_assets.assets import dao
from twin_assets.checks.claim import claim
from twin_assets.resources import StoresResource

OVERDUE = timedelta(minutes=2)
"""By then a vote is to be resolved."""


@claim(dao.dao_resolutions, partitioned=False)
def ledger_is_whole(context: dg.AssetCheckExecutionContext, stores: StoresResource) -> dg.AssetCheckResult:
    """Recomputed from its events the ledger gives the same hashes, states, tallies and resolutions.

    Why it blocks: figures of a broken ledger must not stand on the page of `dao_state` as if they were so.
    """
    report = audit(open_dao(stores.stores))
    return dg.AssetCheckResult(
        passed=report.ok,
        metadata={
            "events": report.events,
            "proposals": report.proposals,
            "resolutions": report.resolutions,
            "broken": list(report.broken),
            **({"decided by other rules": list(report.other_rules)} if report.other_rules else {}),
        },
    )


@claim(dao.dao_resolutions, partitioned=False, blocking=False)
def no_vote_is_overdue(context: dg.AssetCheckExecutionContext, stores: StoresResource) -> dg.AssetCheckResult:
    """After a run nothing is left that was to be done two minutes ago."""
    overdue = open_dao(stores.stores).due(datetime.now(UTC) - OVERDUE)
    return dg.AssetCheckResult(
        passed=not overdue, severity=dg.AssetCheckSeverity.WARN, metadata={"overdue": len(overdue), "proposals": overdue[:20]}
    )
