"""What Dagster loads: the graph as it is meant to be, and what every asset of it must have."""

from __future__ import annotations

import dagster as dg
import pytest

from lpm_kernel.settings import load_settings
from twin_assets.definitions import build_defs

# Asset: what it is made from. A change here is a change of the product's flow; README's picture says the same.
GRAPH = {
    "raw_documents": set(),
    "chunks": {"raw_documents"},
    "embeddings": {"chunks"},
    "entities": {"chunks"},
    "voice_profile": {"raw_documents", "chunks"},
    "memories": {"raw_documents", "voice_profile"},
    "topics": {"chunks", "embeddings"},
    "shades": {"raw_documents", "chunks", "embeddings", "topics"},
    "biography": {"shades"},
    "salience": {"raw_documents", "chunks", "embeddings", "entities"},
    "communities": {"raw_documents", "chunks", "embeddings", "entities", "salience"},
    "training_rows": {
        *("chunks", "embeddings", "topics", "salience", "communities"),
        *("entities", "voice_profile", "biography"),
    },
    "training_report": {"training_rows", "topics"},
    "lora_adapter": {"training_rows"},
    "gguf_adapter": {"lora_adapter"},
    "merged_model": {"lora_adapter"},
    "base_model": set(),
    "skill_adapter": set(),
    "dpo": {"chunks", "lora_adapter"},
    "evaluation": {"raw_documents", "chunks", "embeddings", "voice_profile", "training_rows", "gguf_adapter"},
    "twin_release": {
        *("raw_documents", "chunks", "embeddings", "topics", "communities", "training_rows"),
        *("lora_adapter", "gguf_adapter", "evaluation"),
    },
    "memory_graph": {"raw_documents", "entities", "twin_release"},
    "dao_resolutions": set(),
    "dao_state": {"dao_resolutions"},
    "reconciliation": set(),
    "telegram_messages": set(),
    "x_posts": set(),
}
ON_DEMAND = {"base_model", "skill_adapter", "merged_model", "dpo", "x_posts"}
"""Started by nothing but a person."""
SHARED = {"base_model", "skill_adapter", "dao_resolutions", "dao_state", "telegram_messages", "reconciliation"}
"""Of no user: one base serves all, one ledger is theirs together, and a group is nobody's."""
OF_THE_CLOCK = {"dao_resolutions", "dao_state"}
"""Started by `dao_sensor` and once an hour."""
OF_GROUPS = {"telegram_messages"}
"""Started by `telegram_poll`."""
OF_ALL_STORES = {"reconciliation"}
"""Started once an hour."""
BLOCKING = {
    "chunks_cover_every_byte",
    "vectors_are_unit_and_searchable",
    "every_mention_is_at_its_bytes",
    "no_word_is_of_two_entities",
    "preferences_stand_in_the_users_own_text",
    "memory_holds_what_documents_say",
    "one_voice_without_an_end",
    "every_chunk_has_a_topic",
    "biography_cites_every_shade",
    "every_citation_is_at_its_bytes",
    "every_topic_has_a_shade",
    "every_chunk_has_a_salience",
    "every_chunk_has_a_community",
    "community_summaries_are_cited",
    "release_names_what_is_there",
    "rows_are_supported_by_their_sources",
    "no_golden_question_in_training",
    "no_held_out_text_in_training",
    "adapter_is_finite",
    "gguf_matches_adapter",
    "no_leak_between_tenants",
    "no_canary_is_repeated",
    "graph_holds_the_known_facts",
    "base_gguf_matches_weights",
    "ledger_is_whole",
}
WARNING = {
    "no_vote_is_overdue",
    "every_group_can_be_read",
    "every_kind_has_rows",
    "row_classes_are_balanced",
    "release_passed_its_gates",
    "release_beats_base_with_retrieval",
    "pack_holds_nine_facts_of_ten",
    "voice_is_nearer_than_the_base",
    "unanswerable_are_declined",
}


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    return build_defs(load_settings())


