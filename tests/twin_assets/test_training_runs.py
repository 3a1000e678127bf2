"""A run of `lora_adapter`: what its tags ask for, what it shows while it trains, and what it says when it is done."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from bench.backfill import write_small_settings
from lpm_kernel.artefacts import encode_record, encode_records
from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.records import Adapter, CurvePoint
from lpm_kernel.L2.release import rows_hash
from lpm_kernel.L2.stages import TrainRequest, checkpoint_steps, plan_training
from lpm_kernel.L2.train_report import StepReport
from lpm_kernel.layout import asset_key, checkpoint_prefix
from lpm_kernel.records import Message
from lpm_kernel.settings import Settings, load_settings
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.compute import Progress
from tests.fakes import AwayTables, MemoryBlobs
from tests.samples import make_row
from twin_assets.assets.l2_model import lora_adapter
from twin_assets.partitions import users
from twin_assets.retrain import check_step
from twin_assets.stages import progress_of
from twin_assets.training_runs import FRESH_TAG, MAX_OBSERVATIONS, RESUME_TAG, train_request

ROWS = [make_row("row", [Message("user", "Who?"), Message("assistant", "Joan.")], checksum="sum")]
KEY = dg.AssetKey("lora_adapter")
ADAPTER = Adapter(
    sha256="a" * 64,
    key="tenant/1/lora/a.safetensors",
    config_key="tenant/1/lora/a.config.json",
    size_bytes=9,
    base_sha256="b" * 64,
    rows_sha256=rows_hash(ROWS),
    rank=4,
    alpha=8,
    targets=("q_proj",),
    steps=120,
    seed=7,
    loss_curve=(2.0, 0.5),
    train_seconds=1.5,
    tokens_per_second=200.0,
    curve=(CurvePoint(60, 2.0, 3.0, 190.0, 1e-3), CurvePoint(120, 0.5, 2.0, 200.0, 1e-5)),
    best_step=120,
    best_eval_loss=2.0,
    rows_trained=1,
)


class ToldCompute:
    """Stands for a place of compute: reports 120 steps and gives the adapter; remembers what it was asked for."""

    def __init__(self) -> None:
        self.requests: list[TrainRequest] = []

    def run(self, stage: str, request: Any, progress: Progress) -> Adapter:
        self.requests.append(request)
        progress(0.0, "loading the base")
        for step in range(1, 121):
            eval_loss = 2.0 if step == 120 else None
            progress(step / 120, StepReport(1, 1, step, 120, 3.0 - step / 60, eval_loss, 200, 120 - step).words())
        return ADAPTER


class Shelf(dg.IOManager):
    """Gives the rows to whoever asks for them and takes what is made."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        pass

    def load_input(self, context: dg.InputContext) -> Any:
        return ROWS


def run(
    settings: Settings, compute: ToldCompute, blobs: MemoryBlobs, **tags: str
) -> tuple[dg.ExecuteInProcessResult, dg.DagsterInstance]:
    instance = dg.DagsterInstance.ephemeral()
    instance.add_dynamic_partitions("users", ["1"])
    port = SimpleNamespace(settings=settings, blobs=blobs, tables=AwayTables())
    stores = SimpleNamespace(stores=port, compute=lambda where: compute)
    shelf = Shelf()
    result = dg.materialize(
        [lora_adapter, dg.AssetSpec("training_rows", partitions_def=users)],
        resources={"stores": stores, "json": shelf, "io_manager": shelf},
        partition_key="1",
        tags=tags,
        instance=instance,
    )
    return result, instance


@pytest.fixture(scope="module")
def shown(settings: Settings) -> tuple[dg.ExecuteInProcessResult, dg.DagsterInstance]:
    return run(settings, ToldCompute(), MemoryBlobs())


def test_steps_are_observed_to_plot_and_never_many(shown: tuple[dg.ExecuteInProcessResult, dg.DagsterInstance]) -> None:
    result, _ = shown
    observed = [event.asset_observation_data.asset_observation for event in result.get_asset_observation_events()]
    assert len(observed) == MAX_OBSERVATIONS
    assert {item.partition for item in observed} == {"1"}
    first, last = ({key: value.value for key, value in item.metadata.items()} for item in (observed[0], observed[-1]))
    assert first == {"step": 1, "epoch": 1, "loss": pytest.approx(2.983), "tokens_per_second": 200}
    assert last == {"step": 120, "epoch": 1, "loss": 1.0, "tokens_per_second": 200, "eval_loss": 2.0}


