"""The webhook: a signed message, tried again where that can help."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from lpm_kernel.errors import StoreError
from lpm_kernel.L2.announce import STAGE, announce_release, message_of
from lpm_kernel.settings import RetrySettings, Settings
from lpm_kernel.stores.dead_letters import list_dead_letters
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.webhook import SIGNATURE, Webhook, open_webhook
from tests.fakes import FailingTables
from tests.json_server import JsonServer
from tests.samples import make_release

RETRIES = RetrySettings(max_retries=3, delay_s=2.0)
AT_ONCE = RetrySettings(max_retries=1, delay_s=0.0)
MESSAGE = {"user_id": "1", "release_id": "r", "status": "live", "created_at": "2026-03-01T12:00:00+00:00"}


class Listener(JsonServer):
    """Answers with the statuses in its queue, then 200, and keeps what it was sent."""

    def __init__(self, *statuses: int) -> None:
        super().__init__()
        self.statuses = list(statuses)
        self.heard: list[tuple[str, str, Mapping[str, str], Any]] = []

    def respond(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> tuple[int, Any]:
        self.heard.append((method, path, headers, body))
        return (self.statuses.pop(0) if self.statuses else 200), {}


def test_the_message_is_posted_and_signed_over_its_very_bytes() -> None:
    with Listener() as listener:
        assert Webhook(f"{listener.url}/hook?a=1", "secret", 5).post(MESSAGE, RETRIES) == 1
    ((method, path, headers, body),) = listener.heard
    assert (method, path, body) == ("POST", "/hook?a=1", MESSAGE)
    sent = json.dumps(MESSAGE, separators=(",", ":")).encode()
    assert headers[SIGNATURE] == "sha256=" + hmac.new(b"secret", sent, hashlib.sha256).hexdigest()


def test_without_a_secret_nothing_is_signed() -> None:
    with Listener() as listener:
        Webhook(listener.url, None, 5).post(MESSAGE, RETRIES)
    assert SIGNATURE not in listener.heard[0][2]


def test_it_is_tried_again_with_growing_pauses_while_the_other_side_is_unwell() -> None:
    pauses: list[float] = []
    with Listener(503, 429, 500) as listener:
        assert Webhook(listener.url, None, 5).post(MESSAGE, RETRIES, pauses.append) == 4
    assert pauses == [2.0, 4.0, 8.0]


@pytest.mark.parametrize("status", [400, 401, 404, 410, 301])
def test_an_answer_that_asking_again_does_not_change_is_taken_at_once(status: int) -> None:
    with Listener(status) as listener, pytest.raises(StoreError) as caught:
        Webhook(f"{listener.url}/token-4711", None, 5).post(MESSAGE, RETRIES)
    assert (caught.value.code, caught.value.retryable, len(listener.heard)) == ("webhook_refused", False, 1)
    assert str(status) in caught.value.message
    assert "4711" not in caught.value.message, "an address may hold a token"


def test_one_that_never_answers_is_given_up_after_the_last_try(free_port: int) -> None:
    with pytest.raises(StoreError) as caught:
        Webhook(f"http://127.0.0.1:{free_port}", None, 1).post(MESSAGE, AT_ONCE)
    assert (caught.value.code, caught.value.retryable) == ("webhook_unavailable", True)
    assert "2 times" in caught.value.message


class Garbler:
    """Says that its answer is compressed, and sends something else."""

    def __init__(self) -> None:
        class Answers(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Encoding", "gzip")
                self.send_header("Content-Length", "7")
                self.end_headers()
                self.wfile.write(b"no gzip")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Answers)
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


def test_an_answer_that_cannot_be_decoded_is_a_message_that_was_not_delivered() -> None:
    """The error was not one of a connection, passed through, and failed the release."""
    garbler = Garbler()
    try:
        with pytest.raises(StoreError) as caught:
            Webhook(f"http://127.0.0.1:{garbler.http.server_port}", None, 5).post(MESSAGE, AT_ONCE)
    finally:
        garbler.http.shutdown()
        garbler.http.server_close()
    assert (caught.value.code, caught.value.retryable) == ("webhook_unavailable", True)


@pytest.mark.parametrize("url", ["ftp://example.org/x", "nowhere", "http://[::1"])
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        Webhook(url, None, 1).post(MESSAGE, AT_ONCE)
    assert caught.value.code == "webhook_invalid"


def test_it_is_opened_by_the_variables_that_the_settings_name(settings: Settings, tmp_path) -> None:
    home = {"TWIN_HOME": str(tmp_path)}
    assert open_webhook(settings, home) is None
    opened = open_webhook(settings, {**home, "RELEASE_WEBHOOK_URL": "http://x"})
    assert opened is not None
    assert opened.url == "http://x"


def letters(stores: Stores, user_id: str) -> list[tuple[str, str, int]]:
    with stores.tables.transaction(user_id) as connection:
        return [(letter.stage, letter.code, letter.attempts) for letter in list_dead_letters(connection, user_id)]


def test_a_release_that_could_not_be_announced_stands_and_leaves_a_letter_until_one_can(stores: Stores, user_id: str) -> None:
    release, warnings = make_release(user_id), list[str]()
    with Listener(500, 500) as listener:
        webhook = Webhook(listener.url, None, 5)
        assert not announce_release(stores.tables, webhook, release, AT_ONCE, "run-1", warnings.append)
        assert letters(stores, user_id) == [(STAGE, "webhook_unavailable", 2)]
        assert len(warnings) == 1
        assert announce_release(stores.tables, webhook, release, AT_ONCE, "run-2", warnings.append)
    assert letters(stores, user_id) == []
    assert listener.heard[-1][3] == message_of(release)
    assert set(message_of(release)) == {"user_id", "release_id", "status", "created_at"}


def test_with_nobody_to_tell_nothing_is_told_and_nothing_is_wrong(stores: Stores, user_id: str) -> None:
    assert not announce_release(stores.tables, None, make_release(user_id), AT_ONCE, "run-1", pytest.fail)
    assert letters(stores, user_id) == []


def test_a_letter_that_cannot_be_written_keeps_no_release_from_standing(stores: Stores, user_id: str) -> None:
    warnings: list[str] = []
    with Listener(404) as listener:
        tables = FailingTables(stores.tables)
        assert not announce_release(
            tables, Webhook(listener.url, None, 5), make_release(user_id), AT_ONCE, "run-1", warnings.append
        )
    assert ["announced" in warnings[0], "tables_unavailable" in warnings[1]] == [True, True]
