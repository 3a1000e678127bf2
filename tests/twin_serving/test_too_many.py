"""More questions than one twin may have at once, over HTTP: 429 with a time to come back, before anything is stored."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from lpm_kernel.errors import LlmError
from lpm_kernel.records import Message
from lpm_kernel.stores.open import Stores
from tests.paced_llm import PacedLlm, wait_until
from tests.twin_serving.conftest import OpenStores
from twin_serving.app import create_app
from twin_serving.deps import Services


def code_of(response) -> str:
    body = response.json()
    return body.get("code") or body["error"]["code"]


@pytest.fixture
def paced() -> PacedLlm:
    return PacedLlm()


@pytest.fixture
def services(stores: Stores, paced: PacedLlm, tmp_path: Path) -> Services:
    return Services(OpenStores(stores), lambda: paced, tmp_path / "adapters")  # type: ignore[arg-type]


@pytest.fixture
def api(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(lambda: services), raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("way", ["json", "events", "v1", "v1 stream"])
def test_of_a_burst_what_is_too_many_is_refused_before_it_is_stored(
    api: TestClient, services: Services, paced: PacedLlm, twin: str, stores: Stores, way: str
) -> None:
    """All sixteen were let in by a look that held no place. Then ten were refused, in a stream as an event after 200, and their
    questions were stored and queued for memory: who obeyed Retry-After had asked twice.
    """
    serving = stores.settings.serving
    fit = serving.in_flight_per_user + serving.waiting_per_user
    paced.gate.clear()
    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(ask_by, way, api, twin) for _ in range(16)]
        wait_until(lambda: sum(one.done() for one in asked) == 16 - fit, 60)
        refused = [one.result() for one in asked if one.done()]
        wait_until(lambda: services.admission.waiting() == serving.waiting_per_user, 60)
        paced.gate.set()
        answered = [one.result() for one in asked if one.result() not in refused]
    assert [(one.status_code, code_of(one)) for one in refused] == [(429, "too_many_requests")] * (16 - fit)
    assert all(1 <= int(one.headers["retry-after"]) <= 120 for one in refused)
    assert [one.status_code for one in answered] == [200] * fit
    assert not any("too_many_requests" in one.text for one in answered)
    with stores.tables.transaction(twin) as connection:
        assert connection.execute(text("select count(*) from chat_message where sender = 'user'")).scalar_one() == fit
        assert connection.execute(text("select count(*) from chat_message where sender = 'twin'")).scalar_one() == fit
    assert left_over(services) == (0, 0, 0)


def ask_by(way: str, api: TestClient, twin: str, question: str = "What is your cat called?"):
    if way.startswith("v1"):
        # each in a session of its own: there a question that stands unanswered is taken up again
        body = {"model": f"twin-{twin}", "messages": [{"role": "user", "content": question}], "stream": way == "v1 stream"}
        return api.post("/v1/chat/completions", json=body, headers={"X-Session-Id": uuid.uuid4().hex})
    headers = {"Accept": "text/event-stream"} if way == "events" else {}
    return api.post(f"/twin/{twin}/chat", json={"question": question}, headers=headers)


def left_over(services: Services) -> tuple[int, int, int]:
    admission = services.admission
    return admission.booked(), admission.waiting(), admission.at_work()


@pytest.mark.parametrize("way", ["json", "events", "v1", "v1 stream"])
def test_a_place_is_given_back_whatever_becomes_of_the_turn(
    api: TestClient, services: Services, paced: PacedLlm, twin: str, way: str
) -> None:
    assert ask_by(way, api, twin, " ").status_code in (400, 422), "refused after it was booked"
    assert left_over(services) == (0, 0, 0)
    assert ask_by(way, api, twin).status_code == 200
    assert left_over(services) == (0, 0, 0)
    paced.refuses.update({None, *paced.checked})
    assert '"base"' in ask_by(way, api, twin).text, "quoted: no model answers"
    assert left_over(services) == (0, 0, 0)
    services.turns.close()
    if not way.startswith("v1"):
        assert ask_by(way, api, twin).status_code == 503
        assert left_over(services) == (0, 0, 0)


class Unclosed(Stores):
    """The session's stores with another answerer; no app may close them."""

    def close(self) -> None:
        pass


