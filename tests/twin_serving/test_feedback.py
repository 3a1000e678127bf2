"""Feedback, calibration and scopes over HTTP."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from lpm_kernel.artefacts import encode_records
from lpm_kernel.layout import asset_key
from lpm_kernel.records import Topic
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.calibration import list_pairs
from lpm_kernel.stores.documents import private_documents, put_document
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeLlm
from tests.samples import make_document


def code_of(response) -> str:
    body = response.json()
    return body.get("code") or body["error"]["code"]


def test_a_reply_is_rated_and_edited_and_the_newest_word_stands(client: TestClient, twin: str, llm: FakeLlm) -> None:
    llm.answers.append("Admiral.")
    reply = client.post(f"/twin/{twin}/chat", json={"question": "What is your cat called?"}).json()
    told = {"message_id": reply["message_id"], "voice": 1, "truth": -1, "edited": "Pilchard, of course."}
    assert client.post(f"/twin/{twin}/feedback", json={"message_id": reply["message_id"], "truth": 1}).status_code == 204
    assert client.post(f"/twin/{twin}/feedback", json=told).status_code == 204
    (kept,) = client.get(f"/twin/{twin}/feedback").json()["feedback"]
    assert kept.pop("created_at")
    assert kept == {
        **told,
        "session_id": reply["session_id"],
        "question": "What is your cat called?",
        "reply": "Admiral.",
    }


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"message_id": "nope", "truth": 1}, 404, "message_unknown"),
        ({"message_id": "a\u0000", "truth": 1}, 422, "text_invalid"),
        ({"message_id": "nope"}, 422, "feedback_empty"),
        ({"message_id": "nope", "truth": 9}, 422, "rating_invalid"),
        ({"message_id": "nope", "edited": "\u0000"}, 422, "text_invalid"),
        ({"truth": 1}, 422, "request_invalid"),
    ],
)
def test_what_is_no_feedback_is_named(client: TestClient, twin: str, body: dict, status: int, code: str) -> None:
    response = client.post(f"/twin/{twin}/feedback", json=body)
    assert (response.status_code, code_of(response)) == (status, code)


def test_what_the_twin_said_to_somebody_else_is_not_learnt_from(client: TestClient, twin: str, llm: FakeLlm) -> None:
    llm.answers.append("Admiral.")
    reply = client.post(f"/twin/{twin}/chat", json={"question": "What is your cat called?", "asker": "bob"}).json()
    response = client.post(f"/twin/{twin}/feedback", json={"message_id": reply["message_id"], "truth": 1})
    assert (response.status_code, code_of(response)) == (422, "not_own_talk")
    assert client.get(f"/twin/{twin}/feedback").json() == {"feedback": []}


def test_a_calibration_shows_pairs_blind_and_counts_what_is_picked(
    client: TestClient, twin: str, llm: FakeLlm, stores: Stores
) -> None:
    own = TenantBlobs(stores.blobs, twin)
    topics = [Topic(f"t{n}", label, (), (), ()) for n, label in enumerate(("cat", "key", "flower pot"))]
    own.put(asset_key(twin, "topics", "jsonl"), encode_records(topics))
    llm.answers.extend([*(f"Mine {n}." for n in range(3)), *(f"Its {n}." for n in range(3))])
    response = client.post(f"/twin/{twin}/calibration")
    assert response.status_code == 200
    pairs = response.json()["pairs"]
    assert [pair.keys() for pair in pairs] == [{"pair_id", "question", "answers", "picked"}] * 3, "and no sign of whose"
    with stores.tables.transaction(twin) as connection:
        kept = {pair.pair_id: pair for pair in list_pairs(connection, twin)}
    assert {tuple(pair["answers"]) for pair in pairs} == {pair.answers for pair in kept.values()}
    assert len({pair.twin_first for pair in kept.values()}) == 2, "neither side stands first by rule"
    for pair, pick in zip(pairs, ("first", "second", "neither"), strict=True):
        told = client.post(f"/twin/{twin}/calibration/{pair['pair_id']}", json={"pick": pick})
        assert (told.status_code, told.json()["picked"]) == (200, pick)
    summary = client.get(f"/twin/{twin}/calibration").json()
    assert summary["open"] == []
    (count,) = summary["counts"]
    assert (count["shown"], count["twin"] + count["base"], count["neither"]) == (3, 2, 1)
    assert 0 <= count["low"] < count["high"] <= 1
    assert "seed" not in json.dumps([response.json(), summary])


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("post", "calibration", None, 409, "calibration_no_questions"),
        ("post", "calibration/p", {"pick": "first"}, 404, "pair_unknown"),
        ("post", "calibration/a%00", {"pick": "first"}, 400, "request_malformed"),
        ("put", "documents/a%00/scope", {"scope": "private"}, 400, "request_malformed"),
        ("post", "calibration/p", {"pick": "third"}, 422, "request_invalid"),
        ("put", "documents/d/scope", {"scope": "private"}, 404, "document_unknown"),
        ("put", "documents/d/scope", {"scope": "secret"}, 422, "request_invalid"),
    ],
)
def test_what_cannot_be_done_is_named(client: TestClient, twin: str, method, path, body, status, code) -> None:
    response = client.request(method, f"/twin/{twin}/{path}", json=body)
    assert (response.status_code, code_of(response)) == (status, code)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("get", "feedback", None),
        ("post", "feedback", {"message_id": "m", "truth": 1}),
        ("get", "calibration", None),
        ("post", "calibration", None),
        ("post", "calibration/p", {"pick": "first"}),
        ("put", "documents/d/scope", {"scope": "shared"}),
    ],
)
def test_nobody_is_404_and_no_name_is_422(client: TestClient, method: str, path: str, body: dict | None) -> None:
    for user_id, status, code in (("nobody-here", 404, "twin_not_found"), ("UPPER", 422, "user_id_invalid")):
        response = client.request(method, f"/twin/{user_id}/{path}", json=body)
        assert (response.status_code, code_of(response)) == (status, code)


def test_a_document_is_kept_private_and_shared_again(client: TestClient, twin: str, stores: Stores) -> None:
    document = make_document(twin, "diary.md", b"Dear diary.", "read")
    with stores.tables.transaction(twin) as connection:
        put_document(connection, document)
    for scope, private in (("private", {document.sha256}), ("shared", set())):
        response = client.put(f"/twin/{twin}/documents/{document.sha256}/scope", json={"scope": scope})
        assert (response.status_code, response.json()) == (200, {"scope": scope})
        with stores.tables.transaction(twin) as connection:
            assert private_documents(connection, twin) == private
        told = client.get(f"/twin/{twin}/profile").json()["documents"]
        assert [(item["filename"], item["private"]) for item in told] == [("diary.md", bool(private))]
