"""Every error is a problem of RFC 9457 with the id of its request; and what that id and every answer come with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from lpm_kernel.errors import LlmError, StoreError, UserInputError
from lpm_kernel.layout import raw_key
from lpm_kernel.stores.blobs import S3Blobs
from lpm_kernel.stores.open import Stores
from twin_serving.deps import ServicesDep
from twin_serving.errors import error_body, openai_error_body, problem_of
from twin_serving.logs import prepare_handler

Limited = Callable[..., TestClient]
MEMBERS = {"type", "title", "status", "detail", "code", "category", "request_id"}


@pytest.fixture
def failing(client: TestClient) -> TestClient:
    """With two routes that fail in ways nobody foresaw."""

    @client.app.get("/fails")  # type: ignore[attr-defined]
    def fails() -> None:
        raise RuntimeError("secret-word")

    @client.app.get("/v1/fails")  # type: ignore[attr-defined]
    def fails_too() -> None:
        raise RuntimeError("secret-word")

    @client.app.get("/v1/refuses")  # type: ignore[attr-defined]
    def refuses() -> None:
        raise UserInputError("twin_not_found", "no such twin")

    return client


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing/here", 404, "path_not_found"),
        ("PUT", "/twin/ada/chat", 405, "method_not_allowed"),
        ("POST", "/twin/ada/chat", 422, "request_invalid"),
        ("GET", "/twin/UPPER/profile", 422, "user_id_invalid"),
        ("GET", "/twin/nobody-here/profile", 404, "twin_not_found"),
        ("GET", "/twin/a%00b/profile", 400, "request_malformed"),
        ("GET", "/twin/ada/profile?x=%00", 400, "request_malformed"),
        ("GET", "/fails", 500, "internal"),
    ],
)
def test_every_refusal_has_the_same_members(failing: TestClient, method: str, path: str, status: int, code: str) -> None:
    response = failing.request(method, path)
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert set(body) == MEMBERS
    assert (response.status_code, body["status"], body["code"]) == (status, status, code)
    assert body["type"].endswith(f":{code}")
    assert body["request_id"] == response.headers["x-request-id"]
    assert "secret-word" not in response.text


def test_an_upload_of_nothing_but_refusals_is_a_problem_that_lists_them(client: TestClient, user_id: str) -> None:
    response = client.post("/upload", data={"user_id": user_id}, files=[("files", ("a.exe", b"MZ"))])
    assert response.headers["content-type"] == "application/problem+json"
    assert set(response.json()) == MEMBERS | {"user_id", "files"}


def test_under_v1_errors_are_openais(failing: TestClient) -> None:
    refused = failing.get("/v1/refuses")
    assert refused.json() == {
        "error": {"message": "no such twin", "type": "invalid_request_error", "param": None, "code": "twin_not_found"}
    }
    assert refused.headers["content-type"] == "application/json"
    for path, status in (("/v1/fails", 500), ("/v1/nothing", 404)):
        response = failing.get(path)
        assert (response.status_code, set(response.json())) == (status, {"error"})
        assert "secret-word" not in response.text


def test_openais_types_are_those_its_clients_know() -> None:
    kinds = {status: openai_error_body("c", "m", status)["error"]["type"] for status in (400, 401, 403, 429, 503)}
    assert kinds == {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "permission_error",
        429: "rate_limit_error",
        503: "server_error",
    }


def test_an_error_in_a_stream_is_the_same_object() -> None:
    assert set(problem_of(LlmError("decode_failed", "stopped"))) == MEMBERS
    assert problem_of(LlmError("decode_failed", "stopped"))["status"] == 503
    unforeseen = problem_of(RuntimeError("secret-word"))
    assert (unforeseen["status"], "secret-word" in str(unforeseen)) == (500, False)


def test_half_a_character_in_a_message_is_told_and_breaks_nothing(client: TestClient) -> None:
    """A key of JSON that holds one came back in the message of the refusal, which then could not be encoded: 500."""
    headers = {"Content-Type": "application/json"}
    response = client.post("/twin/ada/chat", content=b'{"question": "x", "\\ud800": 1}', headers=headers)
    assert (response.status_code, response.json()["code"]) == (422, "text_invalid")
    assert error_body("request_invalid", "a key \ud800", 422)["detail"] == "a key ?"


@pytest.mark.parametrize("body", [b'{"question": "a\\ud800"}', b'{"question": "a\\u0000"}'])
def test_a_text_that_no_store_has_a_form_of_is_refused_by_name(client: TestClient, twin: str, body: bytes) -> None:
    response = client.post(f"/twin/{twin}/chat", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (422, "question_invalid")


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b"{", b"[" * 100_000, b"1" * 10_000, b'{"question": NaN}', b"null", b'"\\ud800"', b""]
)
def test_a_body_that_is_no_json_is_refused(client: TestClient, body: bytes) -> None:
    response = client.post("/twin/ada/chat", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    assert set(response.json()) == MEMBERS


@pytest.mark.parametrize(("sent", "kept"), [("my-trace.1", True), ("", False), ("a b", False), ("x" * 49, False), ("é", False)])
def test_the_id_of_a_request_is_taken_over_when_it_is_one(client: TestClient, sent: str, kept: bool) -> None:
    told = client.get("/nothing", headers={"X-Request-ID": sent.encode()}).headers["x-request-id"]
    assert (told == sent) is kept
    assert 1 <= len(told) <= 48


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """What a handler of the API's process would write."""
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler, root = Kept(), logging.getLogger()
    prepare_handler(handler)
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield lines
    root.setLevel(before)
    root.removeHandler(handler)


