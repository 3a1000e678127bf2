"""Bytes as an attacker sends them, at a real server: broken encodings, broken bodies, slow ones. None is a 500."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import pytest

from lpm_kernel.settings import load_settings
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeLlm
from tests.twin_serving.api_server import serve
from tests.twin_serving.conftest import services_over
from twin_serving.app import create_app

SILENCE_S = 10


@pytest.fixture
def port(stores: Stores, tmp_path) -> Iterator[int]:
    settings = load_settings(overrides={"serving": {"body_timeout_s": 0.5}})
    app = create_app(lambda: services_over(stores, FakeLlm(), tmp_path), settings)
    with serve(app) as url:
        yield int(url.rsplit(":", 1)[1])


def send(port: int, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """Everything that comes back until the server hangs up or is silent; nothing more is sent once it answers."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        heard = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
                if select.select([connection], [], [], pause_s)[0]:
                    break
            connection.settimeout(SILENCE_S)
            while data := connection.recv(65536):
                heard += data
        except (TimeoutError, ConnectionError):
            pass
        return heard


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


HEAD = b"Host: localhost\r\nConnection: close\r\n"
JSON = HEAD + b"Content-Type: application/json\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /twin/\xff\xfe/profile HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"GET /twin/%ff%fe/profile HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"GET /twin/%00/profile HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"GET /twin/%ed%a0%80/profile HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"GET /twin/%zz/profile?a=%zz&%00=%ff HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"GET //twin//ada//profile HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"GET http://localhost/healthz HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HEAD + b"X-Request-ID: \xff\xff\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: [\r\nConnection: close\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: \xff\r\nConnection: close\r\n\r\n",
        b"POST /twin/ada/chat HTTP/1.1\r\n" + JSON + b"Content-Length: 4\r\n\r\n\xff\xfe\xfd\xfc",
        b"POST /twin/ada/chat HTTP/1.1\r\n" + JSON + b"Content-Length: -1\r\n\r\n",
        b"POST /twin/ada/chat HTTP/1.1\r\n" + JSON + b"Content-Length: 99999999999999999999\r\n\r\n",
        b"POST /twin/ada/chat HTTP/1.1\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /upload HTTP/1.1\r\n" + HEAD + b"Content-Type: multipart/form-data\r\nContent-Length: 2\r\n\r\n--",
        b"POST /upload HTTP/1.1\r\n"
        + HEAD
        + b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 5\r\n\r\n--y--",
        b"POST /upload HTTP/1.1\r\n"
        + HEAD
        + b"Content-Type: multipart/form-data; boundary=\xff; charset=nonsense\r\nContent-Length: 5\r\n\r\n--x--",
        b"NONSENSE\r\n\r\n",
        b"BREW /healthz HTTP/1.1\r\n" + HEAD + b"\r\n",
    ],
)
def test_broken_bytes_are_no_failure_of_the_server(port: int, request_bytes: bytes) -> None:
    answer = send(port, request_bytes)
    assert 200 <= status_of(answer) < 500, answer[:300]
    assert b"Traceback" not in answer
    assert status_of(send(port, b"GET /healthz HTTP/1.1\r\n" + HEAD + b"\r\n")) == 200


def test_a_body_that_comes_drop_by_drop_is_given_up_with_a_word(port: int) -> None:
    began = time.monotonic()
    head = b"POST /twin/ada/chat HTTP/1.1\r\n" + JSON + b"Content-Length: 1000\r\n\r\n"
    answer = send(port, head, *[b" "] * 8, pause_s=0.1)
    assert (status_of(answer), b"body_too_slow" in answer) == (408, True)
    assert time.monotonic() - began < 10


def test_what_follows_a_body_that_was_too_large_is_no_request_of_its_own(port: int) -> None:
    """The rest of a refused body on an open connection would be read as the next request."""
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = send(port, b"POST /twin/ada/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n" + smuggled)
    assert (status_of(answer), answer.count(b"HTTP/1.1 ")) == (413, 1)


def test_a_chunked_body_without_a_size_is_cut_off(port: int) -> None:
    chunk = b"186a0\r\n" + b"x" * 100_000 + b"\r\n"
    head = b"POST /twin/ada/chat HTTP/1.1\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
    assert status_of(send(port, head, *[chunk] * 11)) == 413
