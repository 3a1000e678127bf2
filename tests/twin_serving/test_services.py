"""The model of a process: loaded in the background, waited for a little, tried again, and never left open."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import cast

import pytest

from lpm_kernel.errors import LlmError, TrainingError
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.llm import Llm
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeLlm
from twin_serving import deps
from twin_serving.deps import Services


class NoStores:
    settings = load_settings()

    def warm(self) -> None:
        pass

    def close(self) -> None:
        pass


def services(open_model) -> Services:
    return Services(cast("Stores", NoStores()), open_model, Path("nowhere"))


class SlowModel:
    """Opens when it is let."""

    def __init__(self) -> None:
        self.may_open = threading.Event()
        self.model = FakeLlm()
        self.tries = 0

    def __call__(self) -> Llm:
        self.tries += 1
        assert self.may_open.wait(10)
        return self.model


def wait_until(state: str, of: Services) -> None:
    deadline = time.monotonic() + 5
    while of.model_state != state:
        assert time.monotonic() < deadline, of.model_state
        time.sleep(0.005)


def test_a_model_that_is_being_loaded_is_waited_for_by_a_thread_and_loaded_once() -> None:
    opening = SlowModel()
    held = services(opening)
    held.warm()
    assert held.model_state == "loading"
    threading.Timer(0.2, opening.may_open.set).start()
    assert held.llm._llm is opening.model
    assert held.llm._llm is opening.model
    assert (held.model_state, opening.tries) == ("ok", 1)


def test_the_event_loop_is_never_kept_waiting_for_a_model() -> None:
    """It was loaded in the loop at the first streamed chat, and for those seconds the API answered nobody."""
    opening = SlowModel()
    held = services(opening)

    async def ask() -> str:
        began = time.monotonic()
        with pytest.raises(LlmError) as raised:
            _ = held.llm
        assert time.monotonic() - began < 1
        assert raised.value.retryable
        return raised.value.code

    assert asyncio.run(ask()) == "model_loading"
    opening.may_open.set()
    wait_until("ok", held)


def test_a_model_that_cannot_be_loaded_says_why_and_is_tried_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FakeLlm()
    outcomes: list[Exception | Llm] = [TrainingError("base_weights_missing", "no weights: make setup"), model]

    def open_model() -> Llm:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    held = services(open_model)
    held.warm()
    wait_until("base_weights_missing", held)
    with pytest.raises(LlmError, match="base_weights_missing: no weights: make setup") as raised:
        _ = held.llm
    assert raised.value.code == "model_unavailable"
    assert len(outcomes) == 1, "not tried again at once"
    monkeypatch.setattr(held, "_again_at", 0.0)
    assert held.llm._llm is model


def test_a_model_that_is_loaded_after_the_end_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deps, "BEGIN_WAIT_S", 0.0)
    opening = SlowModel()
    held = services(opening)
    held.warm()
    held.close()
    opening.may_open.set()
    deadline = time.monotonic() + 5
    while not opening.model.closed:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert held.model_state == "unloaded"
