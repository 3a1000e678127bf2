"""What a twin may do in a vote, over the API: consent, its ballot or draft, and how well that fits its person."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from lpm_kernel.dao.stance import Stance
from lpm_kernel.dao.twin_ballots import cast_twin_ballot
from tests.twin_serving.dao_town import Town, dao_tables, propose, town, vote
from tests.twin_serving.test_dao_votes import refused
from twin_serving.routes import dao_twins

__all__ = ["dao_tables", "town"]

SURE = Stance("for", 0.93, {"for": 0.93, "against": 0.05, "abstain": 0.02}, 0.9)


@pytest.fixture
def sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every twin is for everything, and has no line to quote."""

    def weigh(*about: object, **named: object) -> Stance:
        return SURE

    monkeypatch.setattr(dao_twins, "cast_twin_ballot", partial(cast_twin_ballot, weigh=weigh))


def allow(client: Any, member: str, **consent: Any) -> dict[str, Any]:
    answer = client.put(f"/twin/{member}/consent", json=consent)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_consent_is_to_drafts_until_its_person_says_otherwise(town: Town) -> None:
    client, bearer = town.client(tokens=True), town.issuer.bearer
    before = client.get("/twin/ada/consent", headers=bearer("ada")).json()
    assert (before["mode"], before["changed_at"]) == ("draft", None)
    said = {"mode": "autonomous", "min_confidence": 0.9, "topics": ["parks"], "own_proposals": True, "max_weight": 3}
    answer = client.put("/twin/ada/consent", json=said, headers=bearer("ada"))
    assert {name: answer.json()[name] for name in said} == said
    assert client.get("/twin/ada/consent", headers=bearer("ada")).json() == answer.json()
    assert refused(client, "PUT", "/twin/ada/consent", json=said, headers=bearer("bo")) == (403, "not_yours")
    for wrong in ({"mode": "sometimes"}, {"mode": "draft", "min_confidence": 2}, {"mode": "draft", "max_weight": -1}):
        assert refused(client, "PUT", "/twin/ada/consent", json=wrong, headers=bearer("ada")) == (422, "request_invalid")
    blank = {"mode": "draft", "topics": [" "]}
    assert refused(client, "PUT", "/twin/ada/consent", json=blank, headers=bearer("ada")) == (422, "consent_invalid")
    assert refused(client, "GET", "/twin/stranger/consent", headers=bearer("stranger")) == (404, "twin_not_found")


@pytest.mark.usefixtures("sure")
def test_a_twin_casts_what_it_is_let_and_drafts_the_rest(town: Town) -> None:
    client = town.client()
    proposal = propose(client)
    assert refused(client, "POST", "/twin/bo/ballots", json={"proposal": "p-none"}) == (404, "proposal_unknown")
    drafted = client.post("/twin/bo/ballots", json={"proposal": proposal}).json()
    assert (drafted["outcome"], drafted["why"], drafted["draft"]["choice"]) == ("drafted", "draft_only", "for")
    assert client.get("/twin/bo/ballot-drafts").json()["drafts"] == [drafted["draft"]]
    assert client.get(f"/proposals/{proposal}/ballots").json()["ballots"] == []

    allow(client, "cy", mode="never")
    assert client.post("/twin/cy/ballots", json={"proposal": proposal}).json()["outcome"] == "refused"

    allow(client, "bo", mode="autonomous", min_confidence=0.8)
    cast = client.post("/twin/bo/ballots", json={"proposal": proposal}).json()
    assert (cast["outcome"], cast["ballot"]["cast_by"], cast["stance"]["confidence"]) == ("cast", "twin", 0.93)
    assert cast["ballot"]["counts_from"] > cast["ballot"]["cast_at"], "its person may still take it back"
    again = client.post("/twin/bo/ballots", json={"proposal": proposal}).json()
    assert (again["outcome"], again["why"]) == ("refused", "already_cast")
    assert 'twin_dao_ballots_total{cast_by="twin"} 1.0' in client.get("/metrics").text

    vote(client, proposal, "bo", "against")
    alignment = client.get("/twin/bo/alignment").json()
    assert (alignment["compared"], alignment["same"], alignment["opposed"], alignment["share"]) == (1, 0, 1, 0.0)


def test_a_twin_without_a_release_has_no_stance(town: Town) -> None:
    client = town.client()
    assert refused(client, "POST", "/twin/bo/ballots", json={"proposal": propose(client)}) == (409, "no_release")


@pytest.mark.usefixtures("sure")
def test_nobody_lets_the_twin_of_another_vote(town: Town) -> None:
    client, bearer = town.client(tokens=True), town.issuer.bearer
    for method, path in (("POST", "/twin/ada/ballots"), ("GET", "/twin/ada/alignment")):
        body = {"json": {"proposal": "p"}} if method == "POST" else {}
        assert refused(client, method, path, headers=bearer("bo"), **body) == (403, "not_yours")
