"""What crosses between two machines: both sides read alike, and whatever differs is named by its key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lpm_kernel.errors import IngestionError, SettingsError, StoreError, TrainingError, TwinError
from lpm_kernel.L2 import stages
from lpm_kernel.L2.records import Adapter, GgufAdapter
from lpm_kernel.L2.stage_calls import StageCall, decode_call, decode_outcome, encode_call, encode_error, encode_result
from lpm_kernel.L2.stages import ConvertRequest, TrainRequest
from lpm_kernel.settings import Settings

ADAPTER = Adapter(
    "a" * 64, "tenant/ada/lora/a", "tenant/ada/lora/c", 7, "b" * 64, "c" * 64, 4, 8, ("q_proj",), 2, 7, (1.5, 0.1), 1.0, 9.0
)


@pytest.mark.parametrize("stage", sorted(stages.STAGES))
def test_every_stage_names_its_request_and_its_result(stage: str, settings: Settings) -> None:
    requests: dict[str, Any] = {
        "lora_adapter": TrainRequest("ada", "0" * 64, settings.training),
        "gguf_adapter": ConvertRequest("ada", ADAPTER),
    }
    call = StageCall(stage, settings.models, requests[stage], "run-1")
    assert decode_call(encode_call(call)) == call


def test_a_result_comes_back_to_the_last_digit() -> None:
    assert decode_outcome("lora_adapter", encode_result("lora_adapter", ADAPTER)) == ADAPTER


@pytest.mark.parametrize(
    "error",
    [
        TrainingError("rows_changed", "other rows"),
        StoreError("blob_refused", "403", retryable=False),
        IngestionError("x", "y", retryable=True),
        TwinError("plain", "z"),
    ],
    ids=lambda error: error.code,
)
def test_an_error_comes_back_as_its_own_kind(error: TwinError) -> None:
    with pytest.raises(TwinError) as raised:
        decode_outcome("lora_adapter", encode_error(error))
    assert type(raised.value) is type(error)
    assert (raised.value.code, raised.value.message, raised.value.retryable) == (error.code, error.message, error.retryable)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"surprise": 1}, "surprise"),
        ({"loss_curve": {"a": 1}}, "loss_curve"),
        ({"steps": None}, "steps"),
        ({"sha256": ...}, "sha256"),
    ],
)
def test_a_result_with_other_keys_than_the_records_is_refused_by_their_names(changes: dict[str, Any], named: str) -> None:
    result = json.loads(encode_result("lora_adapter", ADAPTER))["result"] | changes
    sent = json.dumps({"result": {key: value for key, value in result.items() if value is not ...}})
    with pytest.raises(TrainingError, match=named) as raised:
        decode_outcome("lora_adapter", sent)
    assert raised.value.code == "compute_result_invalid"


def test_a_key_that_has_a_default_is_wanted_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old deployment that does not know a new field would else answer with that field's default."""
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Newer:
        name: str
        parent: str | None = None

    def work(request: Newer, blobs: object, base: object, progress: object) -> Newer:
        return request

    work.__annotations__ = {"request": Newer, "return": Newer}
    monkeypatch.setitem(stages.STAGES, "newer", work)
    with pytest.raises(TrainingError, match="lacks parent"):
        decode_outcome("newer", '{"result": {"name": "a"}}')


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"result": {}, "more": 1}', '{"error": {}}', '{"error": "x"}', None])
def test_what_is_no_outcome_is_refused(text: Any) -> None:
    with pytest.raises(TrainingError) as raised:
        decode_outcome("gguf_adapter", text)
    assert raised.value.code == "compute_result_invalid"


def test_a_record_of_another_stage_is_no_result() -> None:
    made = GgufAdapter("d" * 64, "tenant/ada/lora/d", 7, "a" * 64, "b" * 64, 4)
    with pytest.raises(TrainingError):
        decode_outcome("lora_adapter", encode_result("gguf_adapter", made))


def test_a_caller_with_another_trainer_is_refused(settings: Settings) -> None:
    text = encode_call(StageCall("lora_adapter", settings.models, TrainRequest("ada", "0" * 64, settings.training)))
    with pytest.raises(SettingsError, match="modal deploy") as raised:
        decode_call(json.dumps(json.loads(text) | {"trainer": "0"}))
    assert raised.value.code == "compute_outdated"


def test_a_wrong_call_is_named_without_what_it_holds(settings: Settings) -> None:
    letter = json.loads(
        encode_call(StageCall("lora_adapter", settings.models, TrainRequest("ada", "0" * 64, settings.training)))
    )
    letter["request"]["user_id"] = ["words of a document"]
    with pytest.raises(TrainingError, match="user_id") as raised:
        decode_call(json.dumps(letter))
    assert "document" not in str(raised.value)
