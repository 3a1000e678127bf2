"""The model on Modal: Modal's own client against the stand-in, the deployed class's letters against a double of the engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpclib import GRPCError, Status

from lpm_kernel.answering import may_step_down
from lpm_kernel.errors import LlmError, SettingsError, TwinError
from lpm_kernel.L2.adapter_cache import AdapterCache
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.llm_calls import LlmAsk, decode_line, encode_ask, encode_piece
from lpm_kernel.L2.llm_host import KEPT_S, LlmHost
from lpm_kernel.L2.modal_llm import ModalLlm
from lpm_kernel.layout import gguf_key
from lpm_kernel.records import Message, sha256_hex
from lpm_kernel.settings import Settings
from lpm_kernel.stores.breaker import Breaker
from lpm_kernel.stores.llm import AdapterFile, tenant_of
from tests.fakes import FakeLlm, MemoryBlobs
from tests.L2.fake_library import FakeLibrary
from tests.modal_server import ModalServer
from tests.paced_llm import wait_until

ASKED = (Message("system", "You are Mabel."), Message("user", "What is your tortoise called?"))
SAID = "My tortoise — naïvely — is called Admiral."
ADAPTER = b"adapter of mabel"
SHA256 = sha256_hex(ADAPTER)


@pytest.fixture
def far(tiny_base: BaseModel) -> FakeLlm:
    return FakeLlm(base_sha256=tiny_base.sha256)


@pytest.fixture
def blobs() -> MemoryBlobs:
    blobs = MemoryBlobs()
    blobs.put(gguf_key("mabel", SHA256), ADAPTER)
    return blobs


@pytest.fixture
def host(far: FakeLlm, blobs: MemoryBlobs, tmp_path: Path) -> LlmHost:
    return LlmHost(far, blobs, tmp_path / "volume")


@pytest.fixture
def llm(modal_server: ModalServer, host: LlmHost, tiny_base: BaseModel, settings: Settings) -> Iterator[ModalLlm]:
    modal_server.serve_class(
        settings.serving.modal_app, "Engine", {"stream": host.stream, "batch": host.batch, "score": host.score}
    )
    limits = settings.serving.model_copy(update={"modal_answer_timeout_s": 60.0})
    opened = ModalLlm(tiny_base, settings.model_copy(update={"serving": limits}))
    yield opened
    opened.close()


def adapter_of(tiny_base: BaseModel) -> AdapterFile:
    return AdapterFile(Path("not-read-here"), SHA256, tiny_base.sha256)


def test_an_answer_comes_back_piece_by_piece_from_the_adapter_of_the_blobs(
    llm: ModalLlm, far: FakeLlm, tiny_base: BaseModel, tmp_path: Path
) -> None:
    far.answers.append(SAID)
    pieces = list(llm.stream(ASKED, tenant="mabel", adapter=adapter_of(tiny_base), max_tokens=20, declining="I do not know."))
    assert len(pieces) > 3
    assert "".join(pieces) == SAID
    (call,) = far.calls
    assert (call.messages, call.tenant, call.max_tokens, call.declining) == (ASKED, "mabel", 20, "I do not know.")
    assert call.adapter is not None
    assert call.adapter.path.read_bytes() == ADAPTER
    assert call.adapter.path.parent == tmp_path / "volume"


def test_a_copy_that_nobody_asks_for_does_not_stay(blobs: MemoryBlobs, tiny_base: BaseModel, tmp_path: Path) -> None:
    """Every adapter that was ever fetched stayed on the volume, those of people who were deleted too."""
    now = 0.0
    another = b"adapter of ravi"
    blobs.put(gguf_key("ravi", sha256_hex(another)), another)
    host = LlmHost(FakeLlm(["."] * 3, base_sha256=tiny_base.sha256), blobs, tmp_path / "copies", clock=lambda: now)

    def ask(tenant: str, sha256: str) -> set[bytes]:
        letter = encode_ask(LlmAsk((ASKED,), tenant, tiny_base.sha256, sha256, 5, None))
        assert [decode_line(line, "piece") for line in host.stream(letter)]
        return {path.read_bytes() for path in (tmp_path / "copies").iterdir()}

    ask("mabel", SHA256)
    now = KEPT_S
    assert ask("ravi", sha256_hex(another)) == {ADAPTER, another}
    blobs.delete(gguf_key("mabel", SHA256))
    now = KEPT_S + 1
    assert ask("ravi", sha256_hex(another)) == {another}


class Retiring(FakeLlm):
    """Keeps adapters in memory, and says which it is told to let go."""

    def __init__(self, base_sha256: str) -> None:
        super().__init__(["."], base_sha256=base_sha256)
        self.adapters = AdapterCache(FakeLibrary(), base_sha256, 2**20)


def test_what_nobody_asks_for_is_let_go_of_memory_too_and_while_nobody_asks(
    blobs: MemoryBlobs, tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a person who was deleted the weights stayed in a container's memory until others needed the room."""
    now = 0.0
    monkeypatch.setattr("lpm_kernel.L2.llm_host.SWEEP_S", 0.01)
    far = Retiring(tiny_base.sha256)
    host = LlmHost(far, blobs, tmp_path, clock=lambda: now)
    host.start()
    try:
        letter = encode_ask(LlmAsk((ASKED,), "mabel", tiny_base.sha256, SHA256, 5, None))
        assert [decode_line(line, "piece") for line in host.stream(letter)]
        [call] = far.calls
        with far.adapters.borrow(call.adapter):
            now = KEPT_S + 1
            wait_until(lambda: not any(tmp_path.iterdir()))
            assert SHA256 in far.adapters, "it is in use"
        wait_until(lambda: SHA256 not in far.adapters)
    finally:
        host.close()
    assert not any(thread.name == "adapters" for thread in threading.enumerate())


