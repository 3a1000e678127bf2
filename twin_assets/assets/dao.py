"""The DAO: votes that are over, and votes that are open.

Belongs here: the two assets, and their figures for the UI.
Does not belong here: moving votes on (`lpm_kernel/dao`), and when to look for them (`twin_assets/dao_sensor.py`).

One ledger is shared by all members, so neither asset has a partition.
"""

import dagster as dg
from pydantic import Field

from lpm_kernel.artefacts import encode_records
from lpm_kernel.dao.clockwork import turn_clock
from lpm_kernel.dao.report import (
    OPEN_COLUMNS,
    RESOLVED_COLUMNS,
    OpenVote,
    ResolvedVote,
    markdown_table,
    open_row,
    open_vote,
    resolution_figures,
    resolved_row,
    state_figures,
)
from lpm_kernel.dao.resolved import read_resolved, resolved_votes
from lpm_kernel.dao.service import open_dao
from lpm_kernel.records import sha256_hex
from lpm_kernel.stores.dao_projections import GRAPH, stage_of
from lpm_kernel.stores.webhook import open_notice_webhook
from lpm_kernel.sync.lag import list_backlogs
from twin_assets.failures import dagster_failures
from twin_assets.resources import StoresResource
from twin_assets.tables import table
from twin_assets.twin_turns import let_left_twins_vote
from twin_assets.versioned import versioned_output

SAMPLE, SHOWN = 3, 50


class DueVotes(dg.Config):
    """Which votes are known to be due; what else is due by then is done beside them."""

    proposal_ids: list[str] = Field(default_factory=list)


@dg.asset(
    group_name="dao", code_version="1", kinds={"postgres", "s3"}, owners=["team:twin"], io_manager_key="jsonl"
)  # fmt: skip
def dao_resolutions(
    context: dg.AssetExecutionContext, config: DueVotes, stores: StoresResource
) -> dg.Output[list[ResolvedVote]]:
    """Every vote that is over, one row each: outcome, reason, tally, turnout, and how long after the deciding moment it was
    resolved. A run first moves on every vote that is due: it begins, its members are reminded, standing delegations come in, it
    is extended or resolved; and the temporal graph hears of it. Then twins vote whose people let them and that no API has let
    vote. The ledger in PostgreSQL is the truth and this a picture of it. Read by `dao_state` and whoever wants the figures."""
    port = stores.stores
    with dagster_failures(context.retry_number, port.settings.retries):
        dao = open_dao(port)
        webhook = open_notice_webhook(port.settings, breakers=port.breakers)
        hook = (webhook, port.settings.retries) if webhook else None
        turn = turn_clock(dao, port.graph, config.proposal_ids, context.log.info, hook)
        twins = let_left_twins_vote(dao, port, context.log.info)
        before = read_resolved(port.blobs)
        resolved = resolved_votes(dao, before)
        behind = next(backlog for backlog in list_backlogs(port.tables, dao.clock()) if backlog.target == stage_of(GRAPH))
    newest = sorted(resolved, key=lambda vote: vote.resolved_at, reverse=True)
    now_resolved = {resolution.proposal_id for resolution in turn.resolved}
    return versioned_output(
        resolved,
        sha256_hex(encode_records(resolved)),
        {
            **resolution_figures(resolved),
            "due": turn.looked_at,
            "events now": len(turn.happened),
            "resolved now": len(turn.resolved),
            "could not move on": dg.MetadataValue.json(turn.failed),
            "rows read anew": len({vote.proposal_id for vote in resolved} - {vote.proposal_id for vote in before}),
            "events projected": turn.projected,
            "events that the graph lacks": behind.undone,
            "seconds that the graph is behind": round(behind.oldest_s, 1),
            "twins voted now": twins,
            **({"graph is behind": turn.not_projected} if turn.not_projected else {}),
            **({"notices told": turn.noticed} if webhook else {}),
            **({"notices wait": turn.not_noticed} if turn.not_noticed else {}),
            "this run": table(RESOLVED_COLUMNS, [resolved_row(vote) for vote in newest if vote.proposal_id in now_resolved]),
            "sample": dg.MetadataValue.md(markdown_table(RESOLVED_COLUMNS, [resolved_row(vote) for vote in newest[:SAMPLE]])),
        },
    )


@dg.asset(
    group_name="dao", code_version="1", kinds={"postgres", "s3"}, owners=["team:twin"], io_manager_key="jsonl",
    deps=[dao_resolutions],
)  # fmt: skip
def dao_state(context: dg.AssetExecutionContext, stores: StoresResource) -> dg.Output[list[OpenVote]]:
    """Every proposal that has no end yet, one row each: how its vote stands, its turnout, the time left, and whether it stalls.
    Its numbers plot over the runs: one whenever a vote moved on, and one an hour. Read by nobody here: the API asks the
    ledger."""
    port = stores.stores
    with dagster_failures(context.retry_number, port.settings.retries):
        dashboard = open_dao(port).dashboard()
    votes = [open_vote(standing) for standing in dashboard.open]
    # what needs people first: votes that stall, then those that end soonest
    votes.sort(key=lambda vote: (not vote.stalled, vote.status != "voting", vote.time_left_s, vote.proposal_id))
    rows = [open_row(vote) for vote in votes[:SHOWN]]
    return versioned_output(
        votes,
        sha256_hex(encode_records(votes)),
        {
            **state_figures(dashboard),
            "votes": table(OPEN_COLUMNS, rows),
            "sample": dg.MetadataValue.md(markdown_table(OPEN_COLUMNS, rows[:SAMPLE])),
        },
    )
