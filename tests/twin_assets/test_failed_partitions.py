"""What stayed behind: the decision on plain records, and the look on real ones of Dagster."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import dagster as dg
import pytest

from lpm_kernel.settings import load_settings
from lpm_kernel.stores.breaker import Breakers
from tests.stores.test_webhook import Listener
from twin_assets.definitions import build_defs
from twin_assets.failed_partitions import (
    TOLD_TAG,
    Chain,
    Lagging,
    Made,
    alert_of,
    build_failed_partitions,
    find_lagging,
    read_chain,
    told_lately,
    upstream_of,
)
from twin_assets.partitions import users

UPSTREAM = {"notes": (), "chunks": ("notes",), "rows": ("chunks",)}


def made(version: str, **made_from: str) -> Made:
    return Made(version, made_from)


WHOLE = {("1", "notes"): made("n1"), ("1", "chunks"): made("c1", notes="n1"), ("1", "rows"): made("r1", chunks="c1")}


def lagging(
    made: dict[tuple[str, str], Made], failed: set[tuple[str, str]] | None = None, busy: str = ""
) -> list[tuple[str, str]]:
    chain = Chain(UPSTREAM, made, failed or set(), {busy})
    return [(item.asset, item.why) for item in find_lagging(chain, ["1"])]


def test_what_is_whole_lags_nowhere() -> None:
    assert lagging(WHOLE) == []


def test_a_stage_whose_last_run_failed_is_told_and_what_waits_for_it_is_not() -> None:
    assert lagging(WHOLE, {("1", "chunks")}) == [("chunks", "failed")]


def test_a_stage_is_missing_when_what_it_is_made_from_is_there() -> None:
    assert lagging({key: of for key, of in WHOLE.items() if key[1] == "notes"}) == [("chunks", "missing")]
    assert lagging({}) == [], "of a user without documents nothing is missing"


def test_a_stage_is_behind_when_the_content_it_was_made_from_has_changed() -> None:
    assert lagging({**WHOLE, ("1", "notes"): made("n2")}) == [("chunks", "behind")]
    assert lagging({**WHOLE, ("1", "rows"): made("r1")}) == [], "what it was made from is not on record"


def test_of_a_user_who_is_being_built_nothing_is_said() -> None:
    assert lagging({}, {("1", "chunks")}, busy="1") == []


def test_the_same_set_is_the_same_alert_and_it_names_nobody() -> None:
    one, two = [Lagging("ada", "chunks", "failed")], [Lagging("ada", "chunks", "behind")]
    assert alert_of(one, "r").key == alert_of(one, "s").key != alert_of(two, "r").key
    assert "ada" not in str(alert_of(one, "r"))


def test_the_stages_of_the_project_are_in_order_and_what_is_made_on_request_is_left_out() -> None:
    upstream = upstream_of(list(build_defs(load_settings()).assets or ()))
    names = list(upstream)
    assert names[0] == "raw_documents"
    assert {"dpo", "merged_model", "dao_state", "base_model"} & set(names) == set()
    assert all(names.index(parent) < names.index(name) for name, parents in upstream.items() for parent in parents)


CONTENT = {"notes": "n1", "fails": False}


@dg.asset(partitions_def=users)
def notes() -> dg.MaterializeResult:
    return dg.MaterializeResult(data_version=dg.DataVersion(str(CONTENT["notes"])))


@dg.asset(partitions_def=users, deps=[notes])
def chunks() -> dg.MaterializeResult:
    if CONTENT["fails"]:
        raise dg.Failure("told to", allow_retries=False)
    return dg.MaterializeResult(data_version=dg.DataVersion("c1"))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    CONTENT.update(notes="n1", fails=False)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("users", ["1", "2"])
        yield instance


def seen(instance: dg.DagsterInstance) -> list[tuple[str, str, str]]:
    found = find_lagging(read_chain(instance, upstream_of([notes, chunks]), ["1", "2"]), ["1", "2"])
    return [(item.user_id, item.asset, item.why) for item in found]


def make(instance: dg.DagsterInstance, *assets: dg.AssetsDefinition, user_id: str = "1") -> None:
    dg.materialize([notes, chunks], selection=[*assets], partition_key=user_id, instance=instance, raise_on_error=False)


def test_the_record_of_dagster_tells_what_lags(instance: dg.DagsterInstance) -> None:
    assert seen(instance) == []
    make(instance, notes)
    assert seen(instance) == [("1", "chunks", "missing")]
    make(instance, chunks)
    assert seen(instance) == []
    make(instance, notes)
    assert seen(instance) == [], "the same content again is no change"
    CONTENT["notes"] = "n2"
    make(instance, notes)
    assert seen(instance) == [("1", "chunks", "behind")]
    CONTENT["fails"] = True
    make(instance, chunks)
    make(instance, notes, chunks, user_id="2")
    assert seen(instance) == [("1", "chunks", "failed"), ("2", "chunks", "failed")]
    CONTENT["fails"] = False
    make(instance, chunks)
    make(instance, chunks, user_id="2")
    assert seen(instance) == []


def test_the_run_shows_them_marks_their_assets_and_tells_once_a_day(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWIN_HOME", "/nowhere")
    monkeypatch.delenv("REDIS_URL", raising=False)
    make(instance, notes)
    job, schedule = build_failed_partitions(load_settings(), [notes, chunks])
    stores = SimpleNamespace(stores=SimpleNamespace(breakers=Breakers()))
    with Listener() as listener:
        monkeypatch.setenv("ALERT_WEBHOOK_URL", listener.url)
        result = job.execute_in_process(instance=instance, resources={"stores": stores})
        # each run is a process of its own: without Redis the next one had forgotten, and told the same each hour
        assert job.execute_in_process(instance=instance, resources={"stores": stores}).success
    assert result.success
    (output,) = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    told = {key: value.value for key, value in output.step_output_data.metadata.items()}
    assert (told["users"], told["missing"], told["failed"], told["behind"]) == (2, 1, 0, 0)
    assert [record.data for record in told["partitions"].records] == [{"user": "1", "asset": "chunks", "why": "missing"}]
    seen = instance.fetch_observations(dg.AssetRecordsFilter(dg.AssetKey("chunks")), limit=5).records
    assert [record.partition_key for record in seen] == ["1"] * 2, "the mark is made by each run"
    ((_, _, _, body),) = listener.heard
    assert (body["kind"], body["code"], body["count"]) == ("partitions_behind", "missing", 1)
    assert isinstance(schedule, dg.ScheduleDefinition)


def test_another_set_or_another_day_is_told_and_what_nobody_took_is_told_again(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWIN_HOME", "/nowhere")
    monkeypatch.delenv("REDIS_URL", raising=False)
    job, _ = build_failed_partitions(load_settings(), [notes, chunks])
    stores = SimpleNamespace(stores=SimpleNamespace(breakers=Breakers()))

    def heard(*answers: int) -> int:
        with Listener(*answers) as listener:
            monkeypatch.setenv("ALERT_WEBHOOK_URL", listener.url)
            assert job.execute_in_process(instance=instance, resources={"stores": stores}).success
        return len(listener.heard)

    make(instance, notes)
    assert heard(400) == 1
    assert heard() == 1, "the one before was refused"
    assert heard() == 0
    make(instance, notes, user_id="2")
    assert heard() == 1
    told = next(run for run in instance.get_runs() if TOLD_TAG in run.tags)
    assert told_lately(instance, told.tags[TOLD_TAG], datetime.now(UTC))
    assert not told_lately(instance, told.tags[TOLD_TAG], datetime.now(UTC) + timedelta(days=2))
