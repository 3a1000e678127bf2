"""Twins that vote by themselves while the API runs: nobody asks them to."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest

from lpm_kernel.dao.stance import Stance
from lpm_kernel.dao.twin_turns import TwinTurns, let_twins_vote
from lpm_kernel.errors import LlmError
from lpm_kernel.settings import Settings
from lpm_kernel.stores.releases import promote_release
from tests.samples import make_release
from tests.twin_serving.dao_town import Town, dao_tables, propose, town
from tests.twin_serving.test_live_turns import eventually
from twin_serving import dao_twin_voter
from twin_serving.dao_twin_voter import TwinVoter

__all__ = ["dao_tables", "town"]


@pytest.fixture
def sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every twin is for everything, and has no line to quote."""

    def weigh(*_: object, **__: object) -> Stance:
        return Stance("for", 0.93, {"for": 0.93, "against": 0.05, "abstain": 0.02}, 0.9)

    monkeypatch.setattr(dao_twin_voter, "let_twins_vote", partial(let_twins_vote, weigh=weigh))


def serve(town: Town, *members: str) -> None:
    for member in members:
        with town.stores.tables.transaction(member) as connection:
            promote_release(connection, replace(make_release(member), release_id=f"of-{member}"))


def cast_by(client: Any, proposal: str) -> dict[str, str]:
    ballots = client.get(f"/proposals/{proposal}/ballots").json()["ballots"]
    return {ballot["voter"]: ballot["cast_by"] for ballot in ballots}


@pytest.mark.usefixtures("sure")
def test_a_twin_whose_person_lets_it_votes_when_a_proposal_opens(town: Town) -> None:
    client = town.client(worker_poll_s=0.05)
    serve(town, "ada", "bo", "cy")
    assert client.put("/twin/bo/consent", json={"mode": "autonomous"}).status_code == 200
    assert client.put("/twin/cy/consent", json={"mode": "draft"}).status_code == 200
    proposal = propose(client)
    eventually(lambda: cast_by(client, proposal) == {"bo": "twin"})
    eventually(lambda: [each["proposal"] for each in client.get("/twin/cy/ballot-drafts").json()["drafts"]] == [proposal])
    eventually(lambda: 'twin_dao_ballots_total{cast_by="twin"} 1.0' in client.get("/metrics").text)


@pytest.mark.usefixtures("sure")
def test_where_the_settings_let_none_vote_by_itself_none_does(town: Town) -> None:
    client = town.client(worker_poll_s=0.05, twins_per_look=0)
    serve(town, "bo")
    client.put("/twin/bo/consent", json={"mode": "autonomous"})
    proposal = propose(client)
    assert not any(thread.name == "dao-twins" for thread in threading.enumerate())
    assert cast_by(client, proposal) == {}


def test_without_a_model_it_rests_and_says_so_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[int] = []

    def away(*_: object, **__: object) -> TwinTurns:
        tried.append(1)
        raise LlmError("engine_unreachable", "told to")

    monkeypatch.setattr(dao_twin_voter, "let_twins_vote", away)
    stores = cast("Any", type("Stores", (), {"settings": settings}))
    voter = TwinVoter(stores, cast("Any", None), cast("Any", None), lambda cast: None, lambda: False)
    for _ in range(3):
        assert voter.look() == TwinTurns()
    assert len(tried) == 1
    assert caplog.text.count("engine_unreachable") == 1
