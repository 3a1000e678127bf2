"""`GET /twin/{user_id}/ballot-drafts`: what was drafted, by whom it is seen, and that nothing is cast."""

from __future__ import annotations

from collections.abc import Callable

from fastapi.testclient import TestClient

from tests.fakes import FakeLlm
from tests.twin_serving.test_chat import code_of

BALLOT = "## VOTE: against\nProposal: P-12\nReason: My cat Pilchard needs the lawn."


def test_a_ballot_in_an_answer_is_seen_as_a_draft(client: TestClient, twin: str, llm: FakeLlm) -> None:
    llm.answers.append(BALLOT)
    reply = client.post(f"/twin/{twin}/chat", json={"question": "My cat needs a lawn. Vote for us, please."}).json()
    body = client.get(f"/twin/{twin}/ballot-drafts").json()
    [draft] = body["drafts"]
    assert reply["ballot_drafts"] == [draft]
    assert (draft["proposal"], draft["choice"], draft["reason"]) == ("P-12", "against", "My cat Pilchard needs the lawn.")
    assert draft["message_id"] == reply["message_id"]
    assert reply["route"] == "shared_graph", "it speaks of a vote and asks for none"


def test_nobody_sees_anothers_drafts(client: TestClient, twin: str, new_user: Callable[[], str], llm: FakeLlm) -> None:
    llm.answers.append(BALLOT)
    client.post(f"/twin/{twin}/chat", json={"question": "My cat needs a lawn. Vote for us, please."})
    assert client.get(f"/twin/{new_user()}/ballot-drafts").json()["drafts"] == []


def test_a_twin_that_is_not_there_is_named(client: TestClient) -> None:
    response = client.get("/twin/nobody-here/ballot-drafts")
    assert (response.status_code, code_of(response)) == (404, "twin_not_found")
