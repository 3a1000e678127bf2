"""ModalCompute through Modal's real client: what is sent, what is cancelled, what each failure becomes, and that none hangs."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
from grpclib import GRPCError, Status
from modal_proto.api_pb2 import GenericResult

from lpm_kernel.errors import SettingsError, TrainingError, TwinError
from lpm_kernel.L2.records import Adapter, GgufAdapter
from lpm_kernel.L2.stage_calls import encode_result
from lpm_kernel.L2.stages import ConvertRequest, TrainRequest
from lpm_kernel.settings import Settings
from lpm_kernel.stores.modal_compute import FUNCTION_ON_CPU, FUNCTION_ON_GPU, ModalCompute, progress_queue
from tests.fakes import no_progress
from tests.modal_server import Call, ModalServer

ADAPTER = Adapter(
    "a" * 64, "tenant/ada/lora/a", "tenant/ada/lora/c", 7, "b" * 64, "c" * 64, 4, 8, ("q_proj",), 2, 7, (1.5, 0.25), 1.0, 9.0
)
MADE = GgufAdapter("d" * 64, "tenant/ada/lora/d", 7, "a" * 64, "b" * 64, 4)


class Interrupted(BaseException):
    """As Dagster's, it is no Exception."""


@pytest.fixture
def server(modal_server: ModalServer, settings: Settings) -> ModalServer:
    modal_server.serve(settings.compute.app, FUNCTION_ON_GPU)
    modal_server.serve(settings.compute.app, FUNCTION_ON_CPU)
    return modal_server


def compute_of(settings: Settings, **changes: float) -> ModalCompute:
    quick = {"poll_s": 0.01, "lookup_timeout_s": 60.0, **changes}
    return ModalCompute(settings.models, settings.compute.model_copy(update=quick))


def train_request(settings: Settings) -> TrainRequest:
    return TrainRequest("ada", "c" * 64, settings.training)


def when_called(server: ModalServer, act: Callable[[Call], None]) -> None:
    """Act on the next call once it was polled."""

    def wait() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and not (server.calls and server.calls[0].polls):
            time.sleep(0.005)
        act(server.calls[0])

    threading.Thread(target=wait, daemon=True).start()


def test_training_goes_to_the_gpu_and_conversion_does_not(server: ModalServer, settings: Settings) -> None:
    when_called(server, lambda call: call.finish(encode_result("lora_adapter", ADAPTER)))
    assert compute_of(settings).run("lora_adapter", train_request(settings), no_progress) == ADAPTER
    first = server.calls.pop()
    when_called(server, lambda call: call.finish(encode_result("gguf_adapter", MADE)))
    assert compute_of(settings).run("gguf_adapter", ConvertRequest("ada", ADAPTER), no_progress) == MADE
    assert (first.function, server.calls[0].function) == (FUNCTION_ON_GPU, FUNCTION_ON_CPU)
    assert (first.cancelled, server.calls[0].cancelled) == (None, None)


def test_a_call_is_one_json_text_of_a_stage_its_request_and_the_callers_models(server: ModalServer, settings: Settings) -> None:
    """Rows are named by their hash: no text of a document and no secret is in a call."""
    when_called(server, lambda call: call.finish(encode_result("lora_adapter", ADAPTER)))
    compute_of(settings).run("lora_adapter", train_request(settings), no_progress)
    letter = json.loads(server.calls[0].arguments[0])
    assert letter.keys() == {"stage", "trainer", "models", "request", "transaction_id"}
    assert letter["models"] == settings.models.model_dump()
    assert letter["request"].keys() >= {"user_id", "rows_sha256", "training"}
    assert letter["request"]["rows_sha256"] == "c" * 64


def test_progress_is_heard_in_order_and_to_the_last_word(server: ModalServer, settings: Settings) -> None:
    def work(call: Call) -> None:
        for item in ('[0.25, "a"]', '[0.5, "b"]', '[1.75, "more than all"]'):
            server.put(progress_queue(settings.compute.app), call.arguments[1], item)
        call.finish(encode_result("lora_adapter", ADAPTER))

    told: list[tuple[float, str]] = []
    when_called(server, work)
    compute_of(settings).run("lora_adapter", train_request(settings), lambda share, words: told.append((share, words)))
    assert "fc-0" in told[0][1]
    assert told[1:] == [(0.25, "a"), (0.5, "b"), (1.0, "more than all")]


def test_an_interrupt_while_polling_cancels_the_call_with_its_container_and_goes_up(
    server: ModalServer, settings: Settings
) -> None:
    def interrupt(share: float, words: str) -> None:
        if share:
            raise Interrupted

    when_called(server, lambda call: server.put(progress_queue(settings.compute.app), call.arguments[1], '[0.5, "half"]'))
    with pytest.raises(Interrupted):
        compute_of(settings).run("lora_adapter", train_request(settings), interrupt)
    assert server.calls[0].cancelled is True


