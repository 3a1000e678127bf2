"""One user's run whose steps two workers execute: Dagster's Celery executor over the Redis that is there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg
import psutil
import yaml

from bench.backfill import (
    is_ready,
    print_indented,
    running_home,
    take_in,
    timed,
    wait_for_daemon,
    write_small_settings,
)
from lpm_kernel.embedded import orphans
from lpm_kernel.embedded.home import locate_home
from lpm_kernel.settings import Settings, load_settings
from lpm_kernel.stores.open import Stores, open_stores
from twin_assets.backfill import run_backfill
from twin_assets.home import service_programs
from twin_assets.instance import open_instance
from twin_assets.scale_out import WORKER

USER = "person-1"
WORKERS_READY_S = 120.0


def run(stores: Stores) -> None:
    """On a home of its own, with the smallest settings. The same user is built in the run's process first, to compare."""
    for executor in ("in_process", "celery"):
        with tempfile.TemporaryDirectory(prefix="twin-bench-celery-") as name:
            folder = Path(name)
            before = dict(os.environ)
            os.environ["TWIN_SETTINGS"] = str(_write_settings(folder, executor))
            try:
                with running_home(folder / "home", load_settings()) as (home, settings):
                    _build(home, settings)
            finally:
                os.environ.clear()
                os.environ.update(before)


def _write_settings(folder: Path, executor: str) -> Path:
    path = write_small_settings(folder)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["automation"].update({"executor": executor, "celery_workers": 2})
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def _build(home: Path, settings: Settings) -> None:
    stores = open_stores(settings)
    try:
        with open_instance(home, settings, os.environ) as instance, workers(home, settings) as names:
            take_in(stores, instance, (USER,))
            wait_for_daemon(instance)
            seconds = timed(lambda: run_backfill(settings, home, USER, print_indented))
            steps = steps_by_worker(instance)
            told = ", ".join(f"{worker}: {count}" for worker, count in sorted(steps.items())) or "all in the run's process"
            print(f"  {settings.automation.executor:12} {seconds:6.1f} s, steps {told}")
            if not is_ready(stores, USER):
                sys.exit("the twin is not ready")
            if len(steps) != len(names):
                sys.exit(f"{len(names)} workers ran, and steps were executed by {len(steps)}")
    finally:
        stores.close()


@contextmanager
def workers(home: Path, settings: Settings) -> Iterator[list[str]]:
    """The workers that `twin up` would start, until the block ends."""
    programs = [item for item in service_programs(home, settings, os.environ) if item.name.startswith(WORKER)]
    with ExitStack() as running:
        for program in programs:
            environment = {**program.environment, **orphans.mark(locate_home(home), program.name)}
            log = running.enter_context((home / f"{program.name}.log").open("wb"))
            process = psutil.Popen(program.command, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT)
            running.callback(_end, process)
        if programs:
            _wait_for(settings, len(programs))
        yield [program.name for program in programs]


def _end(process: psutil.Popen) -> None:
    process.terminate()
    try:
        process.wait(30)
    except psutil.TimeoutExpired:
        for one in [*process.children(recursive=True), process]:
            one.kill()
        process.wait(10)


def _wait_for(settings: Settings, count: int) -> None:
    """Until so many answer. Raises: RuntimeError."""
    from twin_assets.scale_out import make_worker_app

    app = make_worker_app(settings, os.environ)
    deadline = time.monotonic() + WORKERS_READY_S
    try:
        while len(answers := app.control.ping(timeout=1.0)) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(answers)} of {count} workers answer")
    finally:
        app.close()


def steps_by_worker(instance: dg.DagsterInstance) -> Counter[str]:
    """How many steps each Celery worker executed, of all runs."""
    found: Counter[str] = Counter()
    for run in instance.get_runs():
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            event = entry.dagster_event
            worker = event.engine_event_data.metadata.get("Celery worker") if event else None
            if worker is not None:
                found[str(worker.value)] += 1
    return found
