"""The thread that moves votes on: a deadline resolves without the sensor, and a failure stops nothing."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from lpm_kernel.dao.service import Dao
from lpm_kernel.errors import StoreError
from lpm_kernel.request_context import request_id
from tests.stores.test_webhook import Listener
from tests.twin_serving.dao_town import Town, dao_tables, propose, town, vote
from tests.twin_serving.test_live_turns import eventually
from twin_serving.dao_metrics import DaoMetrics
from twin_serving.dao_worker import DaoWorker

__all__ = ["dao_tables", "town"]


def test_a_deadline_resolves_by_itself_and_is_counted(town: Town) -> None:
    client = town.client(worker_poll_s=0.05, extend_stalled=False, standing_at_percent=100, remind_at_percent=())
    proposal = propose(client)
    vote(client, proposal, "ada")
    town.clock.move(hours=73)
    eventually(lambda: Dao(town.stores.tables, town.stores.settings.dao).proposal(proposal).status == "failed")
    told = client.get(f"/proposals/{proposal}/status").json()["proposal"]
    assert (told["resolution"]["reason"], told["resolution"]["closed_by"]) == ("quorum_not_met", "deadline")
    ended = 'twin_dao_resolutions_total{closed_by="deadline",outcome="failed"} 1.0'
    eventually(lambda: ended in client.get("/metrics").text)
    figures = client.get("/metrics").text
    assert 'twin_dao_ballots_total{cast_by="human"} 1.0' in figures
    assert 'twin_dao_ballots_total{cast_by="twin"} 0.0' in figures
    assert 'twin_dao_proposals{status="voting"}' in figures
    assert "twin_dao_stream_listeners 0.0" in figures


def worker(poll_s: float) -> DaoWorker:
    return DaoWorker(cast("Any", None), cast("Any", None), DaoMetrics(dict), poll_s)


def test_it_goes_on_after_any_failure_and_ends_when_it_is_closed() -> None:
    looked: list[str | None] = []

    def work() -> None:
        looked.append(request_id())
        if len(looked) == 1:
            raise StoreError("tables_unavailable", "told to")
        if len(looked) == 2:
            raise OSError("told to")

    thread = worker(0.01)
    thread.start(work)
    eventually(lambda: len(looked) >= 3)
    thread.close()
    assert all(name and name.startswith("dao-worker-") for name in looked)
    assert len({*looked}) == len(looked), "each look is a transaction of its own"
    assert not any(each.name == "dao-worker" for each in threading.enumerate())


def test_where_the_settings_leave_it_to_the_sensor_there_is_none() -> None:
    thread = worker(0)
    thread.start(lambda: None)
    assert not any(each.name == "dao-worker" for each in threading.enumerate())
    thread.close()


def test_who_is_named_hears_of_votes_that_wait_while_nobody_asks(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reminders stood in the ledger and reached nobody."""
    with Listener() as listener:
        monkeypatch.setenv(town.stores.settings.stores.notice_webhook_url, listener.url)
        client = town.client(worker_poll_s=0.05, close="deadline", extend_stalled=False)
        proposal = propose(client)
        town.clock.move(hours=37)
        eventually(lambda: any(proposal == body["proposal_id"] for *_, body in listener.heard))
        told = [body for *_, body in listener.heard if body["proposal_id"] == proposal]
        client.close()
    assert [(body["kind"], body["members"]) for body in told] == [("vote_waits", ["ada", "bo", "cy"])]
