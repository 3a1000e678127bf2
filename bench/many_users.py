"""Many small users by one command that is killed twice: what one partition costs beside its stages, and who waits for whom.

The command is `twin backfill`, in a process of its own. At a quarter of the users it is killed together with the process of the
run under way; at half of them together with the daemon, its code server and every run, as when a machine goes down.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import dagster as dg
import psutil
import yaml

from bench.backfill import is_ready, overhead_s, process_of, wait_for_daemon, write_small_settings
from bench.people import DATA
from lpm_kernel.embedded import engines, orphans
from lpm_kernel.embedded.home import locate_home
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.records import User
from lpm_kernel.settings import Settings, load_settings
from lpm_kernel.stores.open import Stores, open_stores
from twin_assets.home import DAEMON, bring_up, service_programs
from twin_assets.instance import open_instance
from twin_assets.partitions import PARTITION_TAG
from twin_assets.people import register_user

CHARACTERS = 1500
"""Of each of a user's two documents."""
SMALLEST = {
    "training": {"rank": 2, "alpha": 4, "max_rows": 8, "eval_rows": 2},
    "evaluation": {
        "max_questions": 1,
        "answer_tokens": 4,
        "third_person_questions": 0,
        "preference_questions": 0,
        "context_questions": 0,
        "foreign_questions": 1,
        "canaries": 1,
    },
}
GIVE_UP_S = 1800.0
"""Without one more twin ready."""
TELL_EVERY = 10
"""Twins."""


def run(stores: Stores, users: int = 100) -> None:
    with tempfile.TemporaryDirectory(prefix="twin-bench-users-") as name:
        folder = Path(name)
        before = dict(os.environ)
        os.environ["TWIN_SETTINGS"] = str(_write_settings(folder))
        settings = load_settings()
        home = folder / "home"
        try:
            os.environ.update(bring_up(home, settings, services=False, say=_quiet))
            _backfill(home, settings, [f"person-{number}" for number in range(1, users + 1)])
        finally:
            engines.stop(home)
            os.environ.clear()
            os.environ.update(before)