def test_everything_loads_without_an_address_or_a_key(defs: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(defs)


def test_the_graph_is_the_one_that_is_meant(defs: dg.Definitions) -> None:
    nodes = defs.resolve_asset_graph().asset_nodes
    found = {node.key.to_user_string(): {parent.to_user_string() for parent in node.parent_keys} for node in nodes}
    assert found == GRAPH


def test_every_asset_has_partitions_a_group_kinds_a_version_and_words(defs: dg.Definitions) -> None:
    for node in defs.resolve_asset_graph().asset_nodes:
        name = node.key.to_user_string()
        if name in SHARED:
            assert node.partitions_def is None, node.key
        else:
            assert isinstance(node.partitions_def, dg.DynamicPartitionsDefinition), node.key
            assert node.partitions_def.name == "users"
        assert node.group_name in {"l0", "l1", "l2", "release", "dao", "social", "consistency"}
        assert node.kinds, node.key
        assert node.code_version
        assert len(node.description or "") > 80, f"{node.key} says nothing in the UI"
        by_no_condition = {"raw_documents", *ON_DEMAND, *OF_THE_CLOCK, *OF_GROUPS, *OF_ALL_STORES}
        assert (node.automation_condition is None) == (name in by_no_condition)


def test_every_claim_is_checked_and_those_that_must_hold_block(defs: dg.Definitions) -> None:
    specs = [spec for check in defs.asset_checks or () for spec in check.check_specs]
    assert {spec.name for spec in specs if spec.blocking} == BLOCKING
    assert {spec.name for spec in specs if not spec.blocking} == WARNING


def test_one_job_holds_the_whole_chain(defs: dg.Definitions) -> None:
    job = defs.resolve_job_def("twin_job")
    stages = set(GRAPH) - ON_DEMAND - OF_THE_CLOCK - OF_GROUPS - OF_ALL_STORES
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == stages
    base_job = defs.resolve_job_def("base_job")
    assert {key.to_user_string() for key in base_job.asset_layer.executable_asset_keys} == {"base_model"}


def test_one_job_trains_the_adapter_alone(defs: dg.Definitions) -> None:
    job = defs.resolve_job_def("training_job")
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == {"lora_adapter"}
    assert job.partitions_def is not None
    assert "twin/stages" not in job.tags, "what follows from it is carried on by the automation"


def test_the_sensors_are_on(defs: dg.Definitions) -> None:
    states = {sensor.name: sensor.default_status for sensor in defs.sensors or ()}
    assert states == dict.fromkeys(
        [
            *("users_sensor", "catch_up_sensor", "failed_runs", "failure_alerts", "deletions_sensor", "dao_sensor"),
            *("telegram_poll", "social_documents", "automation", "dead_runs"),
        ],
        dg.DefaultSensorStatus.RUNNING,
    )


def test_groups_are_looked_at_by_a_job_of_their_own_as_often_as_the_settings_say(defs: dg.Definitions) -> None:
    job = defs.resolve_job_def("telegram_job")
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == OF_GROUPS
    sensor = next(sensor for sensor in defs.sensors or () if sensor.name == "telegram_poll")
    assert sensor.minimum_interval_seconds == load_settings().social.poll_interval_s == 300
    assert {key.to_user_string() for key in defs.resolve_job_def("x_job").asset_layer.executable_asset_keys} == {"x_posts"}


def test_one_job_turns_the_clock_of_the_dao(defs: dg.Definitions) -> None:
    job = defs.resolve_job_def("dao_job")
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == OF_THE_CLOCK


def test_stores_are_compared_every_hour_by_a_job_of_their_own(defs: dg.Definitions) -> None:
    job = defs.resolve_job_def("reconciliation_job")
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == OF_ALL_STORES
    schedule = next(schedule for schedule in defs.schedules or () if schedule.name == "reconciliation")
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.cron_schedule, schedule.default_status) == ("52 * * * *", dg.DefaultScheduleStatus.RUNNING)


def test_votes_that_are_due_are_looked_for_as_often_as_the_settings_say(defs: dg.Definitions) -> None:
    sensor = next(sensor for sensor in defs.sensors or () if sensor.name == "dao_sensor")
    assert sensor.minimum_interval_seconds == load_settings().dao.sensor_interval_s == 60


def test_the_ledger_is_looked_through_every_hour(defs: dg.Definitions) -> None:
    schedule = next(schedule for schedule in defs.schedules or () if schedule.name == "dao_hourly")
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.cron_schedule, schedule.default_status) == ("7 * * * *", dg.DefaultScheduleStatus.RUNNING)


def test_what_expired_is_purged_every_night(defs: dg.Definitions) -> None:
    schedule = next(schedule for schedule in defs.schedules or () if schedule.name == "nightly_purge")
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.name, schedule.default_status) == ("nightly_purge", dg.DefaultScheduleStatus.RUNNING)
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("15 3 * * *", "UTC")


def test_sessions_that_rest_are_summed_up_by_the_daemon(defs: dg.Definitions) -> None:
    """In the API it would take somebody who is there: a session rests when nobody is."""
    schedule = next(schedule for schedule in defs.schedules or () if schedule.name == "session_summaries")
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.cron_schedule, schedule.default_status) == ("*/15 * * * *", dg.DefaultScheduleStatus.RUNNING)
