"""What an operator sees of circuits: named by /readyz while they are not closed, counted in /metrics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fastapi.testclient import TestClient

from lpm_kernel.stores.breaker import Breakers
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeLlm
from tests.twin_serving.conftest import OpenStores
from twin_serving.app import create_app
from twin_serving.deps import Services


def test_open_circuits_are_named_and_counted(stores: Stores, tmp_path: Path) -> None:
    own = replace(stores, breakers=Breakers())
    app = create_app(lambda: Services(OpenStores(own), FakeLlm, tmp_path))  # type: ignore[arg-type]
    gemini, _ = own.breakers.named("gemini", 1, 600.0), own.breakers.named("graph", 3, 600.0)
    with TestClient(app) as client:
        assert client.get("/readyz").json()["circuits"] == {}
        gemini.failed()
        assert client.get("/readyz").json()["circuits"] == {"gemini": "open"}
        figures = client.get("/metrics").text
        assert 'twin_breaker_state{dependency="gemini"} 2.0' in figures
        assert 'twin_breaker_state{dependency="graph"} 0.0' in figures
        assert 'twin_breaker_trips_total{dependency="gemini"} 1.0' in figures
        gemini.succeeded()
        assert client.get("/readyz").json()["circuits"] == {}
        assert 'twin_breaker_state{dependency="gemini"} 0.0' in client.get("/metrics").text
