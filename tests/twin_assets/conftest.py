"""Dagster on the real stores: an instance in PostgreSQL, small settings, and two people with a few short notes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from lpm_kernel.L0.intake import receive_document
from lpm_kernel.records import User
from lpm_kernel.settings import Settings, load_settings, settings_path
from lpm_kernel.stores.addresses import CONNECTION_FILE
from lpm_kernel.stores.open import Stores
from tests.embedded.fixtures import EngineHome
from tests.twin_assets.workbench import Workbench, lay_out
from twin_assets.definitions import build_defs
from twin_assets.home import process_environment
from twin_assets.instance import dagster_home, write_dagster_yaml
from twin_assets.people import register_user

# As small as training can be while every stage still does its work.
SMALL = {
    "training": {"epochs": 1, "max_rows": 12, "held_out_share": 0.25},
    "evaluation": {
        **{"max_questions": 3, "answer_tokens": 8, "third_person_questions": 1, "preference_questions": 1},
        **{"context_questions": 1, "foreign_questions": 2, "canaries": 1},
    },
    "models": {"answer_tokens": 16},
    "recall": {"lines": 2},
    "retries": {"max_retries": 3, "delay_s": 0.0},
    "topics": {"min_chunks": 1, "rebuild_share": 0.3},
}


@dataclass(frozen=True)
class Workshop:
    """Settings, stores and a Dagster instance that belong together."""

    settings: Settings
    stores: Stores
    instance: dg.DagsterInstance

    def add(self, user_id: str, name: str, documents: dict[str, str]) -> None:
        register_user(self.stores, self.instance, User(user_id, name))
        for filename, text in documents.items():
            result = receive_document(
                self.stores.tables, self.stores.blobs, self.settings.limits, user_id, filename, text.encode()
            )
            assert result.status == "stored", result

    def build(self, user_id: str, **options: Any) -> dg.ExecuteInProcessResult:
        """The whole job, or only the assets named, for one user, in this process."""
        job = build_defs(self.settings).resolve_job_def("twin_job")
        return job.execute_in_process(instance=self.instance, partition_key=user_id, raise_on_error=False, **options)


def figures(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """The metadata an asset wrote in this run."""
    (event,) = result.asset_materializations_for_node(asset)
    return {key: value.value for key, value in event.metadata.items()}


@pytest.fixture(scope="session")
def small_settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    content = yaml.safe_load(settings_path({}).read_text())
    for section, values in SMALL.items():
        content[section].update(values)
    path = tmp_path_factory.mktemp("settings") / "dagster_project.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="session")
def workshop(engine_home: EngineHome, stores: Stores, small_settings: Path) -> Iterator[Workshop]:
    settings = load_settings(small_settings)
    assert (engine_home.path / CONNECTION_FILE).exists()
    write_dagster_yaml(engine_home.path, settings)
    before = dict(os.environ)
    os.environ["TWIN_SETTINGS"] = str(small_settings)
    os.environ.update(process_environment(engine_home.path, settings))
    try:
        with dg.DagsterInstance.from_config(str(dagster_home(engine_home.path))) as instance:
            yield Workshop(settings, stores, instance)
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def bench(settings: Settings) -> Workbench:
    return lay_out(settings)
