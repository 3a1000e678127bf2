"""The DAO's clock in Dagster: votes that are due, and the hour at which the whole ledger is looked through.

Belongs here: the sensor, the schedule, their job, and the pure decision under the sensor.
Does not belong here: what a vote does when it is due (`lpm_kernel/dao`); the assets (`assets/dao.py`).

The API resolves a vote at the ballot that decides it and looks for due votes by itself. This is what resolves them where no API
runs, within `dao.sensor_interval_s` and the start of a run.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import dagster as dg

from lpm_kernel.alerts import Alert, open_alerts
from lpm_kernel.dao.service import Dao, open_dao
from lpm_kernel.errors import TwinError, VoteError
from lpm_kernel.settings import Settings
from lpm_kernel.stores.addresses import connection_environment
from lpm_kernel.stores.dao_ledger import list_proposals
from lpm_kernel.stores.once import Once
from lpm_kernel.stores.open import Stores
from twin_assets.assets.dao import DueVotes
from twin_assets.automation import schedule_status, sensor_status
from twin_assets.resources import StoresResource

STEP_TAG = "twin/dao-step"
"""On a run: the step of the vote that it was asked for."""
LONGEST_REST_S = 3600.0
AT_ONCE = 20
"""Votes that one tick looks at; the run does the others that are due as well."""
HOURLY = "7 * * * *"

dao_job = dg.define_asset_job(
    "dao_job",
    selection=dg.AssetSelection.groups("dao"),
    description="Moves on every vote that is due, resolves what is over, and looks through the whole ledger.",
)


@dataclass(frozen=True, slots=True)
class DueVote:
    """A vote for which time has come, and how runs for this very step of it went."""

    proposal_id: str
    rules_version: str
    due_at: datetime
    """Names the step: the reminder at half the time is another than the end of it."""
    tries: int = 0
    """Runs for this step that are over. It is still due, so none of them got it done."""
    rest_s: float = float("inf")
    """Since the end of the last of them; 0 while one is queued or under way."""

    @property
    def step(self) -> str:
        return f"{self.proposal_id}-{self.rules_version}-{self.due_at.astimezone(UTC):%Y%m%dT%H%M%S%f}"

    @property
    def run_key(self) -> str:
        """Why the due time, beside proposal and rules: Dagster runs one key once, and a vote has several steps, each of which
        must be run: reminders, standing delegations, an extension and the resolution. Why the try: else a step whose run failed
        would never be done."""
        return f"dao-{self.step}-{self.tries}"


def decide_run(due: Sequence[DueVote], interval_s: float) -> DueVote | None:
    """The vote that a run is asked for now: the one that is due longest, of those that are not resting. A step rests after each
    try, four times as long as before, an hour at most: a vote must end.

    Why one: its run does all that is due by then, and a thousand runs would do no more.
    """
    ready = [vote for vote in due if vote.rest_s >= min(interval_s * 4 ** (vote.tries - 1), LONGEST_REST_S)]
    return min(ready, key=lambda vote: (vote.due_at, vote.proposal_id), default=None)


def alerts_of_stuck(due: Sequence[DueVote], at: datetime) -> list[Alert]:
    """A vote whose step is still due after a run for it: it did not close, and people should know before they wonder."""
    code = "vote_still_due"
    return [
        Alert("vote_failed", vote.proposal_id, "dao_resolutions", VoteError.category, code, at, count=vote.tries)
        for vote in due
        if vote.tries
    ]


def build_dao_sensor(settings: Settings) -> dg.SensorDefinition:
    said: list[Once] = []

    @dg.sensor(
        name="dao_sensor",
        job=dao_job,
        minimum_interval_seconds=settings.dao.sensor_interval_s,
        default_status=sensor_status(settings, "dao_sensor"),
    )
    def dao_sensor(context: dg.SensorEvaluationContext, stores: StoresResource) -> dg.RunRequest | dg.SkipReason:
        """Votes for which time has come: a run moves them on. A ledger that cannot be read is a skip, never "nothing due"."""
        try:
            due = read_due(context.instance, open_dao(stores.stores), datetime.now(UTC))
        except TwinError as error:
            return dg.SkipReason(f"the ledger of votes cannot be read: {error}")
        if not due:
            return dg.SkipReason("no vote is due")
        for alert in alerts_of_stuck(due, datetime.now(UTC)):
            if not said:  # one for the life of the code server: without Redis it is all that remembers
                said.append(Once(connection_environment().get(settings.stores.redis_url)))
            open_alerts(settings, breakers=stores.stores.breakers, once=said[0]).tell(alert)
        chosen = decide_run(due, settings.dao.sensor_interval_s)
        if chosen is None:
            return dg.SkipReason(
                f"{len(due)} votes are due, and for each of them a run is under way or its last one was just now"
            )
        return dg.RunRequest(
            run_key=chosen.run_key,
            run_config=dg.RunConfig(ops={"dao_resolutions": DueVotes(proposal_ids=[vote.proposal_id for vote in due])}),
            tags={STEP_TAG: chosen.step},
        )

    return dao_sensor


def read_due(instance: dg.DagsterInstance, dao: Dao, at: datetime) -> list[DueVote]:
    """Those due longest, with the runs that their step has had."""
    found: list[DueVote] = []
    wanted = dao.due(at)[:AT_ONCE]
    if not wanted:
        return found
    with dao.tables.operator_transaction() as connection:
        due_at = {row.proposal_id: row.next_due_at for row in list_proposals(connection, ids=wanted)}
    for proposal_id in wanted:
        vote = DueVote(proposal_id, dao.proposal(proposal_id).rules.version, due_at.get(proposal_id) or at)
        runs = instance.get_run_records(dg.RunsFilter(tags={STEP_TAG: vote.step}))
        ended = [record.end_time or record.update_timestamp.timestamp() for record in runs if record.dagster_run.is_finished]
        rest_s = 0.0 if len(ended) < len(runs) else time.time() - max(ended) if ended else float("inf")
        found.append(replace(vote, tries=len(ended), rest_s=rest_s))
    return found


def build_dao_hourly(settings: Settings) -> dg.ScheduleDefinition:
    @dg.schedule(
        name="dao_hourly",
        job=dao_job,
        cron_schedule=HOURLY,
        execution_timezone="UTC",
        default_status=schedule_status(settings, "dao_hourly"),
    )
    def dao_hourly(context: dg.ScheduleEvaluationContext, stores: StoresResource) -> dg.RunRequest | dg.SkipReason:
        """Each hour the ledger is recomputed from its events, and the state of the votes gets a point in its plots."""
        return ask_for_look(stores.stores)

    return dao_hourly


def ask_for_look(stores: Stores) -> dg.RunRequest | dg.SkipReason:
    """A run, unless the DAO has never had an event."""
    try:
        begun = bool(open_dao(stores).events_after(0, 1))
    except TwinError as error:
        return dg.SkipReason(f"the ledger of votes cannot be read: {error}")
    return dg.RunRequest() if begun else dg.SkipReason("nothing was ever proposed")
