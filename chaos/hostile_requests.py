"""Sound requests made unsound on the level of bytes, sent over a socket, and what an answer to one may be.

Belongs here: the requests, their mutations, and the judgement of an answer.
Does not belong here: the server they meet, and requests that a client library would send (the schema makes those).
"""

from __future__ import annotations

import json
import random
import re
import select
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos.mutate import Mutant, cut_out, flip_bits, noise, truncate

ROOT = Path(__file__).resolve().parent.parent
SILENCE_S = 30.0
"""Without a word for so long, no answer comes any more."""
BOUNDARY = b"boundary-of-ours"
PROTOCOL = b"Invalid HTTP request received."
"""What the HTTP server itself says to bytes that are no request: there is no path yet, and so no problem of ours."""
ODD_HEADERS = (
    *(b"Content-Length: 0\r\nContent-Length: 5", b"Content-Length: abc", b"Content-Length: -1", b"Content-Length: 1e3"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Expect: 100-continue", b"Upgrade: websocket"),
    *(b"Content-Encoding: gzip", b"Content-Type: \xff/\xfe", b"Content-Type:", b"Accept: text/event-stream;q=nan"),
    *(b"Accept: \xff\xff", b"X-Request-ID: " + b"x" * 5000, b"Idempotency-Key: " + b"k" * 3000, b"Idempotency-Key: \xff"),
    *(b"Last-Event-ID: \xc3\x28", b"Last-Event-ID: 99999999999999999999999", b"Authorization: Bearer \xff.\x80."),
    *(b"X-Session-Id: \x80", b"Cookie: " + b"a=b; " * 3000, b"Origin: null", b"Range: bytes=-9-", b"X-Odd", b" folded: line"),
    *(b"Host: a\r\nHost: b", b"Content-Type: multipart/form-data; boundary=" + b"b" * 300, b"Connection: close, \x00"),
)
ODD_JSON = (
    *(b"[" * 20_000, b'{"a":' * 20_000, b"1e999999", b"NaN", b"-Infinity", b'"\\ud800"', b'{"question": "\\ud83d"}'),
    *(
        b'{"question": 1, "question": 2}',
        b"9" * 5000,
        b'{"\\u0000": "\\u0000"}',
        b"\xef\xbb\xbf{}",
        b"nul",
        b'{"a"',
        b"{}{}",
        b"",
    ),
    *(b'{"question": "' + b"x" * 100_000 + b'"}', "\ufeff\u2028".encode(), b"\x00", '{"text": "é"}'.encode("utf-16")),
)


@dataclass(frozen=True, slots=True)
class Sound:
    """A request that the API would take, or refuse for what it says."""

    method: str
    path: str
    kind: bytes
    """Its content type."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Hostile:
    number: int
    how: str
    what: str
    data: bytes


@dataclass
class Answers:
    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    """0: the server hung up without a word, as it may where there was no request to answer."""
    codes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def sound_requests(user_id: str, documents: Sequence[Mutant]) -> list[Sound]:
    """One of most routes that take a body, and some that take none; `documents` are the files that are sent."""
    forms = [
        ("POST", f"/twin/{user_id}/chat", {"question": "Where is the spare key?", "session_id": "fuzz"}),
        (
            "POST",
            "/v1/chat/completions",
            {"model": f"twin-{user_id}", "messages": [{"role": "user", "content": "Who are you?"}]},
        ),
        ("POST", "/v1/embeddings", {"model": "all-MiniLM-L6-v2-int8", "input": ["one", "two"]}),
        ("POST", "/proposals", {"title": "Oaks", "text": "Ten oaks.", "topic": "trees", "proposer": user_id, "open": False}),
        ("POST", "/vote", {"proposal": "none", "choice": "for", "voter": user_id, "reasons": "The shade."}),
        ("POST", "/delegations", {"delegate": "nobody", "delegator": user_id, "scope": {"kind": "topic", "of": "trees"}}),
        ("PUT", f"/twin/{user_id}/consent", {"mode": "never"}),
        ("PUT", f"/twin/{user_id}/attributes", {"attributes": {"founder": 1}}),
        ("POST", f"/twin/{user_id}/feedback", {"message_id": "none", "voice": 1}),
        ("PATCH", f"/twin/{user_id}/memories/none", {"text": "It is so."}),
        ("POST", "/upload/presigned", {"user_id": user_id, "filename": "a.md", "size_bytes": 3, "sha256": "0" * 64}),
        ("POST", "/hooks/release", {"user_id": user_id, "release_id": "r", "status": "live", "created_at": "2026-01-01"}),
    ]
    found = [Sound(method, path, b"application/json", json.dumps(form).encode()) for method, path, form in forms]
    multipart = b"multipart/form-data; boundary=" + BOUNDARY
    for mutant in documents:
        found.append(Sound("POST", "/upload", multipart, multipart_body(user_id, mutant.filename, mutant.data)))
        found.append(Sound("POST", "/import", multipart, multipart_body(f"{user_id}-in", "x.zip", b"PK\x03\x04" + mutant.data)))
    paths = ("profile", "memories?q=key&limit=5", "sessions?cursor=abc", "releases", "export")
    found += [Sound("GET", f"/twin/{user_id}/{path}", b"text/plain", b"") for path in paths]
    found += [Sound("GET", path, b"text/plain", b"") for path in ("/proposals?status=open", "/audit?after=1", "/dao/state")]
    return found


def multipart_body(user_id: str, filename: str, data: bytes) -> bytes:
    name = filename.encode("utf-8", "surrogatepass").replace(b'"', b"%22")
    field_name = b"file" if filename == "x.zip" else b"files"
    return (
        b'--%s\r\nContent-Disposition: form-data; name="user_id"\r\n\r\n%s\r\n' % (BOUNDARY, user_id.encode())
        + b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n' % (BOUNDARY, field_name, name)
        + b"Content-Type: application/octet-stream\r\n\r\n%s\r\n--%s--\r\n" % (data, BOUNDARY)
    )


def hostile_requests(sounds: Sequence[Sound], seed: int, count: int) -> Iterator[Hostile]:
    for number in range(count):
        chance = random.Random(f"{seed}/{number}")
        sound = chance.choice(sounds)
        how = chance.choice(("as it is", "body", "body", "json", "length", "header", "header", "line", "bytes", "form"))
        yield Hostile(number, how, f"{sound.method} {sound.path}", _bytes_of(sound, how, chance))


def _bytes_of(sound: Sound, how: str, chance: random.Random) -> bytes:
    body, kind, more, line = sound.body, sound.kind, b"", f"{sound.method} {sound.path} HTTP/1.1".encode()
    if how in ("body", "form"):
        body = chance.choice((flip_bits, truncate, cut_out, noise))(body, chance)
    if how == "json" and kind == b"application/json":
        body = chance.choice(ODD_JSON)
    if how == "form":
        kind = chance.choice(
            (b"multipart/form-data", b"multipart/form-data; boundary=other", b"application/x-www-form-urlencoded")
        )
        body = body.replace(b"Content-Disposition", chance.choice((b"Content-Nothing", b"Content-Disposition", b"\xff")))
    length = len(body)
    if how == "length":
        length += chance.choice((-5, -1, 1, 7, 100_000))
    if how == "header":
        more = b"\r\n".join(chance.sample(ODD_HEADERS, chance.choice((1, 2)))) + b"\r\n"
    if how == "line":
        method, path, version = line.split(b" ", 2)
        path = chance.choice(
            (path + b"/%00", path.replace(b"/", b"//"), b"/twin/%ff/chat", path + b"?a=%zz&" + b"q=1&" * 2000, b"*")
        )
        line = b" ".join(
            (chance.choice((method, b"get", b"TRACE", b"P\x00ST")), path, chance.choice((version, b"HTTP/9.9", b"HTTP")))
        )
    head = line + b"\r\nHost: localhost\r\nConnection: close\r\nContent-Type: " + kind + b"\r\n" + more
    if b"Content-Length" not in more:
        head += b"Content-Length: %d\r\n" % max(0, length)
    data = head + b"\r\n" + body
    return flip_bits(data[:400], chance) + data[400:] if how == "bytes" else data


def send_all(port: int, requests: Iterator[Hostile], known_codes: set[str]) -> Answers:
    """Each on a connection of its own, one after the other, so that a crash is the last one's."""
    answers = Answers()
    for request in requests:
        heard = send(port, request.data)
        answers.sent += 1
        status, code, wrong = judge(heard, known_codes)
        answers.statuses[status] += 1
        if code:
            answers.codes[code] += 1
        answers.wrong += [f"request {request.number} ({request.how}, {request.what}): {each}" for each in wrong]
        if status == 0 and not _lives(port):
            answers.wrong.append(f"request {request.number} ({request.how}, {request.what}): the server is gone")
            break
    return answers


def send(port: int, data: bytes) -> bytes:
    """Everything that comes back until the server hangs up or is silent."""
    heard = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=SILENCE_S) as connection:
            connection.setblocking(False)
            deadline = time.monotonic() + SILENCE_S
            while time.monotonic() < deadline:
                reads, writes, _ = select.select([connection], [connection] if data else [], [], 0.5)
                if reads:
                    piece = connection.recv(65536)
                    if not piece:
                        break
                    heard, deadline = heard + piece, time.monotonic() + SILENCE_S
                if writes and data:
                    data = data[connection.send(data) :]
    except OSError:
        pass  # it hung up in the middle: what it said before counts
    return heard


