"""Sensors: what brings the outside in.

Belongs here: for each sensor a pure decision, and the sensor that feeds it.
Does not belong here: reading documents; a sensor only says that there is something to do.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import dagster as dg

from lpm_kernel.errors import TwinError
from lpm_kernel.L2.release import find_unbuilt
from lpm_kernel.settings import Settings
from lpm_kernel.stores.documents import WaitingDocuments, list_waiting
from lpm_kernel.stores.users import list_user_ids
from twin_assets.assets import l0_memory
from twin_assets.automation import sensor_status
from twin_assets.jobs import twin_job
from twin_assets.partitions import PARTITION_TAG, users
from twin_assets.resources import StoresResource


@dataclass(frozen=True, slots=True)
class UserRequests:
    """Users to make known to Dagster, and one run for each waiting set of documents."""

    new_users: tuple[str, ...]
    runs: tuple[tuple[str, str], ...]
    """(user id, run key). The key names the waiting set: a set that failed is not asked for again until it changes."""


def decide_user_requests(
    waiting: Sequence[WaitingDocuments], user_ids: Collection[str], known_users: Collection[str]
) -> UserRequests:
    """Who gets a partition, and who a run. Whoever only talks has no documents, and memories to sum up and to purge all the
    same."""
    return UserRequests(
        new_users=tuple(sorted({*user_ids, *(item.user_id for item in waiting)} - set(known_users))),
        runs=tuple((item.user_id, f"documents-{item.user_id}-{item.change}") for item in waiting),
    )


def build_users_sensor(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="users_sensor",
        target=[l0_memory.raw_documents],
        minimum_interval_seconds=settings.automation.users_sensor_interval_s,
        default_status=sensor_status(settings, "users_sensor"),
    )
    def users_sensor(context: dg.SensorEvaluationContext, stores: StoresResource) -> dg.SensorResult | dg.SkipReason:
        """A new user gets a partition; one who has documents waiting a run of `raw_documents`, and the rest follows by
        automation. A store that cannot be read is a skip, never "nothing is waiting"."""
        known = context.instance.get_dynamic_partitions(users.name or "")  # first: whoever is settled meanwhile is not new
        try:
            with stores.stores.tables.operator_transaction() as connection:
                waiting, user_ids = list_waiting(connection), list_user_ids(connection)
        except TwinError as error:
            return dg.SkipReason(f"the tables of users and documents cannot be read: {error}")
        requests = decide_user_requests(waiting, user_ids, known)
        if not requests.new_users and not requests.runs:
            return dg.SkipReason("no documents are waiting, and no user is new")
        return dg.SensorResult(
            dynamic_partitions_requests=[users.build_add_request(list(requests.new_users))] if requests.new_users else [],
            run_requests=[
                dg.RunRequest(run_key=run_key, partition_key=user_id, asset_selection=[l0_memory.raw_documents.key])
                for user_id, run_key in requests.runs
            ],
        )

    return users_sensor


CATCH_UP_TAG = "twin/catch-up"
"""On runs of the catch-up sensor: the content they are to build."""

REST_S = 120.0
"""How long a user must have had no run: less, and a run would come between two that automation asks for."""


UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True, slots=True)
class Unbuilt:
    """A user whose documents no release holds, and how their runs went."""

    user_id: str
    content: str
    """Names what is to be built; one more document, and it is another."""
    rest_s: float
    """Since the end of the last run; 0 while one is queued or under way, or is about to be asked for."""
    tries: int
    """Catch-up runs that this content has had."""
    needs_a_person: bool
    """The last run was cancelled, or failed in a way that running again does not help."""


def decide_catch_up(unbuilt: Sequence[Unbuilt], max_tries: int) -> tuple[tuple[str, str, str], ...]:
    """Whom to build now: (user id, content, run key). Each try of one content waits four times as long as the one before."""
    return tuple(
        (item.user_id, item.content, f"catch-up-{item.user_id}-{item.content}-{item.tries}")
        for item in unbuilt
        if not item.needs_a_person and item.tries < max_tries and item.rest_s >= REST_S * 4**item.tries
    )


def build_catch_up_sensor(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="catch_up_sensor",
        job=twin_job,
        minimum_interval_seconds=settings.automation.catch_up_sensor_interval_s,
        default_status=sensor_status(settings, "catch_up_sensor"),
    )
    def catch_up_sensor(context: dg.SensorEvaluationContext, stores: StoresResource) -> dg.SensorResult | dg.SkipReason:
        """Work that was begun and not finished: a demo that was stopped, a machine that went down, a store that was away longer
        than the retries. Automation follows changes, and a run that died has had its change; here the state is looked at."""
        found, unread = [], dict[str, str]()
        for user_id in context.instance.get_dynamic_partitions(users.name or ""):
            try:
                with stores.stores.tables.transaction(user_id) as connection:
                    state = find_unbuilt(connection, user_id)
            except TwinError as error:
                if error.retryable:  # the tables are away, and would be asked in vain once for each user
                    return dg.SkipReason(f"what is built cannot be read: {error}")
                unread[user_id] = str(error)  # a record of theirs, which keeps nobody else from being built
                continue
            if state is not None:
                found.append(_runs_of(context.instance, user_id, state.content, state.waiting))
        if unread:
            context.log.error(f"what is built cannot be read of {len(unread)} users: {unread}")
        requests = decide_catch_up(found, settings.retries.max_retries)
        if not requests:
            told = f"{len(found)} users have documents in no release; for none of them is a run due"
            return dg.SkipReason(f"{told}; unreadable: {', '.join(sorted(unread))}" if unread else told)
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(run_key=run_key, partition_key=user_id, tags={CATCH_UP_TAG: content})
                for user_id, content, run_key in requests
            ]
        )

    return catch_up_sensor


def _runs_of(instance: dg.DagsterInstance, user_id: str, content: str, waiting: bool) -> Unbuilt:
    """How the user's runs went. Without any, what waits is left to `users_sensor`, which is about to see it."""
    of_user = {PARTITION_TAG: user_id}
    tries = instance.get_runs_count(dg.RunsFilter(tags={**of_user, CATCH_UP_TAG: content}))
    last = next(iter(instance.get_run_records(dg.RunsFilter(tags=of_user), limit=1)), None)
    active = instance.get_runs_count(dg.RunsFilter(tags=of_user, statuses=UNFINISHED))
    if active or (last is None and waiting):
        return Unbuilt(user_id, content, 0.0, tries, needs_a_person=False)
    if last is None:
        return Unbuilt(user_id, content, float("inf"), tries, needs_a_person=False)
    rest_s = time.time() - (last.end_time or last.update_timestamp.timestamp())
    return Unbuilt(user_id, content, rest_s, tries, _needs_a_person(instance, last.dagster_run))


def _needs_a_person(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    if run.status is dg.DagsterRunStatus.CANCELED:
        return True
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        failure = entry.dagster_event.step_failure_data if entry.dagster_event else None
        if failure is None:
            continue
        told = failure.user_failure_data.metadata.get("retryable") if failure.user_failure_data else None
        if told is not None and told.value is False:
            return True
        if failure.error is not None and failure.error.cls_name == "DagsterAssetCheckFailedError":
            return True
    return False
