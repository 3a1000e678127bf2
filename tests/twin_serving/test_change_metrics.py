"""What `/metrics` shows of changes that have not reached their stores."""

from __future__ import annotations

from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, generate_latest

from lpm_kernel.errors import StoreError
from lpm_kernel.sync.lag import Backlog
from twin_serving.change_metrics import Backlogs


def test_each_target_has_its_lag_its_count_and_what_was_given_up() -> None:
    registry = CollectorRegistry()
    registry.register(Backlogs(lambda: [Backlog("graph", 3, 61.5, 1), Backlog("graph/ledger", 0, 0.0, 0)]))
    text = generate_latest(registry).decode()
    assert 'twin_changes_undone{target="graph"} 3.0' in text
    assert 'twin_changes_oldest_age_seconds{target="graph"} 61.5' in text
    assert 'twin_changes_given_up{target="graph"} 1.0' in text
    assert 'twin_changes_oldest_age_seconds{target="graph/ledger"} 0.0' in text


def test_tables_that_do_not_answer_are_no_zero() -> None:
    def away() -> list[Backlog]:
        raise StoreError("tables_unavailable", "told to")

    registry = CollectorRegistry()
    registry.register(Backlogs(away))
    assert generate_latest(registry) == b""


def test_the_api_shows_them(client: TestClient) -> None:
    text = client.get("/metrics").text
    for target in ("vectors", "memories", "graph", "blobs", "graph/ledger"):
        assert f'twin_changes_oldest_age_seconds{{target="{target}"}}' in text
