"""Delegations over the API: who votes for whom, what is refused, and how it counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi.testclient import TestClient

from tests.twin_serving.dao_town import Town, dao_tables, propose, town, vote
from tests.twin_serving.test_dao_votes import refused

__all__ = ["dao_tables", "town"]


def given(client: TestClient, delegator: str, delegate: str, **more: Any) -> dict[str, Any]:
    answer = client.post("/delegations", json={"delegator": delegator, "delegate": delegate, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_delegate_carries_a_voice_until_it_is_taken_back(town: Town) -> None:
    client = town.client(close="deadline")
    proposal = propose(client)
    delegation = given(client, "cy", "bo", key="d1")
    assert given(client, "cy", "bo", key="d1") == delegation
    vote(client, proposal, "bo")
    status = client.get(f"/proposals/{proposal}/status").json()
    assert (status["tally"]["for"], status["tally"]["represented"], status["turnout_percent"]) == (2, 1, 100 * 2 / 3)
    assert {each["member"]: each["through"] for each in status["members"]} == {"ada": None, "bo": "bo", "cy": "bo"}
    [told] = client.get("/delegations", params={"member": "cy"}).json()["delegations"][-1:]
    assert (told["delegation_id"], told["scope"]) == (delegation["delegation_id"], {"kind": "all", "of": ""})
    taken = client.delete(f"/delegations/{delegation['delegation_id']}")
    assert (taken.status_code, bool(taken.json()["revoked_at"])) == (200, True)
    assert client.get(f"/proposals/{proposal}/status").json()["tally"]["represented"] == 0
    assert refused(client, "DELETE", f"/delegations/{delegation['delegation_id']}") == (409, "delegation_ended")
    assert refused(client, "DELETE", "/delegations/none") == (404, "delegation_unknown")


def test_what_no_delegation_may_be_is_refused(town: Town) -> None:
    client, over = town.client(), (datetime.now(UTC) - timedelta(seconds=1)).isoformat()

    def refusal(delegator: str, delegate: str, **more: Any) -> tuple[int, str]:
        return refused(client, "POST", "/delegations", json={"delegator": delegator, "delegate": delegate, **more})

    assert refusal("ada", "ada") == (422, "delegation_to_self")
    assert refusal("ada", "stranger") == (404, "delegate_unknown")
    assert refusal("stranger", "ada") == (403, "not_a_member")
    assert refusal("ada", "bo", ends_at=over) == (422, "time_in_past")
    assert refusal("ada", "bo", ends_at="2026-11-27T12:00:00") == (422, "request_invalid")
    assert refusal("ada", "bo", ends_at="9999-12-31T23:59:59-23:59") == (422, "time_invalid")
    assert refusal("ada", "bo", scope={"kind": "proposal", "of": "p-none"}) == (404, "proposal_unknown")
    assert refusal("ada", "bo", scope={"kind": "galaxy"}) == (422, "request_invalid")
    first = given(client, "ada", "bo")
    second = given(client, "bo", "cy")
    assert refusal("cy", "ada") == (409, "delegation_circle")
    for each in (first, second):
        client.delete(f"/delegations/{each['delegation_id']}")
    given(client, "cy", "ada", key="k")
    assert refusal("cy", "bo", key="k") == (409, "key_reused")


def test_nobody_gives_or_takes_back_the_voice_of_another(town: Town) -> None:
    client, bearer = town.client(tokens=True), town.issuer.bearer
    body = {"delegator": "ada", "delegate": "cy", "scope": {"kind": "topic", "of": "parks"}}
    assert refused(client, "POST", "/delegations", json=body, headers=bearer("bo")) == (403, "not_yours")
    made = client.post("/delegations", json={**body, "delegator": None}, headers=bearer("ada")).json()
    assert (made["delegator"], made["scope"]) == ("ada", {"kind": "topic", "of": "parks"})
    path = f"/delegations/{made['delegation_id']}"
    assert refused(client, "DELETE", path, headers=bearer("cy")) == (403, "not_yours")
    assert client.delete(path, headers=bearer("ada")).status_code == 200
