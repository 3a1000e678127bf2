"""Ten users in one command, one of them killed half-way, and all finished by the same command again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psutil
import yaml

from bench.people import DATA
from lpm_kernel.embedded import engines, orphans
from lpm_kernel.embedded.home import locate_home
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.records import User
from lpm_kernel.settings import Settings, load_settings, settings_path
from lpm_kernel.stores.open import Stores, open_stores
from lpm_kernel.stores.releases import served_model
from twin_assets.backfill import leave_out_finished, run_backfill
from twin_assets.home import DAEMON, bring_up, service_programs
from twin_assets.instance import open_instance
from twin_assets.partitions import PARTITION_TAG
from twin_assets.people import register_user

USERS = tuple(f"person-{number}" for number in range(1, 11))
DOCUMENTS = 3
NOBODY = "nobody"
VICTIM_RUN = 3
"""The how-manieth run to be started is killed."""
SMALL = {
    "training": {"rank": 4, "alpha": 8, "epochs": 1, "max_rows": 16, "held_out_share": 0.25},
    "skill": {"start": False},  # there is none of this rank
    "evaluation": {"max_questions": 3, "answer_tokens": 8},
    "models": {"answer_tokens": 16},
    "topics": {"min_chunks": 1, "rebuild_share": 0.3},
}


def run(stores: Stores) -> None:
    """On a home of its own, with the smallest settings: what is measured is the way through the queue, not training."""
    with tempfile.TemporaryDirectory(prefix="twin-bench-backfill-") as name:
        folder = Path(name)
        before = dict(os.environ)
        os.environ["TWIN_SETTINGS"] = str(write_small_settings(folder))
        try:
            with running_home(folder / "home", load_settings()) as (home, settings):
                backfill(home, settings)
        finally:
            os.environ.clear()
            os.environ.update(before)


def write_small_settings(folder: Path, *, sensors: bool = False) -> Path:
    """Without `sensors` nobody but a backfill begins anything: each looks once as it starts, whatever its interval is."""
    content = yaml.safe_load(settings_path().read_text(encoding="utf-8"))
    for section, values in SMALL.items():
        content[section].update(values)
    content["automation"]["switches"].update(dict.fromkeys(("users_sensor", "catch_up_sensor"), sensors))
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@contextmanager
def running_home(home: Path, settings: Settings) -> Iterator[tuple[Path, Settings]]:
    """Engines and Dagster's daemon, without its UI and the API."""
    try:
        os.environ.update(bring_up(home, settings, services=False, say=lambda words: None))
        (program,) = (item for item in service_programs(home, settings, os.environ) if item.name == DAEMON)
        environment = {**program.environment, **orphans.mark(locate_home(home), DAEMON)}
        with (home / "daemon.log").open("wb") as log:
            daemon = psutil.Popen(program.command, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT)
            try:
                yield home, settings
            finally:
                daemon.terminate()
                daemon.wait(60)
    finally:
        engines.stop(home)


def backfill(home: Path, settings: Settings) -> None:
    everyone = ",".join(USERS)
    stores = open_stores(settings)
    try:
        with open_instance(home, settings, os.environ) as instance:
            take_in(stores, instance)
            wait_for_daemon(instance)
            killer = Killer(instance)
            killer.start()
            first = timed(lambda: run_backfill(settings, home, everyone, print_indented))
            killer.ended.set()
            killer.join()
            ready = [user for user in USERS if is_ready(stores, user)]
            if killer.victim == NOBODY:
                sys.exit("no run was killed, so nothing is shown: it was over before it could be")
            print(f"  killed: the run of {killer.victim}; ready after the first command: {len(ready)} of {len(USERS)}")
            left = leave_out_finished(settings, everyone, print_indented)
            second = timed(lambda: run_backfill(settings, home, left, print_indented)) if left else 0.0
            ready = [user for user in USERS if is_ready(stores, user)]
            print(f"  {'first command':24} {first:8.1f} s")
            print(f"  {'the same again':24} {second:8.1f} s for {len(left.split(',')) if left else 0} of {len(USERS)}")
            print(f"  {'a user':24} {(first + second) / len(USERS):8.1f} s")
            print(f"  {'of it not in a stage':24} {overhead_s(instance):8.1f} s")
            if len(ready) < len(USERS):
                sys.exit(f"not every twin is ready: {', '.join(sorted(set(USERS) - set(ready)))}")
    finally:
        stores.close()


def take_in(stores: Stores, instance: dg.DagsterInstance, user_ids: Sequence[str] = USERS) -> None:
    """Each user gets three documents of a demo person, no two the same three."""
    files = [path for person in ("1", "2") for path in sorted((DATA / "users" / person).iterdir()) if path.suffix != ".pdf"]
    for number, user_id in enumerate(user_ids):
        register_user(stores, instance, User(user_id, f"Person {number + 1}"))
        for path in [files[(2 * number + offset) % len(files)] for offset in range(DOCUMENTS)]:
            limits = stores.settings.limits
            receive_document(stores.tables, stores.blobs, limits, user_id, path.name, path.read_bytes())


def wait_for_daemon(instance: dg.DagsterInstance, seconds: float = 180.0) -> None:
    from twin_assets.backfill import daemon_lives

    deadline = time.monotonic() + seconds
    while not daemon_lives(instance):
        if time.monotonic() > deadline:
            sys.exit("the daemon shows no sign of life")
        time.sleep(1)


class Killer(threading.Thread):
    """Kills the process of one run once it is in its stages."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        super().__init__(daemon=True)
        self.instance, self.victim, self.ended = instance, NOBODY, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(1.0):
            started = self.instance.get_runs(dg.RunsFilter(tags={"twin/stages": "all"}), ascending=True)
            begun = [run for run in started if run.status is dg.DagsterRunStatus.STARTED or run.is_finished]
            if len(begun) < VICTIM_RUN or begun[VICTIM_RUN - 1].is_finished:
                continue
            victim = begun[VICTIM_RUN - 1]
            done = self.instance.all_logs(victim.run_id, of_type=dg.DagsterEventType.STEP_SUCCESS)
            pid = process_of(self.instance, victim.run_id)
            if len(done) >= 5 and pid is not None:
                os.kill(pid, signal.SIGKILL)
                self.victim = victim.tags.get(PARTITION_TAG, "?")
                return


def process_of(instance: dg.DagsterInstance, run_id: str) -> int | None:
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        noted = event.engine_event_data.metadata.get("pid") if event else None
        if noted is not None:
            return int(str(noted.value))
    return None


def overhead_s(instance: dg.DagsterInstance) -> float:
    """Of a run that succeeded, from its start to its end, what no step took: processes, imports, logs; the mean."""
    spent = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS])):
        stats = instance.get_run_step_stats(record.dagster_run.run_id)
        in_steps = sum((step.end_time or 0) - (step.start_time or 0) for step in stats if step.end_time and step.start_time)
        if record.start_time and record.end_time:
            spent.append(record.end_time - record.start_time - in_steps)
    return sum(spent) / max(1, len(spent))


def is_ready(stores: Stores, user_id: str) -> bool:
    with stores.tables.transaction(user_id) as connection:
        return served_model(connection, user_id).model_ready


def timed(work) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def print_indented(words: str) -> None:
    print(f"  {words}", flush=True)
