"""Votes that Dagster's daemon alone resolves: real deadlines, the real sensor each minute, real runs, and no API."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import yaml

from bench.backfill import running_home, wait_for_daemon
from bench.dao_members import make_members, percentiles, rules_with
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.service import Dao
from lpm_kernel.settings import Settings, load_settings, settings_path
from lpm_kernel.stores.open import Stores, open_stores
from twin_assets.dao_sensor import STEP_TAG
from twin_assets.instance import open_instance

MEMBERS = 10
GOAL_S = 75.0
FIRST_IN_S = 20.0
GIVE_UP_S = 300.0
OTHERS_S = 86_400
"""Of the sensors about documents: nobody sends any here."""


def by_sensor(proposals: int, within_s: float) -> None:
    """On a home of its own. By their clock the votes began an hour ago; they end at moments of chance in the next minutes."""
    with tempfile.TemporaryDirectory(prefix="twin-bench-dao-") as name:
        folder = Path(name)
        before = dict(os.environ)
        content = yaml.safe_load(settings_path().read_text(encoding="utf-8"))
        content["automation"].update({"users_sensor_interval_s": OTHERS_S, "catch_up_sensor_interval_s": OTHERS_S})
        (folder / "settings.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        os.environ["TWIN_SETTINGS"] = str(folder / "settings.yaml")
        try:
            with running_home(folder / "home", load_settings()) as (home, settings):
                stores = open_stores(settings)
                try:
                    with open_instance(home, settings, os.environ) as instance:
                        wait_for_daemon(instance)
                        _measure(stores, settings, instance, proposals, within_s)
                finally:
                    stores.close()
        finally:
            os.environ.clear()
            os.environ.update(before)


def _measure(stores: Stores, settings: Settings, instance: dg.DagsterInstance, proposals: int, within_s: float) -> None:
    members = make_members(stores, MEMBERS)
    rnd = random.Random(1)
    start = datetime.now(UTC) + timedelta(seconds=FIRST_IN_S)
    ends = sorted(start + timedelta(seconds=rnd.uniform(0, within_s)) for _ in range(proposals))
    made = _propose(stores, settings, members, ends)
    resolved = _wait(stores, settings, made, ends[-1])
    waits = [
        (each.resolution.resolved_at - each.ends_at).total_seconds() for each in resolved if each.resolution and each.ends_at
    ]
    print(f"  {proposals} deadlines at moments of chance, the sensor each {settings.dao.sensor_interval_s} s, no API beside it")
    print(f"  {'':34} {'p50':>8} {'p95':>8} {'max':>8}")
    print(f"  {'seconds from deadline to resolution':34} {percentiles(waits)}")
    records = _ended_runs(instance)
    asked = [each for each in records if each.start_time and each.end_time]
    if asked:
        queued = [(each.start_time or 0) - each.create_timestamp.timestamp() for each in asked]
        print(f"  {'of these, in the queue and starting':34} {percentiles(queued)}   {len(records)} runs")
        print(
            f"  {'a run, checks included':34} {percentiles([(each.end_time or 0) - (each.start_time or 0) for each in asked])}"
        )
    print(f"  goal of {GOAL_S:.0f} s {'met' if max(waits) <= GOAL_S else 'missed'}")


def _ended_runs(instance: dg.DagsterInstance) -> list[dg.RunRecord]:
    """Those that the sensor asked for, once the last one is over: its checks come after the resolution."""
    deadline = time.monotonic() + GIVE_UP_S
    while True:
        records = [each for each in instance.get_run_records() if STEP_TAG in each.dagster_run.tags]
        if all(each.dagster_run.is_finished for each in records) or time.monotonic() > deadline:
            return records
        time.sleep(1.0)


def _propose(stores: Stores, settings: Settings, members: Sequence[str], ends: Sequence[datetime]) -> list[str]:
    """One vote for each end. Everything is as it would be had it been cast in the last hour."""
    changed = {"close": "deadline", "discussion_hours": 0, "voting_hours": 1, "late_quorum_hours": 0, "extend_stalled": False}
    rules = rules_with(settings.dao, **changed, remind_at_percent=(), standing_at_percent=100)
    made: list[str] = []
    for number, end in enumerate(ends):
        begins = end - timedelta(hours=1)
        made.append(
            Dao(stores.tables, rules, lambda at=begins: at).propose(members[0], f"Vote {number}", "A kettle.").proposal_id
        )
        voting = Dao(stores.tables, rules, lambda at=begins + timedelta(minutes=5): at)
        for member in members:
            voting.vote(member, made[-1], "for")
    return made


def _wait(stores: Stores, settings: Settings, made: Sequence[str], last: datetime) -> list[ProposalState]:
    dao = Dao(stores.tables, settings.dao)
    while True:
        found = [dao.proposal(proposal_id) for proposal_id in made]
        if all(proposal.resolution for proposal in found):
            return found
        if datetime.now(UTC) - last > timedelta(seconds=GIVE_UP_S):
            raise RuntimeError(f"{sum(not each.resolution for each in found)} votes were not resolved in {GIVE_UP_S:.0f} s")
        time.sleep(1.0)
