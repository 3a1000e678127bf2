"""Dagster's real daemon: an upload becomes a live release by itself, and a backfill of two users goes through its queue.

A home of its own: beside it, the documents that other tests left waiting would be built as well.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil
import pytest
import yaml

from lpm_kernel.embedded import orphans
from lpm_kernel.embedded.home import locate_home
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.settings import Settings, load_settings
from lpm_kernel.stores.open import Stores, open_stores
from lpm_kernel.stores.releases import live_release
from tests.embedded.fixtures import running_engines
from twin_assets.backfill import run_backfill
from twin_assets.definitions import build_defs
from twin_assets.home import DAEMON, bring_up, service_programs
from twin_assets.instance import open_instance

pytestmark = pytest.mark.slow

PEOPLE = {
    "ada": {
        "cats.md": "# Cats\n\nMy cat is called Pilchard. Pilchard lost an eye in Portishead in 2019.\n",
        "work.txt": "I repair robots at a printing works in Bristol. Tomasz wrote their software.\n",
        "boat.txt": "My brother sails a red boat from Halifax. The boat has two masts.\n",
    },
    "bo": {
        "bikes.md": "# Bikes\n\nI ride a steel bicycle called Kestrel. Kestrel left Leeds in 1987.\n",
        "nights.txt": "I counted the failures of the night shift. Priya keeps the accounts.\n",
        "food.txt": "I cook groundnut soup with mackerel. Leila prefers rice.\n",
    },
}


@dataclass(frozen=True)
class Service:
    """A home with Dagster's daemon running, and what reads its results."""

    home: Path
    settings: Settings
    stores: Stores
    instance: dg.DagsterInstance
    daemon: psutil.Popen
    log: Path

    def wait_for(self, what: str, happened: Callable[[], object], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > deadline or self.daemon.poll() is not None:
                runs = [(run.tags.get("dagster/partition"), run.status.value) for run in self.instance.get_runs()]
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-60:])
                pytest.fail(f"{what} did not happen in {seconds:.0f} s; runs: {runs}; the daemon's log ends in:\n{tail}")
            time.sleep(0.5)

    def upload(self, user_id: str) -> None:
        """As the API does: rows and bytes, and not a word to Dagster."""
        for filename, text in PEOPLE[user_id].items():
            stores = self.stores
            result = receive_document(stores.tables, stores.blobs, self.settings.limits, user_id, filename, text.encode())
            assert result.status == "stored"

    def is_live(self, user_id: str) -> bool:
        with self.stores.tables.transaction(user_id) as connection:
            return live_release(connection, user_id) is not None

    def runs(self, user_id: str) -> list[dg.RunRecord]:
        """Oldest first."""
        return list(self.instance.get_run_records(dg.RunsFilter(tags={"dagster/partition": user_id}), ascending=True))


@pytest.fixture(scope="module")
def service(small_settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("daemon")
    content = yaml.safe_load(small_settings.read_text())
    content["automation"]["users_sensor_interval_s"] = 2
    (folder / "settings.yaml").write_text(yaml.safe_dump(content))
    before = dict(os.environ)
    os.environ["TWIN_SETTINGS"] = str(folder / "settings.yaml")
    settings = load_settings()
    try:
        with running_engines(folder / "home") as engine_home:
            home = engine_home.path
            os.environ.update(bring_up(home, settings, services=False, say=lambda words: None))
            (program,) = (item for item in service_programs(home, settings, os.environ) if item.name == DAEMON)
            log = folder / "daemon.log"
            # the mark: what this process may leave behind is stopped with the engines
            environment = {**program.environment, **orphans.mark(locate_home(home), DAEMON)}
            with log.open("wb") as output, open_instance(home, settings, os.environ) as instance:
                daemon = psutil.Popen(program.command, cwd=home, env=environment, stdout=output, stderr=subprocess.STDOUT)
                stores = open_stores(settings)
                try:
                    yield Service(home, settings, stores, instance, daemon, log)
                finally:
                    daemon.terminate()
                    daemon.wait(60)
                    stores.close()
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_an_upload_becomes_a_live_release_by_itself_and_a_backfill_of_two_users_follows(service: Service) -> None:
    """Stages were tested one by one and conditions on a graph without checks. In the daemon, each stage waited for the checks
    of the stage before: eight runs a user, a tick apart, in place of one.
    """
    service.upload("ada")
    assert service.instance.get_dynamic_partitions("users") == []
    service.wait_for("a live release", lambda: service.is_live("ada"), 480)
    service.wait_for("the end of its run", lambda: all(run.dagster_run.is_finished for run in service.runs("ada")), 60)
    assert service.instance.get_dynamic_partitions("users") == ["ada"]

    service.upload("bo")
    service.wait_for("bo's partition", lambda: "bo" in service.instance.get_dynamic_partitions("users"), 90)
    said: list[str] = []
    assert run_backfill(service.settings, service.home, "ada,bo", said.append), said
    assert said[-1].endswith("ada: success, bo: success")
    assert service.is_live("bo")

    stages = set(build_defs(service.settings).resolve_job_def("twin_job").asset_layer.executable_asset_keys)
    uploaded, carried_on, backfilled = service.runs("ada")
    assert uploaded.dagster_run.asset_selection == {dg.AssetKey("raw_documents")}
    assert carried_on.dagster_run.asset_selection == stages - {dg.AssetKey("raw_documents")}
    assert carried_on.dagster_run.tags["dagster/from_automation_condition"] == "true"
    assert backfilled.dagster_run.job_name == "twin_job"
    (of_bo,) = [run for run in service.runs("bo") if run.dagster_run.job_name == "twin_job"]
    first, second = sorted((backfilled, of_bo), key=lambda run: run.start_time or 0)
    assert (first.end_time or 0) <= (second.start_time or 0), "one run at a time holds the pool"
