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
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
FAILURE_TAG, STEP_FAILURE = "dagster/failure_reason", "STEP_FAILURE"
PRIORITY_TAG, FIRST = "dagster/priority", "1"
"""Of a run in the queue, before all that have none."""
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
    resume: bool = False,
) -> bool:
    """Launch a job for each user, with these tags on its runs, and wait; True when every user's last run succeeded.

    A user whose run of this job waits in the queue, or with `resume` is under way, gets no second one: that run is waited for.
    Why: after a command that was killed its runs go on, and the same command again built everybody twice, the user whose run
    was lost last of all. A run that crashes is launched again at once, before those that wait; with `resume` also one that
    crashed while nobody looked.
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
        # what was asked for with tags of its own is not what another run does
        taken_over = {} if tags else runs_under_way(instance, job, wanted, begun=resume)
        new = [user for user in wanted if user not in taken_over]
        lost = [user for user in new if resume and _has_lost_its_run(instance, job, user)]
        others = [user for user in new if user not in lost]
        launched = [launch(instance, job, lost, {**(tags or {}), PRIORITY_TAG: FIRST})] if lost else []
        launched += [launch(instance, job, others, tags or {})] if others else []
        waits = f", {len(taken_over)} had a run already" if taken_over else ""
        waits += f", {len(lost)} whose run was lost go first" if lost else ""
        named = f"backfill {' and '.join(launched)}" if launched else "no new backfill"
        say(f"{named}: {len(new)} users queued{waits}, at most {settings.limits.concurrent_runs} at a time")

        def again(user: str) -> str:
            return launch(instance, job, [user], {**(tags or {}), PRIORITY_TAG: FIRST})

        return watch_backfill(
            instance,
            launched,
            len(wanted),
            say,
            taken_over=tuple(taken_over.values()),
            again=again,
            max_again=settings.retries.max_retries,
        )


def runs_under_way(instance: dg.DagsterInstance, job: str, wanted: Sequence[str], *, begun: bool) -> dict[str, str]:
    """The newest waiting run of this job of each of these users who has one; with `begun` also one that is under way."""
    statuses = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]
    statuses += [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED] if begun else []
    found: dict[str, str] = {}
    for run in instance.get_runs(dg.RunsFilter(job_name=job, statuses=statuses)):  # newest first
        user = run.tags.get(PARTITION_TAG, "")
        if user in wanted:
            found.setdefault(user, run.run_id)
    return found


def _has_lost_its_run(instance: dg.DagsterInstance, job: str, user_id: str) -> bool:
    last = instance.get_runs(dg.RunsFilter(job_name=job, tags={PARTITION_TAG: user_id}), limit=1)
    return bool(last) and has_crashed(last[0])


def launch(instance: dg.DagsterInstance, job: str, user_ids: Sequence[str], tags: Mapping[str, str]) -> str:
    """Queue a run of the job for each of these users; the id of their backfill. Raises: EngineError `backfill_refused`."""
    mark = uuid.uuid4().hex
    launched = subprocess.run(
        [
            str(Path(sys.executable).parent / "dagster"),
            *("job", "backfill", "-m", CODE_LOCATION, "-j", job, "--partitions", ",".join(user_ids), "--noprompt"),
            *("--tags", json.dumps({LAUNCH_TAG: mark, **tags})),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    # by its tag: another person may have launched one at the same moment
    own = [record.backfill_id for record in instance.get_backfills() if record.tags.get(LAUNCH_TAG) == mark]
    if launched.returncode != 0 or not own:
        raise EngineError(
            "backfill_refused", f"dagster job backfill ended with {launched.returncode}: {launched.stderr[-500:]}"
        )
    return own[0]


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
    backfill_ids: Sequence[str],
    expected: int,
    say: Callable[[str], None],
    *,
    taken_over: Sequence[str] = (),
    again: Callable[[str], str] | None = None,
    max_again: int = 0,
    poll_s: float = POLL_S,
    grace_s: float = DAEMON_GRACE_S,
) -> bool:
    """Say what changes until the last run of every user has ended; True when all of these succeeded.

    `taken_over`: ids of runs that belong to no backfill of these. `again`: launches a user's run once more and gives the id of
    its backfill; asked for where a run crashed, `max_again` times for one user. Why not left to Dagster's retries: it gives
    none to a run of a backfill that was launched whole, and whoever was killed first waited for all others to end.
    Raises: EngineError `daemon_missing` when the daemon has shown no sign of life for `grace_s`: nothing would ever change.
    """
    ids, asked, noted = list(backfill_ids), Counter[str](), set[str]()
    started, shown = time.monotonic(), ""
    alive_at = started
    while True:
        latest = _latest_runs(instance, ids, taken_over)
        words = ", ".join(f"{user}: {run.status.value.lower()}" for user, run in sorted(latest.items()))
        if words != shown:
            say(f"{time.monotonic() - started:6.0f} s  {words}")
            shown = words
        for user, run in latest.items():
            if again and has_crashed(run) and run.run_id not in noted and asked[user] < max_again:
                noted.add(run.run_id)
                asked[user] += 1
                ids.append(again(user))
                say(f"{time.monotonic() - started:6.0f} s  the run of {user} crashed and is launched again, before the others")
        runs = latest.values()
        renewed = any(run.run_id in noted for run in runs)  # the run in its place is seen at the next look
        if not renewed and all(run.is_finished for run in runs) and (len(runs) >= expected or _is_over(instance, ids)):
            return len(runs) >= expected and all(run.is_success for run in runs)
        if daemon_lives(instance):
            alive_at = time.monotonic()
        elif time.monotonic() - alive_at > grace_s:
            raise EngineError(
                "daemon_missing",
                f"the Dagster daemon has ended and backfill {', '.join(ids)} waits for it ({words or 'no run yet'}): `twin up` "
                "starts it, and the backfill then goes on by itself; the Dagster UI shows it",
            )
        time.sleep(poll_s)


def has_crashed(run: dg.DagsterRun) -> bool:
    """Whether its process died, or Dagster failed around it: no stage has failed, and all that is missing is another try."""
    return run.status is dg.DagsterRunStatus.FAILURE and run.tags.get(FAILURE_TAG) != STEP_FAILURE


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


def _latest_runs(
    instance: dg.DagsterInstance, backfill_ids: Sequence[str], taken_over: Sequence[str]
) -> dict[str, dg.DagsterRun]:
    """The newest run of each user."""
    found = list(instance.get_runs(dg.RunsFilter(tags={BACKFILL_TAG: list(backfill_ids)}))) if backfill_ids else []
    if taken_over:
        found += instance.get_runs(dg.RunsFilter(run_ids=list(taken_over)))
    latest: dict[str, dg.DagsterRun] = {}
    for run in found:  # newest first, and what was launched here is newer than what was taken over
        latest.setdefault(run.tags.get(PARTITION_TAG, "?"), run)
    return latest


def _is_over(instance: dg.DagsterInstance, backfill_ids: Sequence[str]) -> bool:
    """Whether no run of them will be made any more: cancelled in the UI, or Dagster could not submit its runs."""
    from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionStatus

    # one that the command line launches is written as completed before its runs are seen
    over = set(BULK_ACTION_TERMINAL_STATUSES) - {BulkActionStatus.COMPLETED, BulkActionStatus.COMPLETED_SUCCESS}
    found = [instance.get_backfill(backfill_id) for backfill_id in backfill_ids]
    return all(backfill is None or backfill.status in over for backfill in found)
