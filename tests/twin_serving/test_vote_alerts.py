"""A vote that the API could not move on: an alert, once an hour, and the others move on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from lpm_kernel.errors import StoreError, VoteError
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.breaker import Breakers
from tests.stores.test_webhook import Listener
from twin_serving.dao_metrics import DaoMetrics
from twin_serving.dao_worker import DaoWorker


class StuckDao:
    """Three votes are due; two of them cannot be moved on."""

    def __init__(self) -> None:
        self.moved: list[str] = []

    def due(self) -> list[str]:
        return ["p-1", "p-2", "p-3"]

    def advance(self, proposal_id: str) -> list[Any]:
        if proposal_id == "p-1":
            raise VoteError("ledger_broken", "an event is missing")
        if proposal_id == "p-2":
            raise StoreError("tables_refused", "no", retryable=False)
        self.moved.append(proposal_id)
        return []


def test_a_vote_that_fails_is_told_once_and_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWIN_HOME", "/nowhere")
    monkeypatch.delenv("REDIS_URL", raising=False)
    dao, stores = StuckDao(), SimpleNamespace(settings=load_settings(), breakers=Breakers())
    with Listener() as listener:
        monkeypatch.setenv("ALERT_WEBHOOK_URL", listener.url)
        worker = DaoWorker(cast("Any", stores), cast("Any", dao), DaoMetrics(dict), 1.0)
        worker.turn()
        worker.turn()
    told = [(body["kind"], body["subject"], body["category"], body["code"]) for _, _, _, body in listener.heard]
    assert told == [
        ("vote_failed", "p-1", "VOTE_ERROR", "ledger_broken"),
        ("vote_failed", "p-2", "VOTE_ERROR", "tables_refused"),
    ]
    assert dao.moved == ["p-3", "p-3"]
