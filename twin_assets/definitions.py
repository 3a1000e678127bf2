"""What Dagster loads: every asset, check, sensor, schedule and job, and the resources under them.

Belongs here: putting the parts together.
Does not belong here: the parts.
"""

from __future__ import annotations

import dagster as dg

from lpm_kernel.settings import Settings, load_settings
from twin_assets import checks
from twin_assets.alerts import build_failure_alerts
from twin_assets.assets import (
    base,
    dao,
    l0_memory,
    l1_graph,
    l1_memories,
    l1_mind,
    l2_evaluation,
    l2_model,
    l2_preferences,
    reconciliation,
    release,
    social,
)
from twin_assets.automation import sensor_status
from twin_assets.changes import build_changes_schedule, changes_job
from twin_assets.dao_sensor import build_dao_hourly, build_dao_sensor, dao_job
from twin_assets.dead_letters import build_failed_runs_sensor
from twin_assets.dead_runs import build_dead_runs_sensor
from twin_assets.deletions import build_deletions_sensor
from twin_assets.failed_partitions import build_failed_partitions
from twin_assets.io_managers import JsonIOManager, JsonlIOManager, ParquetIOManager
from twin_assets.jobs import base_job, skill_job, training_job, twin_job
from twin_assets.reconciliation_schedule import build_reconciliation_schedule, reconciliation_job
from twin_assets.resources import s3_resource, stores_resource
from twin_assets.retraining import build_weekly_retraining, retraining_job
from twin_assets.scale_out import executor_of
from twin_assets.schedules import (
    build_nightly_purge,
    build_session_summaries,
    purge_memories_job,
    session_summaries_job,
)
from twin_assets.sensors import build_catch_up_sensor, build_users_sensor
from twin_assets.social_documents import build_social_documents, social_documents_job
from twin_assets.social_sensors import build_telegram_poll, telegram_job, x_job


def build_defs(settings: Settings) -> dg.Definitions:
    """Definitions for these settings. Opens nothing: addresses are read from the environment when a run starts."""
    s3, bucket = s3_resource(settings), dg.EnvVar(settings.stores.s3_bucket)
    assets = dg.load_assets_from_modules(
        [
            *(l0_memory, l1_mind, l1_memories, l2_model, l2_preferences, l2_evaluation, base, release),
            *(l1_graph, dao, social, reconciliation),
        ]
    )
    failed_partitions_job, failed_partitions = build_failed_partitions(settings, assets)
    return dg.Definitions(
        assets=assets,
        asset_checks=dg.load_asset_checks_from_modules([checks]),
        jobs=[
            *(twin_job, training_job, retraining_job, base_job, skill_job),
            *(purge_memories_job, session_summaries_job, changes_job, dao_job, failed_partitions_job),
            *(telegram_job, x_job, social_documents_job, reconciliation_job),
        ],
        schedules=[
            build_nightly_purge(settings),
            build_session_summaries(settings),
            build_changes_schedule(settings),
            build_dao_hourly(settings),
            build_weekly_retraining(settings),
            build_reconciliation_schedule(settings),
            failed_partitions,
        ],
        sensors=[
            build_users_sensor(settings),
            build_catch_up_sensor(settings),
            build_failed_runs_sensor(settings),
            build_dead_runs_sensor(settings),
            build_failure_alerts(settings),
            build_deletions_sensor(settings),
            build_dao_sensor(settings),
            build_telegram_poll(settings),
            build_social_documents(settings),
            dg.AutomationConditionSensorDefinition(
                "automation", target=dg.AssetSelection.all(), default_status=sensor_status(settings, "automation")
            ),
        ],
        executor=executor_of(settings),
        resources={
            "stores": stores_resource(settings),
            "jsonl": JsonlIOManager(s3=s3, bucket=bucket),
            "json": JsonIOManager(s3=s3, bucket=bucket),
            "parquet": ParquetIOManager(s3=s3, bucket=bucket),
        },
    )


@dg.definitions
def defs() -> dg.Definitions:
    return build_defs(load_settings())
