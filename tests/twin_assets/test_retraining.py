"""Weekly retraining: who has enough that is new, once a week each."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from lpm_kernel.automation_settings import RetrainAfter
from lpm_kernel.errors import StoreError
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.stores.documents import list_documents, mark_read
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import promote_release
from tests.fakes import AwayTables
from tests.samples import make_release
from twin_assets import retraining
from twin_assets.partitions import users
from twin_assets.retraining import WEEK_TAG, NewMemory, ask_for_retraining, count_new, decide_retraining, week_of

ENOUGH = RetrainAfter(documents=2, ratings=3, memories=0)
SUNDAY = datetime(2026, 3, 1, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("documents", "ratings", "memories", "trained"),
    [(0, 0, 0, False), (1, 2, 500, False), (2, 0, 0, True), (0, 3, 0, True)],
)
def test_enough_of_one_kind_is_enough_and_what_is_not_counted_never_is(
    documents: int, ratings: int, memories: int, trained: bool
) -> None:
    assert bool(decide_retraining([NewMemory("1", documents, ratings, memories)], ENOUGH, "2026-w09")) is trained


def test_who_was_asked_for_this_week_or_is_being_built_is_left_alone() -> None:
    found = [NewMemory("1", 9, 9, 9, done_or_busy=True), NewMemory("2", 9, 9, 9)]
    assert decide_retraining(found, ENOUGH, "2026-w09") == (("2", "retrain-2-2026-w09"),)


def test_a_week_is_named_by_its_year_and_number_in_utc() -> None:
    assert week_of(SUNDAY) == "2026-w09"
    assert week_of(SUNDAY + timedelta(days=1)) == "2026-w10"
    assert week_of(datetime(2027, 1, 1, tzinfo=UTC)) == "2026-w53"


def send(stores: Stores, user_id: str, name: str) -> str:
    result = receive_document(
        stores.tables, stores.blobs, stores.settings.limits, user_id, name, f"The note {name} of {user_id}.".encode()
    )
    assert result.sha256
    with stores.tables.transaction(user_id) as connection:
        mark_read(connection, user_id, result.sha256, 20, "utf-8", "1")
    return result.sha256


def test_documents_that_the_live_release_was_not_made_from_are_counted(stores: Stores, user_id: str) -> None:
    assert count_new(stores, user_id, ENOUGH, SUNDAY) is None, "nothing serves yet"
    known = send(stores, user_id, "a.md")
    with stores.tables.transaction(user_id) as connection:
        promote_release(connection, replace(make_release(user_id), documents=(known,)))
    assert count_new(stores, user_id, ENOUGH, SUNDAY) == NewMemory(user_id, 0, 0, 0)
    for name in ("b.md", "c.md"):
        send(stores, user_id, name)
    assert count_new(stores, user_id, ENOUGH, SUNDAY) == NewMemory(user_id, 2, 0, 0)
    with stores.tables.transaction(user_id) as connection:
        assert len(list_documents(connection, user_id)) == 3


def test_a_run_is_asked_for_once_a_week(stores: Stores, user_id: str) -> None:
    known = send(stores, user_id, "a.md")
    with stores.tables.transaction(user_id) as connection:
        promote_release(connection, replace(make_release(user_id), documents=(known,)))
    for name in ("b.md", "c.md"):
        send(stores, user_id, name)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(users.name or "", [user_id])
        asked = ask_for_retraining(instance, stores, ENOUGH, SUNDAY)
        assert isinstance(asked, list)
        assert [(item.run_key, item.partition_key, item.tags[WEEK_TAG]) for item in asked] == [
            (f"retrain-{user_id}-2026-w09", user_id, "2026-w09")
        ]
        run = dg.DagsterRun(
            job_name="retraining_job",
            status=dg.DagsterRunStatus.SUCCESS,
            tags={WEEK_TAG: "2026-w09", "dagster/partition": user_id},
        )
        instance.add_run(run)
        assert isinstance(ask_for_retraining(instance, stores, ENOUGH, SUNDAY), dg.SkipReason)
        assert isinstance(ask_for_retraining(instance, stores, ENOUGH, SUNDAY + timedelta(days=7)), list)


def test_one_whose_record_cannot_be_read_keeps_nobody_else_from_being_trained(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(_: Stores, user_id: str, *__: object) -> NewMemory:
        if user_id == "abe":
            raise StoreError("artefact_unreadable", "of another form", retryable=False)
        return NewMemory(user_id, 9, 0, 0)

    monkeypatch.setattr(retraining, "count_new", count)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(users.name or "", ["abe", "bo"])
        asked = ask_for_retraining(instance, stores, ENOUGH, SUNDAY)
    assert isinstance(asked, list)
    assert [item.partition_key for item in asked] == ["bo"]


def test_tables_that_are_away_are_a_skip_and_not_nothing_new(stores: Stores, user_id: str) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(users.name or "", [user_id])
        away = ask_for_retraining(instance, replace(stores, tables=AwayTables()), ENOUGH, SUNDAY)  # type: ignore[arg-type]
    assert isinstance(away, dg.SkipReason)
    assert "cannot be read" in (away.skip_message or "")
