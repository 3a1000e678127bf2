"""`POST /hooks/release`: the message that the pipeline signs is believed, and no other."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from lpm_kernel.L2.announce import announce_release
from lpm_kernel.settings import RetrySettings
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.webhook import SIGNATURE, Webhook
from tests.fakes import FakeLlm
from tests.json_server import JsonServer
from tests.samples import make_release

SECRET = "between us"


def code_of(response) -> str:
    body = response.json()
    return body.get("code") or body["error"]["code"]


@pytest.fixture
def secret(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(stores.settings.stores.release_webhook_secret, SECRET)
    return SECRET


def post(client: TestClient, body: bytes, signature: str | None):
    headers = {"Content-Type": "application/json"} | ({SIGNATURE: signature} if signature is not None else {})
    return client.post("/hooks/release", content=body, headers=headers)


def signed(body: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def test_a_signed_message_of_someone_who_chats_here_is_followed(
    client: TestClient, twin: str, llm: FakeLlm, secret: str
) -> None:
    body = json.dumps({"user_id": twin, "release_id": "r", "status": "live"}).encode()
    assert post(client, body, signed(body)).json() == {"followed": False}
    llm.answers.append("Pilchard.")
    assert client.post(f"/twin/{twin}/chat", json={"question": "Cat?"}).status_code == 200
    response = post(client, body, signed(body))
    assert (response.status_code, response.json()) == (202, {"followed": True})


class Relay(JsonServer):
    """Hands what it is sent on to the API, byte for byte but for JSON's own freedom, which the sender does not use."""

    def __init__(self, client: TestClient) -> None:
        super().__init__()
        self._client = client
        self.statuses: list[int] = []

    def respond(self, method, path, headers, body):
        data = json.dumps(body, separators=(",", ":")).encode()
        response = post(self._client, data, headers[SIGNATURE])
        self.statuses.append(response.status_code)
        return response.status_code, response.json()


def test_what_the_pipeline_sends_is_what_the_api_takes(client: TestClient, stores: Stores, twin: str, secret: str) -> None:
    with Relay(client) as relay:
        webhook = Webhook(f"{relay.url}/hooks/release", SECRET, 5)
        retries = RetrySettings(max_retries=0, delay_s=0.0)
        assert announce_release(stores.tables, webhook, make_release(twin), retries, "run", print)
    assert relay.statuses == [202]


@pytest.mark.parametrize(
    ("body", "signature", "status", "code"),
    [
        (b'{"user_id": "1"}', None, 401, "signature_invalid"),
        (b'{"user_id": "1"}', signed(b'{"user_id": "2"}'), 401, "signature_invalid"),
        (b'{"user_id": "1"}', signed(b'{"user_id": "1"}', "another"), 401, "signature_invalid"),
        (b'{"user_id": "1"}', "sha256=", 401, "signature_invalid"),
        (b"", signed(b""), 422, "message_invalid"),
        (b"[]", signed(b"[]"), 422, "message_invalid"),
        (b'{"user_id": "../x"}', signed(b'{"user_id": "../x"}'), 422, "user_id_invalid"),
    ],
)
def test_any_other_message_is_refused(
    client: TestClient, secret: str, body: bytes, signature: str | None, status: int, code: str
) -> None:
    response = post(client, body, signature)
    assert (response.status_code, code_of(response)) == (status, code)


def test_without_a_secret_nobody_is_believed(
    client: TestClient, stores: Stores, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(stores.settings.stores.release_webhook_secret, raising=False)
    body = b'{"user_id": "1"}'
    response = post(client, body, signed(body, ""))
    assert (response.status_code, code_of(response)) == (403, "hook_unsigned")
