"""Backfills from the command line, by Dagster's own machinery.

Belongs here: launching one run a user through the queue, and watching until all have ended.
Does not belong here: running stages in this process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import dagster as dg

from lpm_kernel.errors import EngineError, UserInputError
from lpm_kernel.L2.release import find_unbuilt
from lpm_kernel.records import check_user_id
from lpm_kernel.settings import Settings
from lpm_kernel.stores.open import open_stores
from lpm_kernel.stores.users import find_user
from twin_assets.home import CODE_LOCATION
from twin_assets.instance import open_instance
from twin_assets.partitions import PARTITION_TAG, users

POLL_S = 2.0
BACKFILL_TAG = "dagster/backfill"
LAUNCH_TAG = "twin/launch"
QUEUE_DAEMON = "QUEUED_RUN_COORDINATOR"

HEARTBEAT_EVERY_S, HEARTBEAT_LATE_S = 30.0, 30.0
"""The daemon writes one every half minute, on a busy machine a little later. Dagster's own tolerance is half an hour."""

DAEMON_GRACE_S = 60.0
"""How long a heartbeat may be missing while a backfill is watched: a laptop that slept finds an old one when it wakes up."""


def run_backfill(
    settings: Settings,
    home: Path,
    user_ids: str,
    say: Callable[[str], None],
    *,
    job: str = "twin_job",
    tags: Mapping[str, str] | None = None,
) -> bool:
    """Launch a job for each user, with these tags on its runs, and wait; True when every user's last run succeeded.

    Raises: UserInputError `user_id_invalid`, `twin_not_found` (an unknown partition); EngineError `backfill_refused`,
    `daemon_missing` (before the launch, or when the daemon ends while runs are waiting), `engines_down`.
    """
    wanted = list(dict.fromkeys(check_user_id(part.strip()) for part in user_ids.split(",") if part.strip()))
    with open_instance(home, settings, os.environ) as instance:
        unknown = sorted(set(wanted) - set(instance.get_dynamic_partitions(users.name or "")))
        if not wanted or unknown:
            raise UserInputError(
                "twin_not_found", f"not known to Dagster: {', '.join(unknown) or '(nobody named)'}; `twin add-user` first"
            )
        if not daemon_lives(instance):
            raise EngineError(
                "daemon_missing", "the Dagster daemon is not running, so nothing would start the runs: `twin up` first"
            )
        launch = uuid.uuid4().hex
        launched = subprocess.run(
            [
                str(Path(sys.executable).parent / "dagster"),
                *("job", "backfill", "-m", CODE_LOCATION, "-j", job, "--partitions", ",".join(wanted), "--noprompt"),
                *("--tags", json.dumps({LAUNCH_TAG: launch, **(tags or {})})),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        # by its tag: another person may have launched one at the same moment
        own = [record.backfill_id for record in instance.get_backfills() if record.tags.get(LAUNCH_TAG) == launch]
        if launched.returncode != 0 or not own:
            raise EngineError(
                "backfill_refused", f"dagster job backfill ended with {launched.returncode}: {launched.stderr[-500:]}"
            )
        say(f"backfill {own[0]}: {len(wanted)} users queued, at most {settings.limits.concurrent_runs} at a time")
        return watch_backfill(instance, own[0], len(wanted), say)


def leave_out_finished(settings: Settings, user_ids: str, say: Callable[[str], None]) -> str:
    """Of these users (comma-separated), those of whose documents some are in no release that may serve, and those unknown."""
    left = []
    stores = open_stores(settings)
    try:
        for user_id in [part.strip() for part in user_ids.split(",") if part.strip()]:
            with stores.tables.transaction(user_id) as connection:
                known, unbuilt = find_user(connection, user_id), find_unbuilt(connection, user_id)
            if known and unbuilt is None:
                say(f"{user_id} is built")
            else:
                left.append(user_id)
    finally:
        stores.close()
    return ",".join(left)


def watch_backfill(
    instance: dg.DagsterInstance,
    backfill_id: str,
    expected: int,
    say: Callable[[str], None],
    *,
    poll_s: float = POLL_S,
    grace_s: float = DAEMON_GRACE_S,
) -> bool:
    """Say what changes until the last run of every user has ended; True when all of these succeeded.

    Raises: EngineError `daemon_missing` when the daemon has shown no sign of life for `grace_s`: nothing would ever change.
    """
    started, shown = time.monotonic(), ""
    alive_at = started
    while True:
        latest = _latest_runs(instance, backfill_id)
        words = ", ".join(f"{user}: {run.status.value.lower()}" for user, run in sorted(latest.items()))
        if words != shown:
            say(f"{time.monotonic() - started:6.0f} s  {words}")
            shown = words
        runs = latest.values()
        if all(run.is_finished for run in runs) and (len(runs) >= expected or _is_over(instance, backfill_id)):
            return len(runs) >= expected and all(run.is_success for run in runs)
        if daemon_lives(instance):
            alive_at = time.monotonic()
        elif time.monotonic() - alive_at > grace_s:
            raise EngineError(
                "daemon_missing",
                f"the Dagster daemon has ended and backfill {backfill_id} waits for it ({words or 'no run yet'}): `twin up` "
                "starts it, and the backfill then goes on by itself; the Dagster UI shows it",
            )
        time.sleep(poll_s)


def daemon_lives(instance: dg.DagsterInstance) -> bool:
    """Whether the daemon that starts queued runs has shown a sign of life of late."""
    from dagster._daemon.controller import get_daemon_statuses

    statuses = get_daemon_statuses(
        instance,
        [QUEUE_DAEMON],
        ignore_errors=True,
        heartbeat_interval_seconds=HEARTBEAT_EVERY_S,
        heartbeat_tolerance_seconds=HEARTBEAT_LATE_S,
    )
    return bool(statuses[QUEUE_DAEMON].healthy)


def _latest_runs(instance: dg.DagsterInstance, backfill_id: str) -> dict[str, dg.DagsterRun]:
    """The newest run of each user."""
    latest: dict[str, dg.DagsterRun] = {}
    for run in instance.get_runs(dg.RunsFilter(tags={BACKFILL_TAG: backfill_id})):  # newest first
        latest.setdefault(run.tags.get(PARTITION_TAG, "?"), run)
    return latest


def _is_over(instance: dg.DagsterInstance, backfill_id: str) -> bool:
    """Whether no run of it will be made any more: it was cancelled in the UI, or Dagster could not submit its runs."""
    from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionStatus

    backfill = instance.get_backfill(backfill_id)
    # one that the command line launches is written as completed before its runs are seen
    over = set(BULK_ACTION_TERMINAL_STATUSES) - {BulkActionStatus.COMPLETED, BulkActionStatus.COMPLETED_SUCCESS}
    return backfill is None or backfill.status in over