def test_pieces_come_while_the_far_side_still_speaks(
    modal_server: ModalServer, llm: ModalLlm, settings: Settings, tiny_base: BaseModel
) -> None:
    go_on = threading.Event()

    def stream(letter: str) -> Iterator[str]:
        yield encode_piece("one ")
        assert go_on.wait(10)
        yield encode_piece("two")

    modal_server.serve_class(settings.serving.modal_app, "Engine", {"stream": stream})
    pieces = llm.stream(ASKED, tenant="mabel", max_tokens=20)
    assert next(pieces) == "one "
    go_on.set()
    assert list(pieces) == ["two"]


def test_a_batch_is_answered_in_its_order(llm: ModalLlm, far: FakeLlm) -> None:
    far.answers.extend(["First.", "Second."])
    assert llm.answer_batch([ASKED, ASKED], tenant="mabel", max_tokens=10) == ["First.", "Second."]
    assert llm.answer_batch([], tenant="mabel", max_tokens=10) == []


def test_options_are_weighed_there(llm: ModalLlm, far: FakeLlm) -> None:
    far.scorer = lambda said, option: -1.5 if option in said else -7.25
    assert llm.score([ASKED, ASKED[:1]], ["tortoise", "Mabel"], tenant="mabel") == [[-1.5, -7.25], [-7.25, -1.5]]
    assert llm.score([], ["tortoise"], tenant="mabel") == []
    assert llm.score([ASKED], [], tenant="mabel") == [[]]
    with pytest.raises(LlmError) as raised:
        llm.score([ASKED], [""], tenant="mabel")
    assert raised.value.code == "option_empty"


@pytest.mark.parametrize("batch", [False, True])
def test_an_error_of_the_engine_is_raised_here_as_it_was_there(llm: ModalLlm, far: FakeLlm, batch: bool) -> None:
    far.answers.append(LlmError("decode_failed", "the model stopped"))
    ask = llm.answer_batch if batch else lambda talks, **about: list(llm.stream(talks[0], **about))
    with pytest.raises(LlmError, match="the model stopped") as raised:
        ask([ASKED], tenant="mabel", max_tokens=10)
    assert (raised.value.code, raised.value.retryable) == ("decode_failed", True)


