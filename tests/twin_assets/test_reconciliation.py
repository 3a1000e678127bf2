"""Reconciliation in Dagster and on the command line, on engines of its own: a run goes over everybody in a home."""

from __future__ import annotations

import os
from collections.abc import Iterator

import dagster as dg
import pytest
from click.testing import CliRunner

from lpm_kernel.artefacts import decode_record
from lpm_kernel.layout import raw_key, shared_asset_key, text_key
from lpm_kernel.reconcile.findings import Report
from lpm_kernel.records import sha256_hex
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.open import open_stores
from tests.embedded.fixtures import EngineHome, running_engines
from tests.forgetful_twin import CAT
from tests.reconcile.whole_twin import WholeTwin
from tests.twin_assets.conftest import Workshop, figures
from twin_assets.assets.reconciliation import run_under_way
from twin_assets.cli import cli
from twin_assets.definitions import build_defs
from twin_assets.home import bring_up
from twin_assets.instance import open_instance
from twin_assets.partitions import PARTITION_TAG
from twin_assets.reconciliation_schedule import ask_for_comparison

pytestmark = pytest.mark.slow

CAT_SHA = sha256_hex(CAT.encode())


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHome]:
    with running_engines(tmp_path_factory.mktemp("reconcile") / "home") as home:
        yield home


@pytest.fixture(scope="module")
def place(engines: EngineHome) -> Iterator[Workshop]:
    settings, home, before = load_settings(), engines.path, dict(os.environ)
    os.environ.update(bring_up(home, settings, services=False, say=lambda words: None))
    os.environ["TWIN_HOME"] = str(home)
    stores = open_stores(settings)
    try:
        with open_instance(home, settings, os.environ) as instance:
            yield Workshop(settings, stores, instance)
    finally:
        stores.close()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def twins(place: Workshop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, WholeTwin]:
    made = {name: WholeTwin(place.stores, name, tmp_path_factory.mktemp(name)) for name in ("ada", "bo")}
    for twin in made.values():
        twin.send("cats.md", CAT)
        twin.build()
    return made


def run_job(place: Workshop) -> dg.ExecuteInProcessResult:
    job = build_defs(place.settings).resolve_job_def("reconciliation_job")
    return job.execute_in_process(instance=place.instance, raise_on_error=False)


def passed(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {check.check_name: check.passed for check in result.get_asset_check_evaluations()}


def test_a_run_repairs_what_it_can_and_the_next_finds_nothing(place: Workshop, twins: dict[str, WholeTwin]) -> None:
    twins["ada"].own.delete(text_key("ada", CAT_SHA))
    result = run_job(place)
    assert result.success
    told = figures(result, "reconciliation")
    assert (told["findings"], told["repaired"], told["reported"], told["users"]) == (1, 1, 0, 2)
    assert "| ada | blobs | lacking | stored texts | 1 | lost | repaired |" in told["report"]
    assert passed(result) == {"every_store_agrees": True}
    report = decode_record(place.stores.blobs.get(shared_asset_key("reconciliation", "json")), Report)
    assert [finding.items for finding in report.findings] == [(text_key("ada", CAT_SHA),)]
    again = run_job(place)
    assert again.success
    assert figures(again, "reconciliation")["findings"] == 0
    assert figures(again, "reconciliation")["report"] == "Every store agrees with the tables."


def test_what_cannot_be_repaired_fails_the_run_after_everybody_was_looked_at(
    place: Workshop, twins: dict[str, WholeTwin]
) -> None:
    key, strange = raw_key("ada", CAT_SHA), f"{twins['bo'].own.prefix}somewhere/else.bin"
    twins["ada"].own.delete(key)
    twins["bo"].own.put(strange, b"?")
    try:
        result = run_job(place)
        by_hand = CliRunner().invoke(cli, ["reconcile"])
    finally:
        twins["ada"].own.put(key, CAT.encode())
        twins["bo"].own.delete(strange)
    assert not result.success
    told = figures(result, "reconciliation")
    assert (told["reported"], told["findings_blobs"]) == (2, 2)
    assert passed(result) == {"every_store_agrees": False}
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failure.user_failure_data is not None
    assert failure.user_failure_data.metadata["code"].value == "out_of_step"
    assert failure.user_failure_data.metadata["retryable"].value is False
    assert getattr(by_hand.exception, "code", None) == "out_of_step"
    assert "reported ada blobs: 1 lacking, raw documents (lost)" in by_hand.output
    assert "reported bo blobs: 1 surplus, objects that nothing names (unexplained)" in by_hand.output


def test_a_user_with_a_run_under_way_is_skipped_and_the_others_are_not(place: Workshop, twins: dict[str, WholeTwin]) -> None:
    run = dg.DagsterRun("twin_job", tags={PARTITION_TAG: "ada"}, status=dg.DagsterRunStatus.STARTED)
    place.instance.add_run(run)
    twins["ada"].own.delete(text_key("ada", CAT_SHA))
    twins["bo"].own.delete(text_key("bo", CAT_SHA))
    try:
        assert run_under_way(place.instance, "bo") is None
        told = figures(run_job(place), "reconciliation")
    finally:
        place.instance.delete_run(run.run_id)
    assert (told["users_skipped"], told["repaired"]) == (1, 1)
    assert told["skipped"] == {"ada": f"run {run.run_id[:8]} of twin_job is under way"}
    assert not twins["ada"].own.exists(text_key("ada", CAT_SHA))
    assert twins["bo"].own.exists(text_key("bo", CAT_SHA))
    by_hand = CliRunner().invoke(cli, ["reconcile", "ada"])
    assert by_hand.exit_code == 0, by_hand.output
    assert "repaired ada blobs: 1 lacking, stored texts (lost)" in by_hand.output
    assert "every store agrees with the tables" in CliRunner().invoke(cli, ["reconcile", "ada"]).output
    nobody = CliRunner().invoke(cli, ["reconcile", "nobody-here"])
    assert getattr(nobody.exception, "code", None) == "twin_not_found"


def test_an_hour_is_left_out_while_the_one_before_is_at_it(place: Workshop) -> None:
    assert isinstance(ask_for_comparison(place.instance), dg.RunRequest)
    run = dg.DagsterRun("reconciliation_job", status=dg.DagsterRunStatus.STARTED)
    place.instance.add_run(run)
    try:
        skipped = ask_for_comparison(place.instance)
    finally:
        place.instance.delete_run(run.run_id)
    assert isinstance(skipped, dg.SkipReason)