def _write_settings(folder: Path) -> Path:
    path = write_small_settings(folder)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section, values in SMALLEST.items():
        content[section].update(values)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def _backfill(home: Path, settings: Settings, people: Sequence[str]) -> None:
    stores = open_stores(settings)
    try:
        with open_instance(home, settings, os.environ) as instance:
            _take_in(stores, instance, people)

            def ready() -> int:
                return sum(is_ready(stores, user) for user in people)

            began = time.monotonic()
            with daemon(home, settings, instance):
                with command(people) as first:
                    _until(len(people) // 4, ready, first)
                    victim = _kill_one_run(instance)
                    _kill(first)
                print(f"  {time.monotonic() - began:6.0f} s  killed: the command, and the run of {victim}; ready: {ready()}")
                with command(people, "--unfinished") as second:
                    _until(len(people) // 2, ready, second)
                    _kill(second)
                killed = _kill_all(home)
            print(
                f"  {time.monotonic() - began:6.0f} s  killed: the command, and {killed} processes of Dagster; ready: {ready()}"
            )
            bring_up(home, settings, services=False, say=_quiet)
            with daemon(home, settings, instance), command(people, "--unfinished") as third:
                _until(len(people), ready, third)
                ended = third.wait(GIVE_UP_S)
            total_s = time.monotonic() - began
            print(f"  {total_s:6.0f} s  the third command ended with {ended}; ready: {ready()} of {len(people)}")
            report(instance, people, total_s)
            if ended or ready() < len(people):
                sys.exit("not every twin is ready")
    finally:
        stores.close()


def _take_in(stores: Stores, instance: dg.DagsterInstance, people: Sequence[str]) -> None:
    """Each gets the beginnings of two documents of a demo person, and a line of their own."""
    files = [path for person in ("1", "2") for path in sorted((DATA / "users" / person).iterdir()) if path.suffix != ".pdf"]
    for number, user_id in enumerate(people):
        register_user(stores, instance, User(user_id, f"Person {number + 1}"))
        for path in {files[number % len(files)], files[(7 * number + 3) % len(files)]}:
            text = path.read_text(encoding="utf-8")[:CHARACTERS].rsplit("\n", 1)[0]
            data = f"{text}\n\nI keep {number + 100} marbles in jar {number}.\n".encode()
            receive_document(stores.tables, stores.blobs, stores.settings.limits, user_id, path.name, data)


@contextmanager
def daemon(home: Path, settings: Settings, instance: dg.DagsterInstance) -> Iterator[None]:
    """Dagster's daemon, until the block ends or it is killed."""
    (program,) = (item for item in service_programs(home, settings, os.environ) if item.name == DAEMON)
    environment = {**program.environment, **orphans.mark(locate_home(home), DAEMON)}
    with (home / "daemon.log").open("ab") as log:
        process = psutil.Popen(program.command, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for_daemon(instance)
            yield
        finally:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
            process.wait(60)


@contextmanager
def command(people: Sequence[str], *options: str) -> Iterator[psutil.Popen]:
    """`twin backfill`; what it says goes nowhere, and it is gone when the block ends."""
    twin = str(Path(sys.executable).parent / "twin")
    process = psutil.Popen([twin, "backfill", ",".join(people), *options], stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        _kill(process)


def _until(wanted: int, ready: Callable[[], int], process: psutil.Popen) -> None:
    """Until so many twins are ready. Ends the bench where the command has ended before, or no twin gets ready any more."""
    began = time.monotonic()
    last, deadline = ready(), began + GIVE_UP_S
    while last < wanted:
        ended, now = process.poll(), ready()
        if now > last:
            deadline = time.monotonic() + GIVE_UP_S
            if now // TELL_EVERY > last // TELL_EVERY:
                print(f"  {time.monotonic() - began:6.0f} s of this command  ready: {now}", flush=True)
        elif ended is not None or time.monotonic() > deadline:
            sys.exit(f"the command ended with {ended} while {now} of the {wanted} that were waited for were ready")
        last = now
        time.sleep(3)


def _kill(process: psutil.Popen) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()
    process.wait(30)


def _kill_one_run(instance: dg.DagsterInstance) -> str:
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        pid = process_of(instance, run.run_id)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return run.tags.get(PARTITION_TAG, "?")
    return "nobody"


def _kill_all(home: Path) -> int:
    """Everything of Dagster's at once."""
    found = [item for item in orphans.find(locate_home(home)) if item.name == DAEMON]
    for item in found:
        with suppress(psutil.NoSuchProcess):
            item.process.kill()
    return len(found)


@dataclass(frozen=True)
class Wait:
    """Of one run in the queue. Units: seconds, since the epoch or long."""

    user_id: str
    asked: float
    started: float
    priority: bool

    @property
    def seconds(self) -> float:
        return self.started - self.asked


def waits(instance: dg.DagsterInstance) -> list[Wait]:
    """Of every run that was started, those that asked first first."""
    found = []
    for record in instance.get_run_records():
        if record.start_time is not None:
            run = record.dagster_run
            asked = record.create_timestamp.timestamp()
            priority = "dagster/priority" in run.tags
            found.append(Wait(run.tags.get(PARTITION_TAG, "?"), asked, record.start_time, priority))
    return sorted(found, key=lambda each: each.asked)


def overtaken(found: Sequence[Wait]) -> int:
    """The most others that asked later and began earlier than one of them; those that are meant to go first left out."""
    plain = [each for each in found if not each.priority]
    return max((sum(b.asked > a.asked + 1 and b.started < a.started for b in plain) for a in plain), default=0)


def report(instance: dg.DagsterInstance, people: Sequence[str], total_s: float) -> None:
    found = waits(instance)
    plain = [each.seconds for each in found if not each.priority]
    first = [each.seconds for each in found if each.priority]
    runs = instance.get_runs_count()
    print(f"  {runs} runs for {len(people)} users, {total_s / len(people):.1f} s a user in all")
    print(f"  a run's time outside its stages: {overhead_s(instance):.1f} s; between two runs: {_gap_s(instance):.1f} s")
    print(f"  seconds in the queue: least {min(plain):.0f}, median {statistics.median(plain):.0f}, most {max(plain):.0f}")
    if first:
        print(f"  of those whose run was lost, launched again before the others: most {max(first):.0f} s, {len(first)} runs")
    print(f"  the most that began before one who had asked earlier: {overtaken(found)}")
    slow = [f"{stage} {seconds:.1f}" for stage, seconds in stage_seconds(instance).items() if seconds >= 1]
    print(f"  seconds of the stages that take one or more, medians: {', '.join(slow)}")
    jobs = Counter(run.job_name for run in instance.get_runs())
    print(f"  runs by job: {', '.join(f'{job} {number}' for job, number in jobs.most_common())}")


def stage_seconds(instance: dg.DagsterInstance) -> dict[str, float]:
    """The median of each stage over the runs that succeeded, the longest first."""
    found: dict[str, list[float]] = {}
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS])):
        for step in instance.get_run_step_stats(run.run_id):
            if step.start_time and step.end_time:
                found.setdefault(step.step_key, []).append(step.end_time - step.start_time)
    medians = {stage: statistics.median(seconds) for stage, seconds in found.items()}
    return dict(sorted(medians.items(), key=lambda each: -each[1]))


def _gap_s(instance: dg.DagsterInstance) -> float:
    """From the end of a run to the beginning of the next, while some wait: the median."""
    spans = sorted((r.start_time, r.end_time) for r in instance.get_run_records() if r.start_time and r.end_time)
    gaps = [later[0] - earlier[1] for earlier, later in pairwise(spans) if later[0] > earlier[1]]
    return statistics.median(gaps) if gaps else 0.0


def _quiet(words: str) -> None:
    pass
