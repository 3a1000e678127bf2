"""Typed files, one a user, through Dagster's own machinery on the real S3."""

from __future__ import annotations

import dagster as dg
import numpy as np
import pytest

from lpm_kernel.records import EmbeddingTable, Topic
from tests.twin_assets.conftest import Workshop
from twin_assets.io_managers import JsonIOManager, JsonlIOManager, ParquetIOManager
from twin_assets.partitions import users
from twin_assets.resources import s3_resource

TOPICS = [Topic("t1", "cats", ("cat", "eye"), ("c1",), (0.5, 0.5)), Topic("t2", "misc", (), ("c2",), (1.0, 0.0))]
TABLE = EmbeddingTable(("c1", "c2"), ("i1", "i2"), np.array([[1, 0], [0, 1]], dtype=np.float32), "model/2/l2")


@dg.asset(partitions_def=users, io_manager_key="jsonl")
def kept_topics() -> list[Topic]:
    return TOPICS


@dg.asset(partitions_def=users, io_manager_key="json")
def kept_topic(kept_topics: list[Topic]) -> Topic:
    assert kept_topics == TOPICS
    return kept_topics[0]


@dg.asset(partitions_def=users, io_manager_key="parquet")
def kept_table(kept_topic: Topic) -> EmbeddingTable:
    assert kept_topic == TOPICS[0]
    return TABLE


@dg.asset(partitions_def=users, io_manager_key="json")
def read_back(kept_table: EmbeddingTable) -> Topic:
    assert kept_table.chunk_ids == TABLE.chunk_ids
    assert kept_table.fingerprint == TABLE.fingerprint
    assert np.array_equal(kept_table.vectors, TABLE.vectors)
    return TOPICS[1]


@pytest.fixture
def managers(workshop: Workshop) -> dict[str, dg.ConfigurableIOManager]:
    s3, bucket = s3_resource(workshop.settings), dg.EnvVar(workshop.settings.stores.s3_bucket)
    return {
        "jsonl": JsonlIOManager(s3=s3, bucket=bucket),
        "json": JsonIOManager(s3=s3, bucket=bucket),
        "parquet": ParquetIOManager(s3=s3, bucket=bucket),
    }


def test_values_come_back_as_they_were_and_lie_under_their_user(workshop: Workshop, managers) -> None:
    workshop.instance.add_dynamic_partitions("users", ["files-1"])
    result = dg.materialize(
        [kept_topics, kept_topic, kept_table, read_back],
        partition_key="files-1",
        instance=workshop.instance,
        resources=managers,
    )
    assert result.success
    assert sorted(workshop.stores.blobs.list_keys("tenant/files-1/")) == [
        "tenant/files-1/assets/kept_table.parquet",
        "tenant/files-1/assets/kept_topic.json",
        "tenant/files-1/assets/kept_topics.jsonl",
        "tenant/files-1/assets/read_back.json",
    ]
    (event,) = result.asset_materializations_for_node("kept_topics")
    assert event.metadata["dagster/partition_row_count"].value == 2


def test_a_missing_file_is_an_error_and_not_an_empty_value(workshop: Workshop, managers) -> None:
    workshop.instance.add_dynamic_partitions("users", ["files-2"])
    with pytest.raises(dg.Failure) as raised:
        dg.materialize(
            [kept_topics, kept_topic],
            selection=[kept_topic],
            partition_key="files-2",
            instance=workshop.instance,
            resources=managers,
        )
    assert raised.value.metadata["code"].value == "blob_not_found"
