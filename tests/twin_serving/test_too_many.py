"""More questions than one twin may have at once, over HTTP: 429 with a time to come back, before anything is stored."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

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