class Elsewhere:
    """Answers as soon as its gate is open, and counts who is at work."""

    def __init__(self, failure: LlmError | None = None) -> None:
        self.failure = failure
        self.gate = threading.Event()
        self.at_work = self.most = 0
        self._lock = threading.Lock()

    def stream(self, messages: Sequence[Message], *, max_tokens: int) -> Iterator[str]:
        with self._lock:
            self.at_work += 1
            self.most = max(self.most, self.at_work)
        try:
            assert self.gate.wait(60)
            if self.failure:
                raise self.failure
            yield "Pilchard."
        finally:
            with self._lock:
                self.at_work -= 1

    def close(self) -> None: ...


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("way", ["json", "v1"])
def test_a_model_elsewhere_answers_no_more_at_once_for_one_user_than_the_twin_would(
    stores: Stores, paced: PacedLlm, twin: str, tmp_path: Path, way: str, fails: bool
) -> None:
    """With `models.answerer` set twenty questions of one user were at work at once."""
    serving = stores.settings.serving
    fit = serving.in_flight_per_user + serving.waiting_per_user
    elsewhere = Elsewhere(LlmError("answerer_unavailable", "told to") if fails else None)
    held: dict[str, Any] = {field.name: getattr(stores, field.name) for field in fields(stores)}
    services = Services(Unclosed(**{**held, "answerer": elsewhere}), lambda: paced, tmp_path / "adapters")
    with (
        TestClient(create_app(lambda: services), raise_server_exceptions=False) as api,
        ThreadPoolExecutor(20) as pool,
    ):
        asked = [pool.submit(ask_by, way, api, twin) for _ in range(20)]
        wait_until(lambda: sum(one.done() for one in asked) == 20 - fit, 60)
        wait_until(lambda: services.admission.waiting() == serving.waiting_per_user, 60)
        assert elsewhere.at_work == serving.in_flight_per_user
        elsewhere.gate.set()
        found = Counter(one.result().status_code for one in asked)
        assert found == {200: fit, 429: 20 - fit}
        assert elsewhere.most == serving.in_flight_per_user
        assert paced.most_of_one == (serving.in_flight_per_user if fails else 0), "the twin in its place, and in the same"
        assert left_over(services) == (0, 0, 0)


def test_the_question_too_many_is_429_with_retry_after_and_the_others_are_answered(
    api: TestClient, services: Services, paced: PacedLlm, twin: str, stores: Stores
) -> None:
    serving = stores.settings.serving
    fit = serving.in_flight_per_user + serving.waiting_per_user
    ask = {"question": "What is your cat called?"}
    assert api.post(f"/twin/{twin}/chat", json=ask).status_code == 200
    paced.gate.clear()
    with ThreadPoolExecutor(fit) as pool:
        asked = [pool.submit(api.post, f"/twin/{twin}/chat", json=ask) for _ in range(fit)]
        wait_until(lambda: services.llm.admission.waiting() == serving.waiting_per_user, 60)
        for headers in ({}, {"Accept": "text/event-stream"}):
            refused = api.post(f"/twin/{twin}/chat", json=ask, headers=headers)
            assert (refused.status_code, code_of(refused)) == (429, "too_many_requests")
            assert 1 <= int(refused.headers["retry-after"]) <= 120
        paced.gate.set()
        assert [done.result().status_code for done in asked] == [200] * fit
    with stores.tables.transaction(twin) as connection:
        assert connection.execute(text("select count(*) from chat_message")).scalar_one() == 2 * (1 + fit)
    assert api.post(f"/twin/{twin}/chat", json=ask).status_code == 200
