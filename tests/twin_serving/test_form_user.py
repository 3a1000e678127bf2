"""Forms with files: for whom they are is looked at while they come, and what is not for the sender is not waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.types import Message

from lpm_kernel.records import USER_ID_PATTERN
from tests.twin_serving.issuer import Issuer
from twin_serving.auth import ANYBODY, Principal
from twin_serving.form_user import FIELD, MOST_BEFORE_BYTES, FormWatch

EDGE = "edge-7"
TYPE = f"multipart/form-data; boundary={EDGE}"
PIECE = b"word " * 20_000


def part(name: str, filename: str | None = None) -> bytes:
    more = f'; filename="{filename}"\r\nContent-Type: text/plain' if filename else ""
    return f'--{EDGE}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()


def form(*parts: bytes) -> bytes:
    return b"".join(each + b"\r\n" for each in parts) + f"--{EDGE}--\r\n".encode()


class Sent:
    """A body that says how much of it was read."""

    def __init__(self, *before: bytes) -> None:
        self.read = 0
        self._before = before

    def pieces(self) -> Iterator[bytes]:
        for piece in (*self._before, part("files", "a.txt"), *([PIECE] * 100), b"\r\n", form()):
            self.read += len(piece)
            yield piece


def watched(pieces: list[bytes], principal: Principal = ANYBODY) -> tuple[int, FormWatch]:
    """How many pieces came through."""
    left = list(pieces)

    async def receive() -> Message:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    watch = FormWatch(receive, TYPE, principal)

    async def read_all() -> int:
        while left:
            try:
                await watch.receive()
            except HTTPException:
                break
        return len(pieces) - len(left)

    return anyio.run(read_all), watch


@pytest.mark.parametrize("path", ["/upload", "/import"])
def test_files_for_somebody_else_are_refused_before_they_are_taken_in(
    guarded: Callable[..., TestClient], issuer: Issuer, path: str
) -> None:
    """Whose they were was looked at when two gigabytes of them lay on the disk."""
    sent = Sent(part(FIELD) + b"ben\r\n")
    headers = {"Content-Type": TYPE, **issuer.bearer("ada")}
    response = guarded().post(path, content=sent.pieces(), headers=headers)
    assert (response.status_code, response.json()["code"]) == (403, "not_yours")
    assert response.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("value", "code"),
    [(b"ben", "not_yours"), (b"../ada", "user_id_invalid"), (b"a" * 99_999, "user_id_invalid"), (b"ada", None)],
)
def test_the_field_is_looked_at_as_soon_as_it_is_whole(value: bytes, code: str | None) -> None:
    body = [part(FIELD) + value + b"\r\n" + part("files", "a.txt"), *([PIECE] * 9), b"\r\n" + form()]
    read, watch = watched(body, Principal("ada"))
    assert (watch.refusal.code if watch.refusal else None) == code
    assert read == (1 if code else len(body))


def test_a_large_form_has_to_say_first_whose_it_is_and_a_small_one_may_say_it_last() -> None:
    count = MOST_BEFORE_BYTES // len(PIECE)
    last = b"\r\n" + part(FIELD) + b"ada\r\n" + form()
    read, watch = watched([part("files", "a.txt"), *([PIECE] * (count + 5)), last])
    assert watch.refusal is not None
    assert (watch.refusal.code, read) == ("user_id_late", count + 1)
    assert watched([part("files", "a.txt"), PIECE, last])[1].refusal is None


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=70), st.integers(1, 40))
def test_however_a_form_is_cut_into_pieces_its_field_is_read_as_it_is(value: str, size: int) -> None:
    body = form(part("other") + b"x", part("files", "user_id") + b"ben", part(FIELD) + value.encode())
    _, watch = watched([body[at : at + size] for at in range(0, len(body), size)])
    assert (watch.refusal is None) == bool(USER_ID_PATTERN.fullmatch(value))


@pytest.mark.parametrize("body", [b"no form", part(FIELD)[:-3], b"", form(part("files", "user_id") + b"ben")])
def test_what_is_no_form_or_names_nobody_is_the_routes_to_refuse(client: TestClient, body: bytes) -> None:
    response = client.post("/upload", content=body, headers={"Content-Type": TYPE})
    assert response.status_code in (400, 422)
    assert response.json()["code"] in ("request_invalid", "request_malformed")


def test_a_file_that_is_called_like_the_field_is_none() -> None:
    told: dict[str, Any] = {}
    _, watch = watched([form(part(FIELD, "x.txt") + b"ben", part(FIELD) + b"ada")], Principal("ada"))
    assert (watch.refusal, told) == (None, {})
