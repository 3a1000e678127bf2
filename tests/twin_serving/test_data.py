"""The routes about a user's data, over the real stores."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lpm_kernel.artefacts import encode_record
from lpm_kernel.L1.records import Biography, BiographyLine
from lpm_kernel.layout import asset_key
from lpm_kernel.stores.conversations import append_message
from lpm_kernel.stores.dead_letters import put_dead_letter
from lpm_kernel.stores.documents import mark_deleted
from lpm_kernel.stores.open import Stores
from tests.samples import make_citation, make_letter, make_memory_of, make_message
from twin_serving.auth import Principal, principal_of
from twin_serving.routes.wiki import preferred_form


def code_of(response: httpx.Response) -> str:
    body = response.json()
    return body.get("code") or body["error"]["code"]


def upload(client: TestClient, user_id: str, *files: tuple[str, bytes]) -> httpx.Response:
    return client.post("/upload", data={"user_id": user_id}, files=[("files", file) for file in files])


def test_the_status_says_what_is_there_and_what_is_still_to_be_done(client: TestClient, twin: str, stores: Stores) -> None:
    with stores.tables.transaction(twin) as connection:
        append_message(connection, make_message(twin, 1))
        put_dead_letter(connection, make_letter(twin))
    stores.memories.add_batch(twin, [make_memory_of(twin, "I like tea", kind="preference")])
    before = client.get(f"/twin/{twin}").json()
    assert (before["name"], before["work"], before["model_ready"], before["degraded"]) == ("Nora", "none", True, [])
    assert (before["release"]["stale_reason"], before["releases"]) == (None, {"live": 1})
    assert (before["sessions"], before["messages"], before["memories"]) == (1, 1, {"preference": 1})
    assert [(item["stage"], item["code"]) for item in before["failed"]] == [("lora_adapter", "blob_store")]
    upload(client, twin, ("new.md", b"A new note."), ("odd.bin", b"x"))
    after = client.get(f"/twin/{twin}").json()
    assert (after["work"], after["documents"]["received"], after["documents"]["refused"]) == ("waiting", 1, 1)


ROUTES = [
    ("GET", ""),
    ("GET", "/profile"),
    ("GET", "/wiki"),
    ("GET", "/sessions"),
    ("GET", "/sessions/s"),
    ("GET", "/memories"),
    ("GET", "/memories?q=tea"),
    ("PATCH", "/memories/x"),
    ("DELETE", "/memories/x"),
    ("GET", "/releases"),
    ("POST", "/releases/x/promote"),
    ("POST", "/releases/rollback"),
    ("GET", "/export"),
    ("DELETE", "/documents/x.md"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_of_somebody_who_is_not_there_every_route_says_so(client: TestClient, method: str, path: str) -> None:
    body = {"text": "words"} if method == "PATCH" else None
    response = client.request(method, f"/twin/data-nobody{path}", json=body)
    assert (response.status_code, code_of(response)) == (404, "twin_not_found")
    response = client.request(method, f"/twin/No-Id{path}", json=body)
    assert (response.status_code, code_of(response)) == (422, "user_id_invalid")


def test_the_wiki_is_a_page_of_sections_in_three_forms_and_tells_nothing_of_what_was_deleted(
    client: TestClient, user_id: str, stores: Stores
) -> None:
    upload(client, user_id, ("gone.txt", b"I <b>swim</b>."), ("kept.txt", b"I <b>dive</b>."))
    places = {text: make_citation(text) for text in ("I <b>swim</b>.", "I <b>dive</b>.")}
    lines = tuple(BiographyLine("s", "sea", text, (place,), None) for text, place in places.items())
    stores.blobs.put(asset_key(user_id, "biography", "json"), encode_record(Biography(user_id, lines, None, (), None, "none")))
    url = f"/twin/{user_id}/wiki"
    told = {section["section_id"]: section for section in client.get(url).json()["sections"]}
    assert [place["number"] for place in told["biography"]["citations"]] == [1, 2]
    assert told["biography"]["markdown"].count("[^") == 2
    with stores.tables.transaction(user_id) as connection:
        mark_deleted(connection, user_id, [places["I <b>swim</b>."].document_sha256], pending=True)
    page = client.get(url, headers={"Accept": "text/html,*/*;q=0.8"})
    assert page.headers["content-type"].startswith("text/html")
    assert "I &lt;b&gt;dive&lt;/b&gt;." in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    text = client.get(url, params={"format": "md"})
    assert text.headers["content-type"].startswith("text/markdown")
    assert "dive" in text.text
    for shown in (client.get(url).text, page.text, text.text):
        assert "swim" not in shown
        assert "<b>" not in shown or shown.startswith("{")
    assert client.get(url, params={"format": "pdf"}).status_code == 422


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("*/*", "json"),
        ("", "json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "html"),
        ("text/markdown", "md"),
        ("text/html;q=0.1, text/markdown;q=0.9", "md"),
        ("text/html;q=0, application/json", "json"),
        ("text/html;q=many", "json"),
        ("image/png", "json"),
    ],
)
def test_the_form_that_is_liked_best_is_given(accept: str, form: str) -> None:
    assert preferred_form(accept) == form


def test_sessions_and_their_messages_come_page_by_page(client: TestClient, user_id: str, stores: Stores) -> None:
    with stores.tables.transaction(user_id) as connection:
        for number in range(6):
            append_message(connection, make_message(user_id, number, f"words {number}", "s" if number < 5 else "t"))
    first = client.get(f"/twin/{user_id}/sessions", params={"limit": 1}).json()
    assert [(item["session_id"], item["messages"]) for item in first["sessions"]] == [("t", 1)]
    second = client.get(f"/twin/{user_id}/sessions", params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert ([item["session_id"] for item in second["sessions"]], second["next_cursor"]) == (["s"], None)
    url = f"/twin/{user_id}/sessions/s"
    page = client.get(url, params={"limit": 3}).json()
    rest = client.get(url, params={"limit": 3, "cursor": page["next_cursor"]}).json()
    assert [item["content"] for item in page["messages"] + rest["messages"]] == [f"words {number}" for number in range(5)]
    assert page["messages"][0]["citations"][0]["filename"] == "notes.md"
    for wrong in ({"limit": 0}, {"limit": 201}, {"cursor": "x"}, {"cursor": first["next_cursor"]}, {"cursor": "x" * 500}):
        assert client.get(url, params=wrong).status_code == 422
    assert code_of(client.get(f"/twin/{user_id}/sessions/none")) == "session_unknown"


def test_memories_are_listed_found_corrected_and_forgotten(client: TestClient, user_id: str, stores: Stores) -> None:
    now = datetime.now(UTC) - timedelta(hours=1)
    batch = [
        make_memory_of(user_id, words, kind=kind, created_at=now + timedelta(minutes=i))  # type: ignore[arg-type]
        for i, (words, kind) in enumerate([("I live in Lisbon", "fact"), ("I like red tea", "preference"), ("the bus", "turn")])
    ]
    stores.memories.add_batch(user_id, batch)
    url = f"/twin/{user_id}/memories"
    first = client.get(url, params={"limit": 2}).json()
    assert [item["text"] for item in first["memories"]] == ["the bus", "I like red tea"]
    second = client.get(url, params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert ([item["text"] for item in second["memories"]], second["next_cursor"]) == (["I live in Lisbon"], None)
    kinds = client.get(url, params={"kind": ["fact", "turn"]}).json()["memories"]
    assert [item["kind"] for item in kinds] == ["turn", "fact"]
    best = client.get(url, params={"q": "what tea do I like", "limit": 1}).json()["memories"]
    assert [item["text"] for item in best] == ["I like red tea"]
    assert best[0]["score"] > 0
    changed = client.patch(f"{url}/{batch[0].memory_id}", json={"text": "  I live in Porto "})
    assert (changed.status_code, changed.json()["text"], changed.json()["written_by"]) == (200, "I live in Porto", "user")
    assert "I live in Lisbon" not in [item["text"] for item in client.get(url).json()["memories"]]
    assert code_of(client.patch(f"{url}/{batch[0].memory_id}", json={"text": "I live in Faro"})) == "memory_superseded"
    gone = client.delete(f"{url}/{changed.json()['memory_id']}")
    assert (gone.status_code, gone.json()["versions"]) == (200, 2)
    assert client.delete(f"{url}/{changed.json()['memory_id']}").status_code == 404
    assert [memory.text for memory in stores.memories.every(user_id)] == ["I like red tea", "the bus"]


def test_who_corrected_a_memory_is_on_record_as_the_gate_knows_them(app: FastAPI, user_id: str, stores: Stores) -> None:
    memory = make_memory_of(user_id, "I live in Lisbon")
    stores.memories.add_batch(user_id, [memory])

    app.dependency_overrides[principal_of] = lambda: Principal("ada", operator=True)
    with TestClient(app) as client:
        response = client.patch(f"/twin/{user_id}/memories/{memory.memory_id}", json={"text": "I live in Porto"})
    assert (response.status_code, response.json()["written_by"]) == (200, "ada")


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"kind": "nonsense"}, "kind_unknown"),
        ({"q": "  "}, "query_invalid"),
        ({"q": "a\x00b"}, "request_malformed"),
        ({"q": "tea", "cursor": "x"}, "cursor_invalid"),
        ({"cursor": "x"}, "cursor_invalid"),
    ],
)
def test_what_cannot_be_asked_of_memory_is_refused(client: TestClient, user_id: str, params: dict[str, str], code: str) -> None:
    response = client.get(f"/twin/{user_id}/memories", params=params)
    assert (response.status_code, code_of(response)) == (400 if code == "request_malformed" else 422, code)


@pytest.mark.parametrize("text", ["", "  ", "a\x00b", "x" * 2001])
def test_what_is_no_memory_corrects_none(client: TestClient, user_id: str, stores: Stores, text: str) -> None:
    memory = make_memory_of(user_id, "I live in Lisbon")
    stores.memories.add_batch(user_id, [memory])
    response = client.patch(f"/twin/{user_id}/memories/{memory.memory_id}", json={"text": text})
    assert (response.status_code, code_of(response)) == (422, "text_invalid")


def test_releases_are_listed_promoted_and_gone_back_from(client: TestClient, twin: str) -> None:
    url = f"/twin/{twin}/releases"
    [release] = client.get(url).json()["releases"]
    assert (release["status"], release["evaluation"]) == ("live", {"questions": 0})
    promoted = client.post(f"{url}/{release['release_id'][:20]}/promote")
    assert (promoted.status_code, promoted.json()["status"]) == (200, "live")
    assert (client.post(f"{url}/none/promote").status_code, client.post(f"{url}/rollback").status_code) == (404, 404)


def test_a_release_that_is_not_whole_is_not_promoted(client: TestClient, twin: str, stores: Stores) -> None:
    stores.vectors.delete_user(twin)
    [release] = client.get(f"/twin/{twin}/releases").json()["releases"]
    response = client.post(f"/twin/{twin}/releases/{release['release_id']}/promote")
    assert (response.status_code, code_of(response)) == (409, "release_incomplete")


def test_a_document_is_deleted_by_name_or_hash(client: TestClient, user_id: str) -> None:
    sent = upload(client, user_id, ("Zoë's notes.md", b"One."), ("two.md", b"Two."), ("three.md", b"Three.")).json()["files"]
    by_name = client.delete(f"/twin/{user_id}/documents/Zoë's notes.md")
    assert [item["filename"] for item in by_name.json()["documents"]] == ["Zoë's notes.md"]
    by_hash = client.delete(f"/twin/{user_id}/documents/{sent[1]['sha256'][:12]}").json()
    assert ([item["filename"] for item in by_hash["documents"]], by_hash["silent"]) == (["two.md"], True)
    response = client.delete(f"/twin/{user_id}/documents/none.md")
    assert (response.status_code, code_of(response)) == (404, "document_unknown")


def test_a_large_file_goes_by_way_of_the_store(client: TestClient, user_id: str) -> None:
    words = b"The kettle is blue.\n"
    asked = {"user_id": user_id, "filename": "notes.md", "size_bytes": len(words)}
    promised = client.post("/upload/presigned", json=asked)
    assert (promised.status_code, promised.json()["method"]) == (201, "POST")
    form, done = promised.json(), {"user_id": user_id, "upload_id": promised.json()["upload_id"]}
    early = client.post("/upload/presigned/complete", json=done)
    assert (early.status_code, code_of(early)) == (409, "upload_missing")
    assert httpx.post(form["url"], data=form["fields"], files={"file": words}, trust_env=False).status_code < 300
    for _ in range(2):
        answer = client.post("/upload/presigned/complete", json=done)
        assert (answer.status_code, answer.json()["files"][0]["status"]) == (202, "stored")
    assert [row["filename"] for row in client.get(f"/twin/{user_id}/profile").json()["documents"]] == ["notes.md"]
    refused = client.post("/upload/presigned", json={**asked, "size_bytes": 10**9})
    assert (refused.status_code, code_of(refused)) == (413, "document_too_large")
    unknown = client.post("/upload/presigned/complete", json={**done, "upload_id": "0" * 32})
    assert (unknown.status_code, code_of(unknown)) == (404, "upload_unknown")


def test_a_user_is_exported_deleted_and_imported(client: TestClient, user_id: str, new_user: Callable[[], str]) -> None:
    upload(client, user_id, ("notes.md", b"The kettle is blue."))
    exported = client.get(f"/twin/{user_id}/export")
    assert exported.headers["content-disposition"] == f'attachment; filename="twin-{user_id}.zip"'
    with zipfile.ZipFile(io.BytesIO(exported.content)) as archive:
        assert json.loads(archive.read("manifest.json"))["user_id"] == user_id
    for existed in (True, False):
        assert client.delete(f"/twin/{user_id}").json()["existed"] is existed
    assert code_of(client.get(f"/twin/{user_id}")) == "twin_not_found"
    other = new_user()

    def send(data: bytes) -> httpx.Response:
        return client.post("/import", data={"user_id": other}, files={"file": ("twin.zip", data)})

    done = send(exported.content)
    assert (done.status_code, done.json()["was"], done.json()["serves"]) == (201, user_id, False)
    assert [row["filename"] for row in client.get(f"/twin/{other}/profile").json()["documents"]] == ["notes.md"]
    again = send(exported.content)
    assert (again.status_code, code_of(again)) == (409, "user_not_empty")
    damaged = send(b"no archive")
    assert (damaged.status_code, code_of(damaged)) == (422, "archive_foreign")


def test_every_error_code_of_these_routes_is_told_by_its_status(client: TestClient) -> None:
    from twin_serving.errors import status_of

    expected: dict[str, Any] = {"deletion_under_way": 409, "memory_derived": 409, "archive_bomb": 413, "release_stale": 409}
    assert {code: status_of(code) for code in expected} == expected