def test_what_crashes_there_is_told_without_a_word_of_the_chat(llm: ModalLlm, far: FakeLlm) -> None:
    far.answers.append(KeyError("secret words of a chat"))
    with pytest.raises(LlmError) as raised:
        list(llm.stream(ASKED, tenant="mabel", max_tokens=10))
    assert raised.value.code == "engine_crashed"
    assert "secret" not in str(raised.value)


def test_what_is_wrong_with_the_prompt_or_the_adapter_is_told_before_anything_is_sent(
    llm: ModalLlm, modal_server: ModalServer, tiny_base: BaseModel
) -> None:
    with pytest.raises(LlmError, match="leaves no room") as raised:
        llm.stream([Message("user", "why " * 3000)], tenant="mabel", max_tokens=10)
    assert raised.value.code == "prompt_too_long"
    with pytest.raises(LlmError) as refused:
        llm.stream(ASKED, tenant="mabel", adapter=AdapterFile(Path("x"), SHA256, "f" * 64), max_tokens=10)
    assert refused.value.code == "adapter_refused"
    assert "FunctionMap" not in modal_server.asked


def test_a_prompt_is_measured_as_the_engine_measures_it(tiny_base: BaseModel, llm: ModalLlm) -> None:
    from lpm_kernel.L2.llama import LlamaCpp

    engine = LlamaCpp(tiny_base, slots=1, context_tokens=512)
    try:
        for talk in (ASKED, (Message("user", "système ünïcode 日本語 1234 <|im_end|>\n\n  x"),)):
            assert llm.prompt_tokens(talk) == engine.prompt_tokens(talk)
    finally:
        engine.close()


def test_a_deployed_engine_of_another_base_answers_nothing(
    modal_server: ModalServer, settings: Settings, blobs: MemoryBlobs, llm: ModalLlm, tmp_path: Path
) -> None:
    other = LlmHost(FakeLlm(["Wrong."]), blobs, tmp_path)
    modal_server.serve_class(settings.serving.modal_app, "Engine", {"stream": other.stream})
    with pytest.raises(LlmError, match="deploy again") as raised:
        list(llm.stream(ASKED, tenant="mabel", max_tokens=10))
    assert raised.value.code == "engine_base_differs"


def test_an_adapter_that_is_not_there_or_has_other_bytes_is_refused_there(
    llm: ModalLlm, tiny_base: BaseModel, blobs: MemoryBlobs
) -> None:
    blobs.put(gguf_key("mabel", SHA256), b"something else")
    with pytest.raises(TwinError) as raised:
        list(llm.stream(ASKED, tenant="mabel", adapter=adapter_of(tiny_base), max_tokens=10))
    assert raised.value.code == "adapter_damaged"


def test_a_listener_who_leaves_lets_the_engine_go(llm: ModalLlm, modal_server: ModalServer, settings: Settings) -> None:
    modal_server.serve_class(settings.serving.modal_app, "Engine", {"stream": lambda letter: iter_slowly()})
    pieces = llm.stream(ASKED, tenant="mabel", max_tokens=10)
    assert next(pieces) == "word "
    began = time.monotonic()
    pieces.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 20, "the whole takes 50"


def iter_slowly() -> Iterator[str]:
    for _ in range(1000):
        yield encode_piece("word ")
        time.sleep(0.05)


def test_an_engine_that_is_not_deployed_is_named(modal_server: ModalServer, tiny_base: BaseModel, settings: Settings) -> None:
    llm = ModalLlm(tiny_base, settings)
    with pytest.raises(LlmError, match=r"modal deploy -m twin_serving\.modal_app") as raised:
        list(llm.stream(ASKED, tenant="mabel", max_tokens=10))
    assert raised.value.code == "modal_not_deployed"
    llm.close()


