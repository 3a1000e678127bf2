"""Two workers of Celery, over the Redis that is there, execute the steps of a run: the assets that one process makes else.

A home of its own: its workers are processes that read the settings and addresses of this test. The whole chain: `python -m
bench celery`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.reconstruct import ReconstructableRepository

from bench.scale_out import steps_by_worker, workers
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.records import User
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.documents import list_waiting
from lpm_kernel.stores.open import open_stores
from tests.embedded.fixtures import EngineHome, running_engines
from twin_assets.home import CODE_LOCATION, bring_up
from twin_assets.instance import open_instance
from twin_assets.partitions import PARTITION_TAG
from twin_assets.people import register_user

pytestmark = pytest.mark.slow
STAGES = ("raw_documents", "chunks", "embeddings", "entities")
NOTES = {
    "cats.md": "# Cats\n\nMy cat is called Pilchard. Pilchard lost an eye in Portishead in 2019.\n",
    "work.txt": "I repair robots at a printing works in Bristol. Tomasz wrote their software.\n",
}


@pytest.fixture
def celery_home(small_settings: Path, tmp_path: Path) -> Iterator[EngineHome]:
    content = yaml.safe_load(small_settings.read_text())
    content["automation"].update({"executor": "celery", "celery_workers": 2})
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(content))
    before = dict(os.environ)
    os.environ["TWIN_SETTINGS"] = str(tmp_path / "settings.yaml")
    settings = load_settings()
    try:
        with running_engines(tmp_path / "home") as home:
            os.environ.update(bring_up(home.path, settings, services=False, say=lambda words: None))
            yield EngineHome(home.path, home.environment, settings)
    finally:
        os.environ.clear()
        os.environ.update(before)


# whoever asks workers whether they are there, and whoever gives them steps, have an app each; here they are in one process
@pytest.mark.filterwarnings("ignore::celery.exceptions.DuplicateTaskNameWarning")
def test_two_workers_share_the_steps_of_one_run(celery_home: EngineHome) -> None:
    settings, stores = celery_home.settings, open_stores(celery_home.settings)
    try:
        with open_instance(celery_home.path, settings, os.environ) as instance, workers(celery_home.path, settings) as names:
            register_user(stores, instance, User("ada"))
            for name, text in NOTES.items():
                receive_document(stores.tables, stores.blobs, settings.limits, "ada", name, text.encode())
            with dg.execute_job(
                ReconstructableRepository.for_module(CODE_LOCATION, "defs").get_reconstructable_job("twin_job"),
                instance,
                asset_selection=[dg.AssetKey(stage) for stage in STAGES],
                tags={PARTITION_TAG: "ada"},
            ) as run:
                assert run.success
            made = {stage: instance.get_materialized_partitions(dg.AssetKey(stage)) for stage in STAGES}
            by_worker = steps_by_worker(instance)
        assert made == {stage: {"ada"} for stage in STAGES}
        assert {worker.split("@")[0] for worker in by_worker} == {name.removeprefix("worker-") for name in names}
        with stores.tables.operator_transaction() as connection:
            assert list_waiting(connection) == [], "taken up"
    finally:
        stores.close()
