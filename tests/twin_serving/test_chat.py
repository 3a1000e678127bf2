"""`POST /twin/{uid}/chat`: JSON, events, what is stored, and every way it is refused."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from lpm_kernel.errors import LlmError
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.conversations import last_messages
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import live_release
from tests.fakes import FakeLlm
from tests.test_reply import steps
from tests.twin_serving.conftest import NOTES, OpenStores
from tests.twin_serving.event_stream import read_events
from twin_serving import deps
from twin_serving.app import create_app
from twin_serving.deps import Services


def events_of(text: str) -> list[tuple[str, dict]]:
    """(event, data) of a stream; comments and blank lines aside."""
    return [(event.name, json.loads(event.data)) for event in read_events(text.encode()) if event.data]


def code_of(response: httpx.Response) -> str:
    body = response.json()
    return body.get("code") or body["error"]["code"]


def test_a_question_is_answered_from_the_live_release_with_citations_to_exact_bytes(
    client: TestClient, twin: str, llm: FakeLlm, stores: Stores
) -> None:
    llm.answers.append("My cat is called Pilchard.")
    response = client.post(f"/twin/{twin}/chat", json={"question": "What is your cat called?"})
    assert response.status_code == 200
    body = response.json()
    assert body["answer"] == "My cat is called Pilchard."
    (call,) = llm.calls
    assert call.tenant == twin
    assert call.adapter is not None
    assert call.adapter.path.read_bytes() == b"adapter of " + twin.encode()
    assert "Pilchard" in call.messages[0].content, "the retrieved line stands in the prompt"
    first = body["citations"][0]
    assert NOTES.encode()[first["byte_start"] : first["byte_end"]].decode() == first["text"]
    assert first["filename"] == "notes.md"


def test_an_answer_goes_with_its_twin(client: TestClient, twin: str, llm: FakeLlm) -> None:
    """It was told from memory for as long as turns are kept for listeners, whatever had been deleted."""
    llm.answers.append("My cat is called Pilchard.")
    told = client.post(f"/twin/{twin}/chat", json={"question": "What is your cat called?"}).json()
    where = f"/twin/{twin}/chat/{told['message_id']}/events"
    assert "Pilchard" in client.get(where).text
    client.delete(f"/twin/{twin}")
    response = client.get(where)
    assert (response.status_code, response.json()["code"]) == (404, "message_unknown")


def test_both_turns_are_stored_and_the_next_question_sees_them(
    client: TestClient, twin: str, llm: FakeLlm, stores: Stores
) -> None:
    llm.answers.extend(["Pilchard.", "One eye."])
    first = client.post(f"/twin/{twin}/chat", json={"question": "What is your cat called?"}).json()
    client.post(f"/twin/{twin}/chat", json={"question": "How many eyes has he?", "session_id": first["session_id"]})
    with stores.tables.transaction(twin) as connection:
        kept = last_messages(connection, twin, first["session_id"], 10)
    assert [(message.sender, message.content) for message in kept] == [
        ("user", "What is your cat called?"),
        ("twin", "Pilchard."),
        ("user", "How many eyes has he?"),
        ("twin", "One eye."),
    ]
    assert kept[1].message_id == first["message_id"]
    assert kept[1].release_id == first["release_id"]
    assert kept[1].citations[0].filename == "notes.md"
    spoken = [(message.role, message.content) for message in llm.calls[1].messages[1:]]
    assert spoken == [("user", "What is your cat called?"), ("assistant", "Pilchard."), ("user", "How many eyes has he?")]


def test_another_session_does_not_see_the_talk(client: TestClient, twin: str, llm: FakeLlm) -> None:
    llm.answers.extend(["Pilchard.", "Hello."])
    client.post(f"/twin/{twin}/chat", json={"question": "What is your cat called?"})
    client.post(f"/twin/{twin}/chat", json={"question": "Hello?"})
    assert [message.role for message in llm.calls[1].messages] == ["system", "user"]


def test_the_stream_gives_citations_first_then_pieces_then_the_whole(client: TestClient, twin: str, llm: FakeLlm) -> None:
    llm.answers.append("My cat is called Pilchard, — naïvely.")
    headers = {"Accept": "text/event-stream"}
    response = client.post(f"/twin/{twin}/chat", json={"question": "What is your cat called?"}, headers=headers)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_of(response.text)
    assert Counter(name for name, _ in events) == {"start": 1, "token": 7, "done": 1}
    assert events[0][0] == "start"
    assert events[0][1]["citations"][0]["filename"] == "notes.md"
    assert "".join(data["text"] for name, data in events if name == "token").strip() == events[-1][1]["answer"]
    name, done = events[-1]
    assert (name, done["answer"], done["message_id"]) == (
        *("done", "My cat is called Pilchard, — naïvely."),
        events[0][1]["message_id"],
    )
    assert (done["answerable"], done["cut_off"], steps(done["degraded"]), done["ballot_drafts"]) == (True, False, (), [])
    assert done["citations"][0]["filename"] == "notes.md"


def test_a_model_that_fails_in_the_stream_is_an_error_event_and_the_question_is_kept(
    client: TestClient, twin: str, llm: FakeLlm, stores: Stores
) -> None:
    llm.answers.append(LlmError("model_loading", "too many ask"))
    headers = {"Accept": "text/event-stream"}
    events = events_of(client.post(f"/twin/{twin}/chat", json={"question": "Cat?"}, headers=headers).text)
    assert [name for name, _ in events] == ["start", "error"]
    assert events[1][1]["code"] == "model_loading"
    with stores.tables.transaction(twin) as connection:
        kept = last_messages(connection, twin, events[0][1]["session_id"], 10)
    assert [(message.sender, message.content) for message in kept] == [("user", "Cat?")]


def test_a_model_that_fails_is_503_with_a_time_to_come_back(client: TestClient, twin: str, llm: FakeLlm) -> None:
    llm.answers.append(LlmError("model_loading", "too many ask"))
    response = client.post(f"/twin/{twin}/chat", json={"question": "Cat?"})
    assert (response.status_code, code_of(response)) == (503, "model_loading")
    assert response.headers["retry-after"] == "2"


@pytest.mark.parametrize(
    ("path", "question", "status", "code"),
    [
        ("/twin/nobody-here/chat", "Hello?", 404, "twin_not_found"),
        ("/twin/UPPER/chat", "Hello?", 422, "user_id_invalid"),
        ("/twin/..%2Fx/chat", "Hello?", 404, "path_not_found"),
        ("/twin/{twin}/chat", "  ", 422, "question_empty"),
        ("/twin/{twin}/chat", "why " * 2000, 422, "question_too_long"),
        ("/twin/{twin}/chat", "a\x00b", 422, "question_invalid"),
        ("/twin/{twin}/chat", None, 422, "request_invalid"),
    ],
)
def test_what_cannot_be_answered_is_named(
    client: TestClient, twin: str, path: str, question: str | None, status: int, code: str
) -> None:
    response = client.post(path.format(twin=twin), json={"question": question} if question is not None else {})
    assert response.status_code == status
    assert code_of(response) == code
    assert "Traceback" not in response.text


def test_a_session_id_that_is_none_is_named(client: TestClient, twin: str) -> None:
    response = client.post(f"/twin/{twin}/chat", json={"question": "Hello?", "session_id": "a/b"})
    assert (response.status_code, code_of(response)) == (422, "session_id_invalid")


def test_a_twin_without_a_release_says_so_and_keeps_no_turn(client: TestClient, user_id: str, stores: Stores) -> None:
    response = client.post(f"/twin/{user_id}/chat", json={"question": "Hello?", "session_id": "s"})
    assert (response.status_code, code_of(response)) == (409, "no_release")
    with stores.tables.transaction(user_id) as connection:
        assert last_messages(connection, user_id, "s", 10) == []


def test_an_adapter_whose_bytes_changed_is_refused_and_the_base_answers(
    client: TestClient, twin: str, llm: FakeLlm, stores: Stores
) -> None:
    with stores.tables.transaction(twin) as connection:
        release = live_release(connection, twin)
    assert release is not None
    TenantBlobs(stores.blobs, twin).put(release.gguf_key, b"something else")
    llm.answers.append("Pilchard.")
    body = client.post(f"/twin/{twin}/chat", json={"question": "What is your cat called?"}).json()
    assert (body["answer"], steps(body["degraded"]), llm.calls[0].adapter) == ("Pilchard.", ("adapter",), None)


def test_where_no_model_answers_the_best_line_is_said_and_marked(client: TestClient, twin: str, llm: FakeLlm) -> None:
    llm.answers.extend([LlmError("decode_failed", "the model stopped")] * 2)
    body = client.post(f"/twin/{twin}/chat", json={"question": "What is your cat called?"}).json()
    assert steps(body["degraded"]) == ("adapter", "base")
    [citation] = body["citations"]
    assert body["answer"] == " ".join(citation["text"].split())


def test_history_that_does_not_fit_is_left_out_oldest_first(client: TestClient, twin: str, llm: FakeLlm) -> None:
    llm.answers.extend(["word " * 60, "Pilchard."])
    first = client.post(f"/twin/{twin}/chat", json={"question": "Say a lot."}).json()
    llm.context_tokens = 150
    reply = client.post(f"/twin/{twin}/chat", json={"question": "Cat?", "session_id": first["session_id"]})
    assert reply.status_code == 200
    prompt = llm.calls[1].messages
    assert "Say a lot." not in [message.content for message in prompt]
    assert "Pilchard" in prompt[0].content, "retrieved lines go last"


def test_an_engine_that_cannot_be_opened_leaves_the_best_line_and_uploads_alone(
    stores: Stores, twin: str, tmp_path: Path
) -> None:
    def unreadable() -> FakeLlm:
        raise LlmError("base_unreadable", "the weights are damaged", retryable=False)

    services = Services(OpenStores(stores), unreadable, tmp_path)  # type: ignore[arg-type]
    with TestClient(create_app(lambda: services)) as client:
        body = client.post(f"/twin/{twin}/chat", json={"question": "What is your cat called?"}).json()
        greeted = client.post(f"/twin/{twin}/chat", json={"question": "Good morning to you!"})
    assert "Pilchard" in body["answer"]
    assert steps(body["degraded"]) == ("adapter", "base")
    assert (greeted.status_code, code_of(greeted)) == (503, "answer_unavailable")
    assert "model_unavailable" in greeted.text, "why is told"


def test_an_engine_that_is_not_there_yet_is_asked_for_again_and_nothing_is_stored(
    stores: Stores, twin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deps, "MODEL_WAIT_S", 0.01)
    asked = threading.Event()

    def loading() -> FakeLlm:
        asked.wait(60)
        return FakeLlm()

    services = Services(OpenStores(stores), loading, tmp_path)  # type: ignore[arg-type]
    with TestClient(create_app(lambda: services)) as client:
        response = client.post(f"/twin/{twin}/chat", json={"question": "What is your cat called?", "session_id": "s"})
        asked.set()
    assert (response.status_code, code_of(response)) == (503, "model_loading")
    assert "retry-after" in response.headers
    with stores.tables.transaction(twin) as connection:
        assert last_messages(connection, twin, "s", 9) == []
