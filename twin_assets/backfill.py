"""Backfills from the command line, by Dagster's own machinery.

Belongs here: launching one run a user through the queue, and watching until all have ended.
Does not belong here: running stages in this process.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from lpm_kernel.errors import EngineError, UserInputError
from lpm_kernel.records import check_user_id
from lpm_kernel.settings import Settings
from twin_assets.home import CODE_LOCATION
from twin_assets.partitions import users

POLL_S = 2.0
BACKFILL_TAG = "dagster/backfill"


def run_backfill(settings: Settings, user_ids: str, say: Callable[[str], None]) -> bool:
    """Launch `twin_job` for each user and wait; True when every run succeeded.

    Raises: UserInputError `user_id_invalid`, `twin_not_found` (an unknown partition); EngineError `backfill_refused`.
    """
    wanted = [check_user_id(part.strip()) for part in user_ids.split(",") if part.strip()]
    with dg.DagsterInstance.get() as instance:
        unknown = sorted(set(wanted) - set(instance.get_dynamic_partitions(users.name or "")))
        if not wanted or unknown:
            raise UserInputError(
                "twin_not_found", f"not known to Dagster: {', '.join(unknown) or '(nobody named)'}; `twin add-user` first"
            )
        if not any(health.healthy for health in _daemon_health(instance)):
            raise EngineError(
                "daemon_missing", "the Dagster daemon is not running, so nothing would start the runs: `twin up` first"
            )
        before = {record.backfill_id for record in instance.get_backfills()}
        launched = subprocess.run(
            [
                str(Path(sys.executable).parent / "dagster"),
                *("job", "backfill", "-m", CODE_LOCATION, "-j", "twin_job", "--partitions", ",".join(wanted), "--noprompt"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        new = [record.backfill_id for record in instance.get_backfills() if record.backfill_id not in before]
        if launched.returncode != 0 or not new:
            raise EngineError(
                "backfill_refused", f"dagster job backfill ended with {launched.returncode}: {launched.stderr[-500:]}"
            )
        say(f"backfill {new[0]}: {len(wanted)} users queued, at most {settings.limits.concurrent_runs} at a time")
        return _watch(instance, new[0], len(wanted), say)


def _watch(instance: dg.DagsterInstance, backfill_id: str, expected: int, say: Callable[[str], None]) -> bool:
    started, shown = time.monotonic(), ""
    while True:
        runs = instance.get_runs(dg.RunsFilter(tags={BACKFILL_TAG: backfill_id}))
        states = {run.tags.get("dagster/partition", "?"): run.status.value for run in runs}
        words = ", ".join(f"{user}: {state.lower()}" for user, state in sorted(states.items()))
        if words != shown:
            say(f"{time.monotonic() - started:6.0f} s  {words}")
            shown = words
        if len(runs) >= expected and all(run.is_finished for run in runs):
            return all(run.is_success for run in runs)
        time.sleep(POLL_S)


def _daemon_health(instance: dg.DagsterInstance) -> list:
    from dagster._daemon.controller import get_daemon_statuses

    required = [kind for kind in instance.get_required_daemon_types() if kind == "QUEUED_RUN_COORDINATOR"]
    return list(get_daemon_statuses(instance, required).values())
