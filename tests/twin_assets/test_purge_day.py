"""A clock that has jumped purges nothing: refused by name, and gone by only when it has gone on for a night."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from lpm_kernel.stores.open import Stores
from tests.samples import make_memory_of
from twin_assets import purge_day
from twin_assets.partitions import users
from twin_assets.purge_day import CLOCK_TAG, IS_RIGHT, EarlierLook, decide_clock, purged_on
from twin_assets.schedules import purge_memories_job

NIGHT = datetime(2026, 3, 1, 3, 15, tzinfo=UTC)
LATE = NIGHT + timedelta(days=200)


def purges(*at: datetime, trusted: bool = True) -> list[EarlierLook]:
    return [EarlierLook(each, trusted) for each in at]


@pytest.mark.parametrize(
    ("now", "earlier", "trusted"),
    [
        (NIGHT, [], True),
        (NIGHT, purges(NIGHT - timedelta(days=1)), True),
        (NIGHT, purges(NIGHT - timedelta(days=3, seconds=-30)), True),
        (NIGHT, purges(NIGHT - timedelta(minutes=5)), True),
        (LATE, purges(NIGHT, NIGHT - timedelta(days=1)), False),
        (LATE, [*purges(LATE - timedelta(minutes=1), trusted=False), *purges(NIGHT)], False),
        (LATE, [*purges(LATE - timedelta(days=1), trusted=False), *purges(NIGHT)], True),
        (LATE, [*purges(LATE - timedelta(days=7), trusted=False), *purges(NIGHT)], True),
        (LATE, [*purges(NIGHT), *purges(NIGHT - timedelta(days=1), trusted=False)], False),
        (NIGHT, purges(LATE), True),
    ],
    ids=[
        *("first", "nightly", "missed two", "by hand", "jumped", "asked again", "went on", "is off for a week each time"),
        *("doubted before it was trusted", "set back"),
    ],
)
def test_a_day_is_gone_by_when_a_purge_went_before_it_or_the_clock_went_on_for_a_night(
    now: datetime, earlier: list[EarlierLook], trusted: bool
) -> None:
    assert (decide_clock(now, now, earlier) is None) is trusted


@pytest.mark.parametrize("sign", [1, -1])
def test_a_machine_and_a_database_that_are_days_apart_purge_nothing(sign: int) -> None:
    nightly = purges(NIGHT - timedelta(days=1))
    assert decide_clock(NIGHT, NIGHT + sign * timedelta(hours=20), nightly) is None
    assert "PostgreSQL" in (decide_clock(NIGHT, NIGHT + sign * timedelta(days=2), nightly) or "")


class JumpedClock(datetime):
    """Of a host that came up months ahead."""

    ahead = timedelta()

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime.now(tz) + cls.ahead


def test_a_host_that_comes_up_months_ahead_removes_no_memory_and_says_why(
    stores: Stores, user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every memory of a turn was past its day, of everybody, and was removed for good in one night."""
    today = datetime.now(UTC).date()
    lasting = make_memory_of(user_id, "at the fair", expiration_date=today + timedelta(days=80))
    stores.memories.add_batch(user_id, [lasting])
    monkeypatch.setattr(purge_day, "datetime", JumpedClock)
    monkeypatch.setattr(purge_day, "database_time", lambda _: JumpedClock.now(UTC))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(users.name or "", [user_id])

        def purge(**tags: str) -> dg.ExecuteInProcessResult:
            resources = {"stores": SimpleNamespace(stores=stores)}
            return purge_memories_job.execute_in_process(
                instance=instance, resources=resources, raise_on_error=False, tags=tags
            )

        assert purged_on(instance) is None
        assert purge().success
        done = purged_on(instance)
        assert done in (today, today + timedelta(days=1)), "it may be midnight"
        monkeypatch.setattr(JumpedClock, "ahead", timedelta(days=100))
        refused = purge()
        assert not refused.success
        (failure,) = (event.step_failure_data for event in refused.all_events if event.is_step_failure)
        assert failure.user_failure_data is not None
        assert failure.user_failure_data.metadata["code"].value == "clock_doubted"
        assert [event.step_key for event in refused.all_events if event.is_step_success] == ["sweep_uploads"], "none the less"
        assert not purge().success, "nor when it is asked again at once"
        assert [memory.text for memory in stores.memories.every(user_id)] == ["at the fair"]
        assert purged_on(instance) == done, "so no reconciliation removes it either"
        assert purge(**{CLOCK_TAG: IS_RIGHT}).success
        assert stores.memories.every(user_id) == []
