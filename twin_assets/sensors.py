"""Sensors: what brings the outside in.

Belongs here: a pure decision and the sensor that feeds it.
Does not belong here: reading documents; a sensor only says that there is something to read.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import dagster as dg

from lpm_kernel.errors import TwinError
from lpm_kernel.settings import Settings
from lpm_kernel.stores.documents import WaitingDocuments, list_waiting
from twin_assets.assets import l0_memory
from twin_assets.partitions import users
from twin_assets.resources import StoresResource


@dataclass(frozen=True, slots=True)
class UserRequests:
    """Users to make known to Dagster, and one run for each waiting set of documents."""

    new_users: tuple[str, ...]
    runs: tuple[tuple[str, str], ...]
    """(user id, run key). The key names the waiting set: a set that failed is not asked for again until it changes."""


def decide_user_requests(waiting: Sequence[WaitingDocuments], known_users: Collection[str]) -> UserRequests:
    """Who gets a partition, and who a run."""
    return UserRequests(
        new_users=tuple(sorted({item.user_id for item in waiting} - set(known_users))),
        runs=tuple((item.user_id, f"documents-{item.user_id}-{item.change}") for item in waiting),
    )


def build_users_sensor(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="users_sensor",
        target=[l0_memory.raw_documents],
        minimum_interval_seconds=settings.automation.users_sensor_interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def users_sensor(context: dg.SensorEvaluationContext, stores: StoresResource) -> dg.SensorResult | dg.SkipReason:
        """Uploads: a user who has documents waiting gets a partition, and a run of `raw_documents`; the rest follows by
        automation. A store that cannot be read is a skip, never "nothing is waiting"."""
        try:
            with stores.stores.tables.operator_transaction() as connection:
                waiting = list_waiting(connection)
        except TwinError as error:
            return dg.SkipReason(f"the document table cannot be read: {error}")
        if not waiting:
            return dg.SkipReason("no documents are waiting")
        requests = decide_user_requests(waiting, context.instance.get_dynamic_partitions(users.name or ""))
        return dg.SensorResult(
            dynamic_partitions_requests=[users.build_add_request(list(requests.new_users))] if requests.new_users else [],
            run_requests=[
                dg.RunRequest(run_key=run_key, partition_key=user_id, asset_selection=[l0_memory.raw_documents.key])
                for user_id, run_key in requests.runs
            ],
        )

    return users_sensor
