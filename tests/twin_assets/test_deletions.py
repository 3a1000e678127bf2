"""Deleted users in Dagster: who is gone on with, decided over plain values; and that runs and partition go along."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from lpm_kernel.erase import delete_user
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.deletions import UserDeletion, begin_deletion, find_deletion
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.users import find_user
from tests.samples import NOON
from twin_assets import deletions
from twin_assets.deletions import build_deletions_sensor, decide_deletions, settle_deletion
from twin_assets.partitions import PARTITION_TAG, users


def test_a_deletion_that_just_began_is_left_to_whoever_began_it() -> None:
    fresh, old = UserDeletion("ada", NOON, None), UserDeletion("bo", NOON - timedelta(minutes=3), None)
    done = UserDeletion("cy", NOON - timedelta(hours=1), NOON)
    assert decide_deletions([done, old, fresh], NOON + timedelta(seconds=5)) == [old, done]


def test_a_tick_begins_behind_where_the_last_one_ended() -> None:
    many = [UserDeletion(f"u{i}", NOON, NOON if i % 2 else None) for i in (3, 1, 2)]
    in_turn = [item.user_id for item in decide_deletions(many, NOON + timedelta(hours=1), after="u2")]
    assert in_turn == ["u3", "u1", "u2"]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@dg.op
def nothing() -> None: ...


@dg.job
def a_job() -> None:
    nothing()


def run_of(instance: dg.DagsterInstance, user_id: str) -> str:
    return a_job.execute_in_process(instance=instance, tags={PARTITION_TAG: user_id}).run_id


def deletion_of(stores: Stores, user_id: str) -> UserDeletion | None:
    with stores.tables.transaction(user_id) as connection:
        return find_deletion(connection, user_id)


def test_runs_and_partition_go_with_their_user_and_no_other(
    instance: dg.DagsterInstance, stores: Stores, new_user: Callable[[], str], tmp_path: Path
) -> None:
    gone, other = new_user(), new_user()
    instance.add_dynamic_partitions(users.name or "", [gone, other])
    run_of(instance, gone)
    kept = run_of(instance, other)
    delete_user(stores, gone, tmp_path)
    left = deletion_of(stores, gone)
    assert left is not None
    assert settle_deletion(instance, stores, left, tmp_path)
    assert instance.get_dynamic_partitions(users.name or "") == [other]
    assert [record.dagster_run.run_id for record in instance.get_run_records()] == [kept]
    assert deletion_of(stores, gone) is None


def test_while_a_run_is_under_way_the_deletion_stays_on_record(
    instance: dg.DagsterInstance, stores: Stores, user_id: str, tmp_path: Path
) -> None:
    instance.add_dynamic_partitions(users.name or "", [user_id])
    run = instance.create_run_for_job(a_job, tags={PARTITION_TAG: user_id}, status=dg.DagsterRunStatus.STARTED)
    delete_user(stores, user_id, tmp_path)
    left = deletion_of(stores, user_id)
    assert left is not None
    assert not settle_deletion(instance, stores, left, tmp_path)
    assert deletion_of(stores, user_id) == left
    instance.report_run_failed(run)
    assert settle_deletion(instance, stores, left, tmp_path)
    assert instance.get_runs_count() == 0


def test_an_id_that_is_in_use_again_keeps_its_partition_and_its_own_runs(
    instance: dg.DagsterInstance, stores: Stores, user_id: str, tmp_path: Path
) -> None:
    instance.add_dynamic_partitions(users.name or "", [user_id])
    run_of(instance, user_id)
    delete_user(stores, user_id, tmp_path)
    left = deletion_of(stores, user_id)
    assert left is not None
    receive_document(stores.tables, stores.blobs, stores.settings.limits, user_id, "new.md", b"A new note.")
    new = run_of(instance, user_id)
    assert settle_deletion(instance, stores, left, tmp_path)
    assert instance.get_dynamic_partitions(users.name or "") == [user_id]
    assert [record.dagster_run.run_id for record in instance.get_run_records()] == [new]
    with stores.tables.transaction(user_id) as connection:
        assert find_user(connection, user_id) is not None


def test_the_sensor_finishes_a_deletion_that_broke_off_and_settles_it(
    instance: dg.DagsterInstance, stores: Stores, user_id: str, tmp_path: Path
) -> None:
    instance.add_dynamic_partitions(users.name or "", [user_id])
    with stores.tables.transaction(user_id) as connection:
        begin_deletion(connection, user_id, datetime.now(UTC) - timedelta(hours=1))
    sensor = build_deletions_sensor(load_settings(), lambda: tmp_path)

    def tick() -> None:
        result = sensor(dg.build_sensor_context(instance=instance, resources={"stores": SimpleNamespace(stores=stores)}))
        assert isinstance(result, dg.SkipReason)

    tick()
    left = deletion_of(stores, user_id)
    assert left is not None
    assert left.done_at is not None
    tick()
    assert deletion_of(stores, user_id) is None
    assert user_id not in instance.get_dynamic_partitions(users.name or "")


def test_one_deletion_that_fails_as_nobody_foresaw_keeps_no_other_waiting(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, stores: Stores, tmp_path: Path
) -> None:
    """An error of Dagster's own ended the tick, and every tick after it, before those behind had their turn."""
    done = [UserDeletion(name, NOON, NOON) for name in ("abe", "bo")]
    settled: list[str] = []

    def settle(_: dg.DagsterInstance, __: Stores, deletion: UserDeletion, ___: Path) -> bool:
        if deletion.user_id == "abe":
            raise dg.DagsterInvariantViolationError("told to")
        settled.append(deletion.user_id)
        return True

    monkeypatch.setattr(deletions, "settle_deletion", settle)
    monkeypatch.setattr(deletions, "list_deletions", lambda _: done)
    sensor = build_deletions_sensor(load_settings(), lambda: tmp_path)
    result = sensor(dg.build_sensor_context(instance=instance, resources={"stores": SimpleNamespace(stores=stores)}))
    assert settled == ["bo"]
    assert isinstance(result, dg.SkipReason)
    assert "DagsterInvariantViolationError" in (result.skip_message or "")


def test_a_tick_whose_time_is_over_leaves_the_rest_to_the_next(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, stores: Stores, tmp_path: Path
) -> None:
    """The oldest were always the first, and twenty of them that failed each time left nobody else a turn."""
    done = [UserDeletion(name, NOON, NOON) for name in ("abe", "bo", "cy")]
    settled: list[str] = []

    def settle(_: dg.DagsterInstance, __: Stores, deletion: UserDeletion, ___: Path) -> bool:
        settled.append(deletion.user_id)
        return True

    monkeypatch.setattr(deletions, "settle_deletion", settle)
    monkeypatch.setattr(deletions, "list_deletions", lambda _: done)
    monkeypatch.setattr(deletions, "time", SimpleNamespace(monotonic=lambda: 40.0 * len(settled)))
    sensor = build_deletions_sensor(load_settings(), lambda: tmp_path)
    resources = {"stores": SimpleNamespace(stores=stores)}
    cursor = None
    for ended in ("abe", "bo", "cy"):
        context = dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources)
        result = sensor(context)
        assert settled[-1] == ended
        assert isinstance(result, dg.SkipReason)
        assert "2 wait for the next tick" in (result.skip_message or "")
        cursor = context.cursor
