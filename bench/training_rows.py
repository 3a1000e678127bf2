"""The product's own training rows of the demo people, in any number: the assets make them, as a run of the user would."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import yaml

from bench.people import DATA
from lpm_kernel.artefacts import decode_records
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.L2.records import TrainingRow
from lpm_kernel.layout import asset_key
from lpm_kernel.records import User
from lpm_kernel.settings import load_settings, settings_path
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.open import Stores
from twin_assets.definitions import build_defs
from twin_assets.people import register_user


def make_rows(stores: Stores, user_id: str, counts: Sequence[int]) -> dict[int, list[TrainingRow]]:
    """For each `max_rows` the rows of both splits. Everything before them is made once.

    Why through Dagster: what a row is made from (salience, communities, the golden questions it must not ask) is then what
    the product has, and no second list of it must be kept here.
    """
    about = yaml.safe_load((DATA / "users" / "people.yaml").read_text(encoding="utf-8"))[user_id]
    made = {}
    with tempfile.TemporaryDirectory(prefix="twin-bench-dagster-") as folder, dg.DagsterInstance.ephemeral(folder) as instance:
        register_user(stores, instance, User(user_id, about["name"]), DATA / about["golden"])
        for path in sorted((DATA / about["documents"]).iterdir()):
            receive_document(stores.tables, stores.blobs, stores.settings.limits, user_id, path.name, path.read_bytes())
        blobs = TenantBlobs(stores.blobs, user_id)
        selection = dg.AssetSelection.assets("training_rows").upstream()
        for count in counts:
            with _settings_with(Path(folder), count):
                _materialize(instance, user_id, selection)
            made[count] = decode_records(blobs.get(asset_key(user_id, "training_rows", "jsonl")), TrainingRow)
            selection = dg.AssetSelection.assets("training_rows")
    return made


@contextmanager
def _settings_with(folder: Path, max_rows: int) -> Iterator[None]:
    """Resources read the settings file when a run starts, so the number must stand in a file."""
    before = os.environ.get("TWIN_SETTINGS")
    content = yaml.safe_load(settings_path().read_text(encoding="utf-8"))
    content["training"]["max_rows"] = max_rows
    path = folder / f"rows-{max_rows}.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    os.environ["TWIN_SETTINGS"] = str(path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["TWIN_SETTINGS"]
        else:
            os.environ["TWIN_SETTINGS"] = before


def _materialize(instance: dg.DagsterInstance, user_id: str, selection: dg.AssetSelection) -> None:
    definitions = build_defs(load_settings())
    graph = definitions.resolve_asset_graph()
    result = definitions.resolve_job_def("twin_job").execute_in_process(
        instance=instance,
        partition_key=user_id,
        asset_selection=sorted(selection.resolve(graph)),
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    failed = [check.check_name for check in result.get_asset_check_evaluations() if not check.passed]
    assert not failed, failed
