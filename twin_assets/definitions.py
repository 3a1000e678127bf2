"""What Dagster loads: every asset, check, sensor, schedule and job, and the resources under them.

Belongs here: putting the parts together.
Does not belong here: the parts.
"""

from __future__ import annotations

import dagster as dg

from lpm_kernel.settings import Settings, load_settings
from twin_assets import checks
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
    release,
)
from twin_assets.dao_sensor import build_dao_sensor, dao_hourly, dao_job
from twin_assets.dead_letters import build_failed_runs_sensor
from twin_assets.deletions import build_deletions_sensor
from twin_assets.io_managers import JsonIOManager, JsonlIOManager, ParquetIOManager
from twin_assets.jobs import base_job, skill_job, training_job, twin_job
from twin_assets.resources import s3_resource, stores_resource
from twin_assets.schedules import nightly_purge, purge_memories_job, session_summaries, session_summaries_job
from twin_assets.sensors import build_catch_up_sensor, build_users_sensor


def build_defs(settings: Settings) -> dg.Definitions:
    """Definitions for these settings. Opens nothing: addresses are read from the environment when a run starts."""
    s3, bucket = s3_resource(settings), dg.EnvVar(settings.stores.s3_bucket)
    return dg.Definitions(
        assets=dg.load_assets_from_modules(
            [l0_memory, l1_mind, l1_memories, l2_model, l2_preferences, l2_evaluation, base, release, l1_graph, dao]
        ),
        asset_checks=dg.load_asset_checks_from_modules([checks]),
        jobs=[twin_job, training_job, base_job, skill_job, purge_memories_job, session_summaries_job, dao_job],
        schedules=[nightly_purge, session_summaries, dao_hourly],
        sensors=[
            build_users_sensor(settings),
            build_catch_up_sensor(settings),
            build_failed_runs_sensor(settings),
            build_deletions_sensor(settings),
            build_dao_sensor(settings),
            dg.AutomationConditionSensorDefinition(
                "automation", target=dg.AssetSelection.all(), default_status=dg.DefaultSensorStatus.RUNNING
            ),
        ],
        executor=dg.in_process_executor,
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