def judge(heard: bytes, known_codes: set[str]) -> tuple[int, str, list[str]]:
    """Status, the code of a refusal, and what is wrong with the answer."""
    if not heard:
        return 0, "", []
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", heard)
    if not found:
        return 0, "", [f"no HTTP: {heard[:80]!r}"]
    status = int(found[1])
    if status == 100:
        return judge(heard.partition(b"\r\n\r\n")[2], known_codes)
    wrong = ["its words are a traceback"] if b"Traceback" in heard else []
    if status < 400:
        return status, "", wrong
    _, _, body = heard.partition(b"\r\n\r\n")
    if body.strip() == PROTOCOL and status == 400:
        return status, "(no request)", wrong
    code = code_of(body)
    if code not in known_codes:
        wrong.append(f"{status} without a code of the tree: {body[:120]!r}")
    if status >= 500 and status != 501:  # 501: a direct upload where the store has no door of its own
        wrong.append(f"{status} {code}")
    return status, code, wrong


def code_of(body: bytes) -> str:
    """Of a problem, or of an error in OpenAI's form."""
    try:
        told = json.loads(body)
        inner = told.get("error", told)
        return str(inner["code"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def codes_in_the_source() -> set[str]:
    """Every code that the product gives an error by: strings of that form which stand in its source, but not `internal`."""
    packages = (ROOT / name for name in ("lpm_kernel", "twin_serving"))
    words = {
        word for package in packages for path in package.rglob("*.py") for word in _codes(path.read_text(encoding="utf-8"))
    }
    return words - {"internal"}


def _codes(source: str) -> set[str]:
    return set(re.findall(r"\"([a-z][a-z0-9]*(?:_[a-z0-9]+)+)\"", source))


def _lives(port: int) -> bool:
    return send(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200")
