"""Votes over the API: from a proposal to its end, who may do what, and what is refused with which words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lpm_kernel.dao.ballot_draft import BallotDraft
from lpm_kernel.paging import make_cursor
from lpm_kernel.records import ChatMessage
from lpm_kernel.stores.ballot_drafts import keep_drafts, keep_twin_draft
from lpm_kernel.stores.conversations import append_message
from tests.twin_serving.dao_town import Town, dao_tables, propose, town, vote
from twin_serving.errors import PROBLEM_TYPE

__all__ = ["dao_tables", "town"]


def refused(client: TestClient, method: str, path: str, **sent: Any) -> tuple[int, str]:
    answer = client.request(method, path, **sent)
    assert answer.headers["content-type"] == PROBLEM_TYPE, answer.text
    return answer.status_code, answer.json()["code"]


def test_the_ballot_that_decides_closes_the_vote_and_the_answer_says_so(town: Town) -> None:
    client = town.client()
    proposal = propose(client)
    first = vote(client, proposal, "ada", reasons="The bank is bare.")
    assert (first["status"], first["resolution"], first["repeated"]) == ("voting", None, False)
    status = client.get(f"/proposals/{proposal}/status").json()
    assert status["tally"] == {"for": 1, "against": 0, "abstain": 0, "electorate": 3, "voters": 1, "represented": 0}
    assert 0 < status["time_left_s"] <= 72 * 3600
    assert [each["proposal"]["proposal_id"] for each in client.get("/proposals/open").json()["proposals"]] == [proposal]

    second = vote(client, proposal, "bo")
    assert second["status"] == "passed"
    assert (second["resolution"]["outcome"], second["resolution"]["closed_by"]) == ("passed", "decided")
    status = client.get(f"/proposals/{proposal}/status").json()
    assert (status["proposal"]["status"], status["time_left_s"]) == ("passed", 0)
    assert [(each["member"], each["choice"]) for each in status["members"]] == [("ada", "for"), ("bo", "for"), ("cy", None)]
    ballots = client.get(f"/proposals/{proposal}/ballots").json()["ballots"]
    assert [(each["voter"], each["counts"], each["reasons"]) for each in ballots] == [
        ("ada", True, "The bank is bare."),
        ("bo", True, None),
    ]
    assert client.get("/proposals/open").json()["proposals"] == []
    state = client.get("/dao/state").json()
    assert (state["resolved"][0]["proposal_id"], state["members"], state["open"]) == (proposal, 3, [])

    done = client.post(f"/proposals/{proposal}/implemented")
    assert (done.status_code, done.json()["status"]) == (200, "implemented")
    audit = client.get("/audit", params={"limit": 500}).json()
    assert (audit["ok"], audit["broken"]) == (True, [])
    kinds = [line["kind"] for line in audit["lines"] if line["proposal_id"] == proposal]
    assert kinds[:3] == ["proposal_drafted", "proposal_opened", "voting_started"]
    assert kinds[-2:] == ["proposal_resolved", "proposal_implemented"]


def test_proposals_are_listed_by_status_page_by_page(town: Town) -> None:
    client = town.client()
    made = [propose(client, title=f"Number {number}", topic="parks") for number in range(3)]
    client.post(f"/proposals/{made[1]}/cancel", json={"why": "Said twice."})
    found = client.get("/proposals", params={"status": "voting", "limit": 1}).json()
    assert [each["proposal_id"] for each in found["proposals"]] == [made[2]]
    rest = client.get("/proposals", params={"status": "voting", "limit": 1, "cursor": found["next_cursor"]}).json()
    assert [each["proposal_id"] for each in rest["proposals"]] == [made[0]]
    cancelled = client.get(f"/proposals/{made[1]}/status").json()["proposal"]
    assert (cancelled["status"], cancelled["ended_why"]) == ("cancelled", "Said twice.")
    assert refused(client, "GET", "/proposals", params={"cursor": "x"}) == (422, "cursor_invalid")
    for drafted_at in ("soon", "2026-03-01", "2026-03-01T12:00:00"):
        made_up = {"cursor": make_cursor("proposals", drafted_at, "p-1")}
        assert refused(client, "GET", "/proposals", params=made_up) == (422, "cursor_invalid"), drafted_at
    for drafted_at in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"):
        edge = {"cursor": make_cursor("proposals", drafted_at, "p-1")}
        assert client.get("/proposals", params=edge).status_code == 200, drafted_at


def test_a_draft_is_opened_by_its_proposer(town: Town) -> None:
    client = town.client()
    proposal = propose(client, open=False)
    assert client.get(f"/proposals/{proposal}/status").json()["proposal"]["status"] == "draft"
    assert refused(client, "POST", "/vote", json={"proposal": proposal, "voter": "bo", "choice": "for"}) == (
        409,
        "voting_not_open",
    )
    assert refused(client, "POST", f"/proposals/{proposal}/open", json={"actor": "bo"}) == (403, "not_proposer")
    assert client.post(f"/proposals/{proposal}/open").json()["status"] == "voting"
    assert refused(client, "POST", f"/proposals/{proposal}/open") == (409, "already_open")


def ballot(proposal: str, **more: Any) -> dict[str, Any]:
    return {"json": {"proposal": proposal, "voter": "bo", "choice": "for"} | more}


def test_what_the_rules_of_a_vote_refuse_is_named(town: Town) -> None:
    client = town.client(extend_stalled=False)
    proposal = propose(client)
    town.settle("ada", "bo", "cy", "dee")  # who comes later has no vote
    assert refused(client, "POST", "/vote", **ballot("p-none")) == (404, "proposal_unknown")
    assert refused(client, "POST", "/vote", **ballot(proposal, choice="perhaps")) == (422, "request_invalid")
    assert refused(client, "POST", "/vote", **ballot(proposal, voter="nobody")) == (403, "not_a_member")
    assert refused(client, "POST", "/vote", **ballot(proposal, voter="dee")) == (403, "not_in_electorate")
    assert refused(client, "POST", "/vote", **ballot(proposal, weight=0)) == (422, "weight_invalid")
    assert refused(client, "POST", "/vote", **ballot(proposal, weight=-2)) == (422, "weight_invalid")
    assert refused(client, "POST", "/vote", **ballot(proposal, weight=5)) == (422, "weight_not_yours")
    assert refused(client, "POST", "/vote", **ballot(proposal, surplus=1)) == (422, "request_invalid")
    assert refused(client, "POST", "/vote", json={"voter": "bo"}) == (422, "ballot_incomplete")
    assert refused(client, "POST", "/vote", json={"proposal": proposal, "choice": "for"}) == (422, "actor_missing")
    vote(client, proposal, "bo", weight=1)
    assert refused(client, "POST", "/vote", **ballot(proposal, choice="against")) == (409, "ballot_final")
    assert refused(client, "POST", f"/proposals/{proposal}/veto", json={"actor": "bo"}) == (404, "ballot_unknown")
    assert refused(client, "POST", f"/proposals/{proposal}/implemented") == (409, "not_passed")
    assert refused(client, "POST", f"/proposals/{proposal}/cancel", json={"why": "x" * 501}) == (422, "request_invalid")
    town.clock.move(hours=200)
    assert refused(client, "POST", "/vote", **ballot(proposal, voter="cy")) == (409, "voting_closed")
    assert refused(client, "POST", f"/proposals/{proposal}/cancel", json={"why": "Late."}) == (409, "already_ended")
    for path in ("status", "ballots"):
        assert refused(client, "GET", f"/proposals/p-none/{path}") == (404, "proposal_unknown")


@pytest.mark.parametrize(
    "wrong",
    [
        {"title": "x" * 201},
        {"title": ""},
        {"text": "x" * 20_001},
        {"topic": "x" * 81},
        {"weight": -1},
        {"attributes": {"founder": 0}},
        {"proposer": "Ada Lovelace"},
    ],
)
def test_a_proposal_that_is_too_long_or_says_what_none_may_is_refused(town: Town, wrong: dict[str, Any]) -> None:
    body = {"title": "Trees", "text": "Ten.", "proposer": "ada", **wrong}
    assert refused(town.client(), "POST", "/proposals", json=body) == (422, "request_invalid")


def test_an_amendment_names_a_proposal_that_there_is(town: Town) -> None:
    client = town.client()
    assert client.get(f"/proposals/{propose(client, amends=propose(client))}/status").json()["proposal"]["amends"]
    body = {"title": "Trees", "text": "Ten.", "proposer": "ada", "amends": "p-none"}
    assert refused(client, "POST", "/proposals", json=body) == (404, "proposal_unknown")


def test_the_same_key_with_the_same_content_is_done_once_and_with_another_refused(town: Town) -> None:
    client = town.client()
    proposal = propose(client)
    headers = {"Idempotency-Key": "once"}
    first = client.post("/vote", headers=headers, **ballot(proposal)).json()
    again = client.post("/vote", **ballot(proposal, key="once")).json()
    assert (again["repeated"], again["ballot_id"]) == (True, first["ballot_id"])
    assert len(client.get(f"/proposals/{proposal}/ballots").json()["ballots"]) == 1
    assert refused(client, "POST", "/vote", headers=headers, **ballot(proposal, choice="against")) == (409, "key_reused")
    assert refused(client, "POST", "/vote", headers=headers, **ballot(proposal, key="twice")) == (422, "key_invalid")
    assert refused(client, "POST", "/vote", headers={"Idempotency-Key": "k" * 201}, **ballot(proposal)) == (
        422,
        "request_invalid",
    )
    assert propose(client, key="mine") == propose(client, key="mine")
    assert propose(client) != propose(client)


def test_a_clock_that_is_two_minutes_off_does_no_harm_and_one_that_is_more_is_told(town: Town) -> None:
    client = town.client(close="deadline")
    proposal = propose(client)

    def cast_at(**span: float) -> str:
        return (datetime.now(UTC) + timedelta(**span)).isoformat()

    ahead = vote(client, proposal, "ada", "against", cast_at=cast_at(seconds=110))
    assert datetime.fromisoformat(ahead["cast_at"]) <= datetime.now(UTC) + timedelta(seconds=1), "never a time to come"
    vote(client, proposal, "ada", "for")
    assert client.get(f"/proposals/{proposal}/status").json()["tally"]["for"] == 1, "the later ballot stands"
    vote(client, proposal, "bo", "for", cast_at=cast_at(seconds=-110))
    for minutes in (-3, 3):
        sent = ballot(proposal, voter="cy", cast_at=cast_at(minutes=minutes))
        assert refused(client, "POST", "/vote", **sent) == (422, "clock_skewed")
    late = ballot(proposal, voter="ada", choice="against", cast_at=cast_at(seconds=-60))
    assert refused(client, "POST", "/vote", **late) == (409, "ballot_late")
    without_zone = ballot(proposal, voter="cy", cast_at="2026-11-27T12:00:00")
    assert refused(client, "POST", "/vote", **without_zone) == (422, "request_invalid")
    before_all = ballot(proposal, voter="cy", cast_at="0001-01-01T00:00:00+23:59")
    assert refused(client, "POST", "/vote", **before_all) == (422, "time_invalid")


def test_with_tokens_the_token_says_who_acts_and_members_read(town: Town) -> None:
    client, bearer = town.client(tokens=True), town.issuer.bearer
    made = client.post("/proposals", json={"title": "Trees", "text": "Ten oaks."}, headers=bearer("ada"))
    assert (made.status_code, made.json()["proposer"]) == (201, "ada")
    proposal = made.json()["proposal_id"]
    assert refused(client, "POST", "/vote", headers=bearer("cy"), **ballot(proposal)) == (403, "not_yours")
    ballot_of_bo = {"proposal": proposal, "choice": "for"}
    assert client.post("/vote", headers=bearer("bo"), json=ballot_of_bo).json()["voter"] == "bo"
    assert refused(client, "POST", "/vote", headers=bearer("stranger"), json=ballot_of_bo) == (403, "not_a_member")
    for path in (f"/proposals/{proposal}/status", "/proposals", "/proposals/open", "/dao/state", "/delegations", "/audit"):
        assert client.get(path, headers=bearer("cy")).status_code == 200, path
        assert refused(client, "GET", path, headers=bearer("stranger")) == (403, "not_a_member"), path
        assert refused(client, "GET", path) == (401, "token_missing"), path
    why = {"why": "No."}
    assert refused(client, "POST", f"/proposals/{proposal}/cancel", headers=bearer("cy"), json=why) == (403, "not_proposer")
    operator = bearer("ops", scope="twin:operator")
    assert client.post(f"/proposals/{proposal}/cancel", headers=operator, json=why).json()["status"] == "cancelled"
    lines = client.get("/audit", params={"limit": 500}, headers=operator).json()["lines"]
    assert [each["actor"] for each in lines if each["kind"] == "proposal_cancelled" and each["proposal_id"] == proposal] == [
        "ops"
    ]


def test_what_has_passed_is_carried_out_by_its_proposer_or_an_operator(town: Town) -> None:
    client, bearer = town.client(tokens=True), town.issuer.bearer
    operator = bearer("ops", scope="twin:operator")
    for actor in (bearer("ada"), operator):
        made = client.post("/proposals", json={"title": "Trees", "text": "Ten oaks."}, headers=bearer("ada"))
        proposal = made.json()["proposal_id"]
        for voter in ("ada", "bo"):
            client.post("/vote", json={"proposal": proposal, "choice": "for"}, headers=bearer(voter))
        path = f"/proposals/{proposal}/implemented"
        assert refused(client, "POST", path, headers=bearer("bo")) == (403, "not_proposer")
        assert client.post(path, headers=actor).json()["status"] == "implemented"
        assert refused(client, "POST", path, headers=actor) == (409, "already_ended")


def test_a_draft_of_the_twin_is_cast_by_its_person(town: Town) -> None:
    client = town.client()
    proposal, at = propose(client), datetime.now(UTC)
    message = ChatMessage("m1", "bo", "s", "twin", at, "## VOTE: against")
    drafts = [BallotDraft(proposal, "against", "Roots lift the path."), BallotDraft("P-12", "for", None)]
    with town.stores.tables.transaction("bo") as connection:
        append_message(connection, message)
        kept = {draft.draft.proposal: draft.draft_id for draft in keep_drafts(connection, message, drafts)}
    draft = {"voter": "bo", "draft_id": kept[proposal]}
    assert refused(client, "POST", "/vote", json={**draft, "voter": "cy"}) == (404, "draft_unknown")
    assert refused(client, "POST", "/vote", json={**draft, "choice": "for"}) == (422, "draft_differs")
    assert refused(client, "POST", "/vote", json={**draft, "draft_id": kept["P-12"]}) == (404, "proposal_unknown")
    other = propose(client, title="Fell trees")
    for draft_id in kept.values():
        body = {"voter": "bo", "draft_id": draft_id, "proposal": other}
        assert refused(client, "POST", "/vote", json=body) == (422, "draft_differs"), "it was drafted for another proposal"
    cast = client.post("/vote", json=draft).json()
    assert (cast["choice"], cast["cast_by"]) == ("against", "human")
    [told] = client.get(f"/proposals/{proposal}/ballots").json()["ballots"]
    assert told["reasons"] is None, "a draft may quote what nobody else has heard"


def test_the_words_of_a_draft_are_told_when_its_person_says_so(town: Town) -> None:
    client = town.client()
    proposal = propose(client)
    with town.stores.tables.transaction("bo") as connection:
        draft = BallotDraft(proposal, "against", "Roots lift the path.")
        kept = keep_twin_draft(connection, "bo", draft, datetime.now(UTC), confidence=0.7, citations=(), why="draft_only")
    client.post("/vote", json={"voter": "bo", "draft_id": kept.draft_id, "publish_reason": True})
    [told] = client.get(f"/proposals/{proposal}/ballots").json()["ballots"]
    assert (told["choice"], told["reasons"]) == ("against", "Roots lift the path.")


def test_an_attribute_weighs_in_votes_that_begin_later_and_only_an_operator_gives_it(town: Town) -> None:
    client, bearer = town.client(tokens=True, weights={"founder": 3}), town.issuer.bearer
    path, body, operator = "/twin/ada/attributes", {"attributes": {"founder": 2}}, bearer("ops", scope="twin:operator")
    assert refused(client, "PUT", path, json=body, headers=bearer("ada")) == (403, "operator_only")
    for amount in (0, -1):
        wrong = {"attributes": {"founder": amount}}
        assert refused(client, "PUT", path, json=wrong, headers=operator) == (422, "weight_invalid")
    assert refused(client, "PUT", "/twin/nobody/attributes", json=body, headers=operator) == (403, "not_a_member")
    assert client.put(path, json=body, headers=operator).json() == body
    made = client.post("/proposals", json={"title": "Trees", "text": "Ten oaks."}, headers=bearer("ada")).json()
    status = client.get(f"/proposals/{made['proposal_id']}/status", headers=bearer("bo")).json()
    assert {each["member"]: each["weight"] for each in status["members"]} == {"ada": 7, "bo": 1, "cy": 1}


def test_a_draft_that_names_its_proposal_by_the_title_is_cast_on_that_one(town: Town) -> None:
    client = town.client()
    proposal = propose(client, title="Plant  Ten Trees")
    with town.stores.tables.transaction("bo") as connection:
        draft = BallotDraft("“plant ten trees”", "against", None)
        kept = keep_twin_draft(connection, "bo", draft, datetime.now(UTC), confidence=0.7, citations=(), why="draft_only")
    cast = client.post("/vote", json={"voter": "bo", "draft_id": kept.draft_id, "proposal": proposal})
    assert (cast.status_code, cast.json()["choice"]) == (200, "against")
