"""Who gets a partition and a run, decided over plain values; and the sensor that feeds the decision."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import dagster as dg
import pytest

from lpm_kernel.errors import StoreError
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.documents import WaitingDocuments
from twin_assets import sensors
from twin_assets.partitions import users
from twin_assets.sensors import build_users_sensor, decide_user_requests


def test_a_new_user_gets_a_partition_and_a_run_in_one_decision() -> None:
    requests = decide_user_requests([WaitingDocuments("ada", "c1")], ["ada"], known_users=[])
    assert requests.new_users == ("ada",)
    assert requests.runs == (("ada", "documents-ada-c1"),)


def test_a_known_user_gets_a_run_only() -> None:
    requests = decide_user_requests([WaitingDocuments("ada", "c2")], ["ada", "bo"], known_users=["ada", "bo"])
    assert requests.new_users == ()
    assert requests.runs == (("ada", "documents-ada-c2"),)


def test_the_same_waiting_set_has_the_same_run_key_and_a_changed_one_another() -> None:
    """A set of documents that failed must not be run for ever, and one more upload must start it again."""
    first = decide_user_requests([WaitingDocuments("ada", "c1")], ["ada"], ["ada"])
    again = decide_user_requests([WaitingDocuments("ada", "c1")], ["ada"], ["ada"])
    later = decide_user_requests([WaitingDocuments("ada", "c2")], ["ada"], ["ada"])
    assert first.runs == again.runs
    assert first.runs != later.runs


def test_whoever_has_no_documents_gets_a_partition_and_no_run() -> None:
    requests = decide_user_requests([], ["ada", "bo"], known_users=["bo"])
    assert (requests.new_users, requests.runs) == (("ada",), ())


class WaitingStores:
    """Stands where the stores resource stands: a document table that says what it is told to say."""

    def __init__(self, waiting: list[WaitingDocuments] | StoreError) -> None:
        self.waiting = waiting
        self.stores = SimpleNamespace(tables=self)

    @contextmanager
    def operator_transaction(self):
        if isinstance(self.waiting, StoreError):
            raise self.waiting
        yield self.waiting


@pytest.fixture
def tick(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sensors, "list_waiting", lambda connection: connection)
    monkeypatch.setattr(sensors, "list_user_ids", lambda connection: ["ada"])
    sensor = build_users_sensor(load_settings())

    def run(waiting: list[WaitingDocuments] | StoreError, known: list[str]):
        with dg.DagsterInstance.ephemeral() as instance:
            instance.add_dynamic_partitions("users", known)
            return sensor(dg.build_sensor_context(instance=instance, resources={"stores": WaitingStores(waiting)}))

    return run


def test_the_sensor_asks_for_the_partition_and_a_run_of_raw_documents(tick) -> None:
    result = tick([WaitingDocuments("ada", "c1")], [])
    assert result.dynamic_partitions_requests == [users.build_add_request(["ada"])]
    (request,) = result.run_requests
    assert (request.partition_key, request.run_key) == ("ada", "documents-ada-c1")
    assert request.asset_selection == [dg.AssetKey("raw_documents")]


def test_a_table_that_cannot_be_read_is_a_skip_that_says_so(tick) -> None:
    result = tick(StoreError("tables_unavailable", "PostgreSQL did not answer"), ["ada"])
    assert isinstance(result, dg.SkipReason)
    assert "tables_unavailable" in (result.skip_message or "")


def test_nothing_waiting_is_a_skip(tick) -> None:
    assert isinstance(tick([], ["ada"]), dg.SkipReason)


def test_a_user_who_only_talks_gets_a_partition(tick) -> None:
    result = tick([], [])
    assert result.dynamic_partitions_requests == [users.build_add_request(["ada"])]
    assert not result.run_requests