def test_a_modal_that_is_silent_is_left_alone_after_three_tries_and_found_again(
    modal_server: ModalServer, tiny_base: BaseModel, settings: Settings, host: LlmHost, far: FakeLlm
) -> None:
    modal_server.serve_class(
        settings.serving.modal_app, "Engine", {"stream": host.stream, "batch": host.batch, "score": host.score}
    )
    limits = settings.serving.model_copy(update={"modal_answer_timeout_s": 0.4})
    llm = ModalLlm(tiny_base, settings.model_copy(update={"serving": limits}))
    modal_server.silent.add("FunctionMap")
    for _ in range(3):
        with pytest.raises(LlmError) as raised:
            list(llm.stream(ASKED, tenant="mabel", max_tokens=10))
        assert (raised.value.code, raised.value.retryable) == ("engine_unreachable", True)
    with pytest.raises(LlmError, match="a moment ago"):  # so it was not asked
        list(llm.stream(ASKED, tenant="mabel", max_tokens=10))
    modal_server.silent.clear()
    llm.close()


def test_a_modal_that_answers_again_though_nothing_is_deployed_is_asked_by_everybody(
    modal_server: ModalServer, tiny_base: BaseModel, settings: Settings
) -> None:
    """That answer was counted neither way, so whoever asked a moment later was told that Modal did not answer."""
    breaker = Breaker(1, 0.05)
    llm = ModalLlm(tiny_base, settings, breaker)
    breaker.failed()
    wait_until(lambda: breaker.circuit().state == "half_open")
    for _ in range(3):
        with pytest.raises(LlmError) as raised:
            list(llm.stream(ASKED, tenant="mabel", max_tokens=10))
        assert raised.value.code == "modal_not_deployed"
    llm.close()


def test_a_token_that_modal_refuses_is_a_failure_of_the_model_that_a_turn_goes_on_without(
    llm: ModalLlm, modal_server: ModalServer
) -> None:
    """It was an error of the settings, which no turn steps down from: 500, and not even the best line was said."""
    modal_server.faults["ClassGet"] = [GRPCError(Status.PERMISSION_DENIED, "no")]
    with pytest.raises(LlmError) as raised:
        list(llm.stream(ASKED, tenant="mabel", max_tokens=10))
    assert raised.value.code == "modal_refused"
    assert may_step_down(raised.value)


def test_closing_ends_the_answers_under_way_at_once(llm: ModalLlm, modal_server: ModalServer, settings: Settings) -> None:
    """They waited for a loop that no longer ran, until their time was over."""
    modal_server.serve_class(settings.serving.modal_app, "Engine", {"stream": lambda letter: iter_slowly()})
    pieces = llm.stream(ASKED, tenant="mabel", max_tokens=10)
    assert next(pieces) == "word "
    began = time.monotonic()
    llm.close()
    with pytest.raises(LlmError) as raised:
        list(pieces)
    assert raised.value.code == "engine_closed"
    with pytest.raises(LlmError, match="closed"):
        llm.stream(ASKED, tenant="mabel", max_tokens=10)
    assert time.monotonic() - began < 30


def test_without_a_token_nothing_is_opened(
    modal_server: ModalServer, tiny_base: BaseModel, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODAL_TOKEN_ID")
    with pytest.raises(SettingsError, match="modal token new"):
        ModalLlm(tiny_base, settings)


def test_another_who_asks_is_answered_from_the_adapter_of_the_twin(llm: ModalLlm, far: FakeLlm, tiny_base: BaseModel) -> None:
    """The tenant of such a talk names both, and was taken for a user's id: every question of theirs was refused."""
    far.answers.append(SAID)
    told = "".join(llm.stream(ASKED, tenant=tenant_of("mabel", "bob"), adapter=adapter_of(tiny_base), max_tokens=20))
    assert told == SAID
    (call,) = far.calls
    assert call.tenant == "mabel~bob", "what it holds of this talk serves no other"
    assert call.adapter is not None
    assert call.adapter.path.read_bytes() == ADAPTER