def test_a_signal_while_polling_cancels_the_call(server: ModalServer, settings: Settings) -> None:
    # whoever starts the tests in the background of a shell has them ignore it, and this one waited for ever
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        when_called(server, lambda call: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            compute_of(settings, poll_s=5.0).run("lora_adapter", train_request(settings), no_progress)
    finally:
        signal.signal(signal.SIGINT, before)
    assert server.calls[0].cancelled is True


def test_a_call_that_could_not_be_cancelled_is_named_on_the_interrupt(server: ModalServer, settings: Settings) -> None:
    def interrupt(share: float, words: str) -> None:
        raise Interrupted

    server.faults["FunctionCallCancel"] = [GRPCError(Status.NOT_FOUND, "gone")]
    with pytest.raises(Interrupted) as raised:
        compute_of(settings).run("lora_adapter", train_request(settings), interrupt)
    assert "fc-0 could not be cancelled" in raised.value.__notes__[0]


def test_without_a_token_nothing_is_asked(server: ModalServer, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODAL_TOKEN_SECRET")
    with pytest.raises(SettingsError) as raised:
        compute_of(settings).run("lora_adapter", train_request(settings), no_progress)
    assert raised.value.code == "modal_token_missing"
    assert server.asked == []


def test_a_token_that_modal_does_not_know_is_named(
    server: ModalServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-another")
    with pytest.raises(SettingsError) as raised:
        compute_of(settings).run("lora_adapter", train_request(settings), no_progress)
    assert raised.value.code == "modal_refused"
    assert "ak-another" not in str(raised.value)


def test_an_app_that_is_not_deployed_is_named_with_the_command(modal_server: ModalServer, settings: Settings) -> None:
    with pytest.raises(SettingsError, match=r"modal deploy -m twin_assets\.modal_app") as raised:
        compute_of(settings).run("lora_adapter", train_request(settings), no_progress)
    assert raised.value.code == "modal_not_deployed"


@pytest.mark.parametrize("silent", ["FunctionGet", "FunctionMap", "FunctionGetOutputs"])
def test_a_silent_modal_is_left_in_time(server: ModalServer, settings: Settings, silent: str) -> None:
    server.silent.add(silent)
    started = time.monotonic()
    with pytest.raises(TrainingError) as raised:
        compute_of(settings, lookup_timeout_s=0.3).run("lora_adapter", train_request(settings), no_progress)
    assert (raised.value.code, raised.value.retryable) == ("modal_unreachable", True)
    assert time.monotonic() - started < 30
    assert all(call.cancelled for call in server.calls if call.polls)


def test_a_modal_that_is_not_there_is_left_in_time(
    modal_server: ModalServer, settings: Settings, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client alone would try for about a minute."""
    monkeypatch.setenv("MODAL_SERVER_URL", f"http://127.0.0.1:{free_port}")
    started = time.monotonic()
    with pytest.raises(TrainingError) as raised:
        compute_of(settings, lookup_timeout_s=0.3).run("lora_adapter", train_request(settings), no_progress)
    assert raised.value.code == "modal_unreachable"
    assert time.monotonic() - started < 30


def test_lost_answers_are_no_lost_call(server: ModalServer, settings: Settings) -> None:
    # the client itself asks four times
    server.faults["FunctionGetOutputs"] = [GRPCError(Status.UNAVAILABLE, "away")] * 5
    when_called(server, lambda call: call.finish(encode_result("lora_adapter", ADAPTER)))
    assert compute_of(settings).run("lora_adapter", train_request(settings), no_progress) == ADAPTER


def test_progress_that_cannot_be_read_is_said_once_and_stops_nothing(server: ModalServer, settings: Settings) -> None:
    server.faults["QueueGet"] = [GRPCError(Status.NOT_FOUND, "no queue")] * 3
    when_called(server, lambda call: call.finish(encode_result("lora_adapter", ADAPTER)))
    told: list[str] = []
    assert compute_of(settings).run("lora_adapter", train_request(settings), lambda _, words: told.append(words)) == ADAPTER
    assert [words for words in told if "cannot be read" in words] == ["the call's progress cannot be read: NotFoundError"]


@pytest.mark.parametrize(
    ("end", "code", "retryable"),
    [
        (lambda call: call.fail(status=GenericResult.GENERIC_STATUS_TIMEOUT), "compute_timeout", True),
        (lambda call: call.fail(status=GenericResult.GENERIC_STATUS_INTERNAL_FAILURE), "compute_lost", True),
        (lambda call: call.fail(status=GenericResult.GENERIC_STATUS_TERMINATED), "compute_lost", True),
        (lambda call: call.fail(RuntimeError("words of a document")), "stage_crashed", False),
        (lambda call: call.finish("no outcome"), "compute_result_invalid", False),
        (lambda call: call.finish(None), "compute_result_invalid", False),
    ],
)
def test_what_a_call_ends_with_becomes_an_error_of_the_kernel(
    server: ModalServer, settings: Settings, end: Callable[[Call], None], code: str, retryable: bool
) -> None:
    when_called(server, end)
    with pytest.raises(TrainingError) as raised:
        compute_of(settings).run("lora_adapter", train_request(settings), no_progress)
    assert (raised.value.code, raised.value.retryable) == (code, retryable)
    assert "document" not in str(raised.value)
    assert server.calls[0].cancelled is None


def test_a_call_that_never_ends_is_cancelled(server: ModalServer, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lpm_kernel.stores.modal_compute.RESTART_S", -settings.compute.timeout_s)
    with pytest.raises(TwinError) as raised:
        compute_of(settings).run("lora_adapter", train_request(settings), no_progress)
    assert (raised.value.code, raised.value.retryable) == ("compute_timeout", True)
    assert server.calls[0].cancelled is True
