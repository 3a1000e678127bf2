"""The nightly purge: everybody's, in batches, and one who fails keeps no other from it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from lpm_kernel.errors import StoreError
from lpm_kernel.recall.retention import purge_users
from lpm_kernel.stores.mem0_memories import Mem0Memories
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeEmbedder
from tests.samples import NOON, RANKING, make_memory_of
from twin_assets.partitions import users
from twin_assets.schedules import purge_memories_job

OLD, TODAY = date(2026, 3, 1), date(2026, 3, 2)


AWAY = StoreError("tables_unavailable", "told to")


class SomeFail:
    """Memories of which one user's cannot be reached."""

    def __init__(self, memories: Any, failing: str, error: Exception = AWAY) -> None:
        self._memories, self._failing, self._error = memories, failing, error

    def purge_expired(self, user_id: str, today: date) -> int:
        if user_id == self._failing:
            raise self._error
        return self._memories.purge_expired(user_id, today)


def test_a_user_who_fails_keeps_no_other_from_the_purge(stores: Stores, new_user: Callable[[], str]) -> None:
    one, two, three = (new_user() for _ in range(3))
    for user_id in (one, two, three):
        stores.memories.add_batch(user_id, [make_memory_of(user_id, "at the fair", expiration_date=OLD)])
    said: list[str] = []
    report = purge_users(SomeFail(stores.memories, two), [one, two, three], TODAY, said.append)  # type: ignore[arg-type]
    assert (report.purged, report.failed) == ({one: 1, three: 1}, {two: "tables_unavailable"})
    assert said == [
        f"user {one}: 1 memories purged",
        f"user {two}: not purged, tables_unavailable",
        f"user {three}: 1 memories purged",
    ]


def test_what_nobody_foresaw_of_one_user_ends_no_purge_and_its_words_are_not_told(
    stores: Stores, new_user: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    """Only errors of the project's own were caught: everybody behind that user kept what had expired, night after night."""
    one, two = new_user(), new_user()
    stores.memories.add_batch(two, [make_memory_of(two, "at the fair", expiration_date=OLD)])
    memories: Any = SomeFail(stores.memories, one, ValueError("at the fair"))
    said: list[str] = []
    report = purge_users(memories, [one, two], TODAY, said.append)
    assert (report.purged, report.failed) == ({two: 1}, {one: "ValueError"})
    assert "purge_expired" in caplog.text, "where it was"
    assert "fair" not in caplog.text + "".join(said)


def test_a_purge_of_many_lets_go_of_the_lock_between_batches(
    stores: Stores, user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memories = Mem0Memories(stores.tables.engine.url, FakeEmbedder(), RANKING)
    expiring = [make_memory_of(user_id, f"cat {i}", i, expiration_date=OLD) for i in range(7)]
    memories.add_batch(user_id, [*expiring, make_memory_of(user_id, "for ever", 9)])
    taken: list[str] = []
    monkeypatch.setattr("lpm_kernel.stores.mem0_memories.PURGE_BATCH", 3)
    monkeypatch.setattr("lpm_kernel.stores.mem0_memories.lock_memories", lambda _, user_id: taken.append(user_id))
    assert memories.purge_expired(user_id, TODAY) == 7
    assert taken == [user_id] * 3
    assert [memory.text for memory in memories.current(user_id, as_of=NOON + timedelta(days=9))] == ["for ever"]
    memories.close()


@pytest.mark.parametrize("failing", [False, True])
def test_the_job_purges_every_user_and_says_how_many(stores: Stores, new_user: Callable[[], str], failing: bool) -> None:
    one, two = new_user(), new_user()
    for user_id in (one, two):
        stores.memories.add_batch(user_id, [make_memory_of(user_id, "at the fair", expiration_date=OLD)])
    memories = SomeFail(stores.memories, one if failing else "")
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(users.name or "", [one, two])
        result = purge_memories_job.execute_in_process(
            instance=instance,
            resources={
                "stores": SimpleNamespace(
                    stores=SimpleNamespace(
                        memories=memories, blobs=stores.blobs, settings=stores.settings, tables=stores.tables
                    )
                )
            },
            raise_on_error=False,
        )
    assert result.success is not failing
    later = NOON + timedelta(hours=1)
    assert [len(stores.memories.current(user_id, as_of=later)) for user_id in (one, two)] == [int(failing), 0]
