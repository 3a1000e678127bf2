"""The day up to which memories are purged for good: by PostgreSQL's clock, and never by one that has jumped.

Belongs here: whether the clock is to be trusted, by what Dagster has on record of purges before.
Does not belong here: purging (`lpm_kernel/recall/retention.py`), and when (`schedules.py`).

A host that comes up months ahead would remove every memory of a turn, of everybody. Guarded against: the clocks of this
machine and of PostgreSQL more than a day apart, and a time more than four days after a run last trusted them. Where both run
on one machine nothing tells a clock that jumped from a machine that was off: that purge is refused, which is an alert, and the
next one goes on when the clock has gone on by then. Not guarded: a wrong clock that nobody sets right for a night, and the
first purge of all, before which nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile

import dagster as dg

from lpm_kernel.errors import StoreError
from lpm_kernel.stores.changes import database_time
from lpm_kernel.stores.tables import Tables

APART = timedelta(days=1)
FAR = timedelta(days=4)
"""After the clock was last trusted: a night or two that were missed."""
A_NIGHT = timedelta(hours=12)
"""For which a clock must have gone on since it was first seen ahead."""
CLOCK_TAG, IS_RIGHT = "twin/clock", "right"
"""On a run whose person has looked at the clock, and will not wait for the next night."""
SEEN_TAG, TRUSTED, DOUBTED = "twin/clock-seen", "trusted", "doubted"
"""On every run that looked at it: `trusted` or `doubted`, and what it said."""
JOB = "purge_memories_job"


@dataclass(frozen=True, slots=True)
class EarlierLook:
    at: datetime
    trusted: bool
    """By that run; else it doubted the clock."""


def decide_clock(machine: datetime, database: datetime, earlier: Sequence[EarlierLook]) -> str | None:
    """None where the clock may be gone by; else why not. `earlier`: as far back as is known, the last one first."""
    if abs(machine - database) > APART:
        return f"this machine says {machine:%Y-%m-%d %H:%M}, PostgreSQL {database:%Y-%m-%d %H:%M}"
    trusted = [look.at for look in earlier if look.trusted and look.at <= machine]
    doubted = [look.at for look in takewhile(lambda look: not look.trusted, earlier) if look.at <= machine]
    if not trusted or machine - max(trusted) <= FAR or any(machine - at >= A_NIGHT for at in doubted):
        return None
    return f"it is {machine:%Y-%m-%d %H:%M} by the clock, and no purge went before it within {FAR.days} days"


def check_clock(tables: Tables, instance: dg.DagsterInstance, run: dg.DagsterRun) -> date:
    """The day up to which this run may purge. Raises: StoreError `clock_doubted`, and of the tables."""
    with tables.operator_transaction() as connection:
        database = database_time(connection)
    machine = datetime.now(UTC)
    records = instance.get_run_records(dg.RunsFilter(job_name=JOB), limit=20)
    looks = [_look_of(record) for record in records if record.dagster_run.run_id != run.run_id]
    why = decide_clock(machine, database, [look for look in looks if look is not None])
    trusted = why is None or run.tags.get(CLOCK_TAG) == IS_RIGHT
    instance.add_run_tags(run.run_id, {SEEN_TAG: f"{TRUSTED if trusted else DOUBTED} {machine.isoformat()}"})
    if not trusted:
        raise StoreError(
            "clock_doubted",
            f"nothing is purged: {why}. Set the clock right; where it is, the next night purges, or a run with the tag "
            f"{CLOCK_TAG}={IS_RIGHT}",
            retryable=False,
        )
    return min(machine, database).date()


def _look_of(record: dg.RunRecord) -> EarlierLook | None:
    """None of a run that never looked."""
    seen, _, at = record.dagster_run.tags.get(SEEN_TAG, "").partition(" ")
    if seen:
        return EarlierLook(datetime.fromisoformat(at), seen == TRUSTED)
    return EarlierLook(record.create_timestamp, trusted=True) if record.dagster_run.is_success else None


def purged_on(instance: dg.DagsterInstance) -> date | None:
    """The day of the newest purge that went well, today at the latest; None where there was none."""
    done = dg.RunsFilter(job_name=JOB, statuses=[dg.DagsterRunStatus.SUCCESS])
    records = instance.get_run_records(done, limit=1)
    return min(records[0].create_timestamp, datetime.now(UTC)).astimezone(UTC).date() if records else None
