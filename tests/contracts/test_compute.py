"""What every place of compute guarantees: a stage's own record comes back, its errors as they were raised, an unknown stage is
named before any work, and progress is heard.

Modal's client is real here; behind it stands `tests/modal_server.py`, which runs what the deployed app would.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from lpm_kernel.errors import SettingsError, StoreError, TrainingError
from lpm_kernel.L2 import stages
from lpm_kernel.L2.base_model import BaseModel, default_cache_dir
from lpm_kernel.L2.records import GgufAdapter
from lpm_kernel.L2.run_stage import answer_call
from lpm_kernel.L2.stages import TrainRequest
from lpm_kernel.settings import Settings
from lpm_kernel.stores.blobs import Blobs
from lpm_kernel.stores.compute import Compute, Progress
from lpm_kernel.stores.local_compute import LocalCompute
from lpm_kernel.stores.modal_compute import FUNCTION_ON_CPU, FUNCTION_ON_GPU, ModalCompute, progress_queue
from tests.fakes import MemoryBlobs, no_progress
from tests.modal_server import ModalServer

CACHE = default_cache_dir({"HOME": str(Path.home())})


@pytest.fixture(params=["local", "modal"])
def compute(request: pytest.FixtureRequest, settings: Settings) -> Compute:
    blobs = MemoryBlobs()
    if request.param == "local":
        return LocalCompute(blobs, settings.models, CACHE)
    server: ModalServer = request.getfixturevalue("modal_server")
    app = settings.compute.app

    def run(call: str, partition: str) -> str:
        def tell(share: float, words: str) -> None:
            server.put(progress_queue(app), partition, f'[{share}, "{words}"]')

        return answer_call(call, lambda: blobs, CACHE, tell)

    server.serve(app, FUNCTION_ON_GPU, run)
    server.serve(app, FUNCTION_ON_CPU, run)
    quick = settings.compute.model_copy(update={"poll_s": 0.01, "lookup_timeout_s": 60.0})
    return ModalCompute(settings.models, quick)


def request_of(settings: Settings) -> TrainRequest:
    return TrainRequest("ada", "0" * 64, settings.training)


def echo(request: TrainRequest, blobs: Blobs, base: BaseModel, progress: Progress) -> GgufAdapter:
    progress(0.5, "half")
    blobs.put("tenant/ada/echo", b"made")
    return GgufAdapter(request.rows_sha256, "tenant/ada/echo", request.training.rank, base.name, base.sha256, 1)


def test_a_stage_gets_its_request_and_the_base_and_its_record_comes_back(
    compute: Compute, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[float, str]] = []
    monkeypatch.setitem(stages.STAGES, "echo", echo)
    made = compute.run("echo", request_of(settings), lambda share, words: told.append((share, words)))
    assert isinstance(made, GgufAdapter)
    assert (made.sha256, made.size_bytes, made.adapter_sha256) == ("0" * 64, settings.training.rank, settings.models.base)
    assert told[-1] == (0.5, "half")


def test_an_unknown_stage_is_named_with_those_that_are_known(compute: Compute) -> None:
    with pytest.raises(SettingsError, match="lora_adapter") as raised:
        compute.run("nothing", None, no_progress)
    assert raised.value.code == "stage_unknown"


@pytest.mark.parametrize(
    "error",
    [TrainingError("rows_changed", "other rows stand there by now"), StoreError("blob_store", "could not put: away")],
    ids=lambda error: error.code,
)
def test_what_a_stage_raises_arrives_as_it_is(
    compute: Compute, settings: Settings, monkeypatch: pytest.MonkeyPatch, error: TrainingError | StoreError
) -> None:
    def refuse(request: TrainRequest, blobs: Blobs, base: BaseModel, progress: Progress) -> GgufAdapter:
        raise error

    monkeypatch.setitem(stages.STAGES, "lora_adapter", refuse)
    with pytest.raises(type(error)) as raised:
        compute.run("lora_adapter", request_of(settings), no_progress)
    assert (type(raised.value), raised.value.code, raised.value.message, raised.value.retryable) == (
        type(error), error.code, error.message, error.retryable,
    )  # fmt: skip


def test_what_progress_raises_ends_the_stage_and_goes_up(
    compute: Compute, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended(BaseException):
        pass

    def end(share: float, words: str) -> None:
        raise Ended

    monkeypatch.setitem(stages.STAGES, "echo", echo)
    with pytest.raises(Ended):
        compute.run("echo", request_of(settings), end)
