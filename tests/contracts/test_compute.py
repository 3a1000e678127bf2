"""What every place of compute guarantees: a stage's own record comes back, and an unknown stage is named before any work."""

from __future__ import annotations

import pytest

from lpm_kernel.errors import SettingsError, TrainingError
from lpm_kernel.L2 import stages
from lpm_kernel.L2.base_model import default_cache_dir
from lpm_kernel.L2.stages import TrainRequest
from lpm_kernel.settings import Settings
from lpm_kernel.stores.compute import Compute
from lpm_kernel.stores.local_compute import LocalCompute
from tests.fakes import MemoryBlobs, no_progress


@pytest.fixture
def compute(settings: Settings) -> Compute:
    return LocalCompute(MemoryBlobs(), settings.models, default_cache_dir({}))


def test_a_stage_gets_its_request_and_the_base_and_its_record_comes_back(
    compute: Compute, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[float, str]] = []

    def echo(request, blobs, base, progress):
        progress(0.5, "half")
        return request, base.name

    monkeypatch.setitem(stages.STAGES, "echo", echo)
    assert compute.run("echo", "request", lambda share, words: told.append((share, words))) == ("request", settings.models.base)
    assert told[-1] == (0.5, "half")


def test_an_unknown_stage_is_named_with_those_that_are_known(compute: Compute) -> None:
    with pytest.raises(SettingsError, match="lora_adapter") as raised:
        compute.run("nothing", None, no_progress)
    assert raised.value.code == "stage_unknown"


def test_what_a_stage_raises_arrives_as_it_is(compute: Compute, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(request, blobs, base, progress):
        raise TrainingError("rows_changed", "other rows stand there by now")

    monkeypatch.setitem(stages.STAGES, "lora_adapter", refuse)
    with pytest.raises(TrainingError) as raised:
        compute.run("lora_adapter", TrainRequest("ada", "0" * 64, settings.training), no_progress)
    assert raised.value.code == "rows_changed"