def test_every_line_of_the_log_names_its_request(client: TestClient, user_id: str, log_lines: list[str]) -> None:
    client.get(f"/twin/{user_id}/profile?q=private", headers={"X-Request-ID": "trace-7"})
    logging.getLogger("lpm_kernel.x").info("outside")
    ours = [line for line in log_lines if "twin_serving.access" in line]  # workers beside it write of no request
    assert ours
    assert all("[trace-7]" in line for line in ours)
    assert "private" not in "".join(ours), "a query may hold what somebody asked"
    assert log_lines[-1].endswith("lpm_kernel.x [-] outside")


def test_writes_in_the_stores_name_the_request_that_made_them(client: TestClient, user_id: str, stores: Stores) -> None:
    @client.app.get("/named")  # type: ignore[attr-defined]
    def named(services: ServicesDep) -> list[str]:
        with services.stores.tables.transaction(user_id) as connection:
            row = connection.execute(text("select current_setting('app.request_id'), current_setting('application_name')"))
            return list(row.one())

    assert client.get("/named", headers={"X-Request-ID": "trace-8"}).json() == ["trace-8", "twin trace-8"]
    with stores.tables.transaction(user_id) as connection:
        after = connection.execute(text("select current_setting('app.request_id')")).scalar()
    assert after != "trace-8", "the next user of the connection is another request"
    sent = client.post(
        "/upload",
        data={"user_id": user_id},
        files=[("files", ("a.md", b"My cat."))],
        headers={"X-Request-ID": "trace-9"},
    ).json()
    assert isinstance(stores.blobs, S3Blobs)
    key = raw_key(user_id, sent["files"][0]["sha256"])
    assert stores.blobs.client.head_object(Bucket=stores.blobs.bucket, Key=key)["Metadata"] == {"transaction-id": "trace-9"}


def test_browsers_are_told_to_be_careful(client: TestClient) -> None:
    for path in ("/healthz", "/nothing", "/docs", "/openapi.json"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "strict-transport-security" not in headers
    page = client.get("/docs")
    assert (page.status_code, "cdn.jsdelivr.net" in page.headers["content-security-policy"]) == (200, True)


def test_docs_and_hsts_are_by_setting(limited: Limited) -> None:
    client = limited(docs=False, hsts_s=31_536_000)
    assert (client.get("/docs").status_code, client.get("/openapi.json").status_code) == (404, 404)
    assert client.get("/nothing").headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"


def test_pages_of_other_origins_are_let_in_by_name_alone(limited: Limited) -> None:
    ask = {"Origin": "https://twin.example", "Access-Control-Request-Method": "POST"}
    closed = limited().options("/twin/ada/chat", headers=ask)
    assert "access-control-allow-origin" not in closed.headers
    client = limited(cors_origins=["https://twin.example"])
    assert client.options("/twin/ada/chat", headers=ask).headers["access-control-allow-origin"] == "https://twin.example"
    refused = client.get("/nothing", headers={"Origin": "https://twin.example"})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (404, "https://twin.example")
    other = client.options("/twin/ada/chat", headers={**ask, "Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_a_page_may_name_its_session_and_use_openais_client(limited: Limited) -> None:
    """The browser asked whether it may send these headers, was told no, and never sent the question."""
    from openai import OpenAI

    client = OpenAI(api_key="none", max_retries=0)
    sent = [*client.default_headers, "X-Stainless-Retry-Count", "X-Stainless-Read-Timeout", "X-Session-Id"]
    ask = {
        "Origin": "https://twin.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": ", ".join(sorted(name.lower() for name in sent)),
    }
    allowed = limited(cors_origins=["https://twin.example"]).options("/v1/chat/completions", headers=ask)
    assert (allowed.status_code, allowed.text) == (200, "OK")
    told = {name.strip().lower() for name in allowed.headers["access-control-allow-headers"].split(",")}
    assert {name.lower() for name in sent} <= told


def test_a_store_that_is_away_has_a_time_to_come_back_and_one_that_refuses_has_none(client: TestClient) -> None:
    @client.app.get("/away")  # type: ignore[attr-defined]
    def away() -> None:
        raise StoreError("tables_unavailable", "away")

    @client.app.get("/refuses")  # type: ignore[attr-defined]
    def refuses() -> None:
        raise StoreError("tables_refused", "no", retryable=False)

    assert (client.get("/away").status_code, client.get("/away").headers["retry-after"]) == (503, "2")
    assert "retry-after" not in client.get("/refuses").headers