def test_the_log_tells_of_the_training_also_after_another_part_of_the_stage_came_to_its_end() -> None:
    """Making the base ready ends at 100 %, and no word of the training that followed came into the run's log."""
    logged: list[str] = []
    context = SimpleNamespace(asset_key=KEY, log=SimpleNamespace(info=logged.append))
    progress = progress_of(context)  # type: ignore[arg-type]
    progress(1.0, "base is ready")
    for step in range(101):
        progress(step / 100, f"step {step}")
    assert logged[:2] == ["100% base is ready", "  0% step 0"]
    assert logged[-1] == "100% step 100"
    assert 10 <= len(logged) - 1 <= 12


def test_an_observation_does_not_stand_for_the_adapter(
    shown: tuple[dg.ExecuteInProcessResult, dg.DagsterInstance],
) -> None:
    """What is made from it must not start again because a step of its training was told."""
    result, instance = shown
    (made,) = result.asset_materializations_for_node("lora_adapter")
    assert made.tags is not None
    assert made.tags["dagster/data_version"] == ADAPTER.sha256
    record = instance.get_latest_data_version_record(KEY, is_source=False)
    assert record is not None
    assert record.asset_materialization is not None


def test_the_adapters_figures_are_shown_with_its_curve(
    shown: tuple[dg.ExecuteInProcessResult, dg.DagsterInstance],
) -> None:
    result, _ = shown
    (made,) = result.asset_materializations_for_node("lora_adapter")
    figures = {key: value.value for key, value in made.metadata.items()}
    told = {"steps": 120, "last_loss": 0.5, "best_eval_loss": 2.0, "best_step": 120, "tokens_per_second": 200.0}
    assert told.items() <= figures.items()
    assert figures["perplexity"] == pytest.approx(7.389, abs=1e-3)
    assert "data:image/svg+xml" in str(figures["loss_curve"])


def test_a_run_asks_for_what_its_tags_say(settings: Settings) -> None:
    compute = ToldCompute()
    run(settings, compute, MemoryBlobs())
    run(settings, compute, MemoryBlobs(), **{RESUME_TAG: "40"})
    run(settings, compute, MemoryBlobs(), **{FRESH_TAG: "true"})
    assert [(request.resume_from_step, request.fresh) for request in compute.requests] == [
        (None, False),
        (40, False),
        (None, True),
    ]
    assert {request.start_from for request in compute.requests} == {None}


def test_with_incremental_training_a_run_begins_with_the_last_adapter(settings: Settings) -> None:
    blobs = MemoryBlobs()
    training = settings.training.model_copy(update={"incremental": True})
    incremental = settings.model_copy(update={"training": training})
    assert train_request("1", ROWS, incremental, blobs).start_from is None
    blobs.put(asset_key("1", "lora_adapter", "json"), encode_record(ADAPTER))
    assert train_request("1", ROWS, incremental, blobs).start_from == ADAPTER
    assert train_request("1", ROWS, settings, blobs).start_from is None


def test_the_benchmark_of_backfills_asks_for_no_skill_adapter_that_is_not_there(tmp_path: Path) -> None:
    """Its small rank has none, and each of the ten users failed with `skill_missing`."""
    small = load_settings(write_small_settings(tmp_path))
    assert train_request("1", ROWS, small, MemoryBlobs()).warm_start is None


def test_a_step_without_a_checkpoint_is_named_with_those_there_are(settings: Settings) -> None:
    """Before a run is launched: a person would find the reason only in the run's log."""
    blobs, base = MemoryBlobs(), BaseModel("tiny", "b" * 64, None, None)  # type: ignore[arg-type]
    with pytest.raises(TrainingError) as caught:
        check_step(settings, blobs, base, "1", 20)
    assert caught.value.code == "no_training_rows"
    blobs.put(asset_key("1", "training_rows", "jsonl"), encode_records(ROWS))
    request = train_request("1", ROWS, settings, blobs)
    with pytest.raises(TrainingError, match="there is none") as caught:
        check_step(settings, blobs, base, "1", 20)
    assert caught.value.code == "checkpoint_missing"
    for recipe, step in ((recipe_of(request, blobs, base), 20), ("another", 21)):
        blobs.put(f"{checkpoint_prefix('1', recipe)}{step:08d}.safetensors", b"")
    assert checkpoint_steps(request, blobs, base) == [20]
    check_step(settings, blobs, base, "1", 20)
    with pytest.raises(TrainingError, match="there are 20"):
        check_step(settings, blobs, base, "1", 21)


def recipe_of(request: TrainRequest, blobs: MemoryBlobs, base: BaseModel) -> str:
    return plan_training(request, TenantBlobs(blobs, "1"), base).recipe
