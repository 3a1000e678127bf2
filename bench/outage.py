"""PostgreSQL, the S3 server and FalkorDB killed in turn while people chat: what they are told meanwhile, and what is lost.

Used twice: `python -m bench outage` asks a hundred questions of the real model in each outage (`python -m bench.outage --quick`
twenty), a test a few of a double.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from lpm_kernel.embedded import engines
from lpm_kernel.embedded.home import locate_home
from lpm_kernel.embedded.state import read_state
from lpm_kernel.embedded.supervisor import Supervisor
from lpm_kernel.L2.prompt import as_line
from lpm_kernel.layout import raw_key, text_key
from lpm_kernel.records import sha256_hex
from lpm_kernel.settings import Settings, load_settings
from lpm_kernel.stores.conversations import last_messages
from lpm_kernel.stores.documents import list_documents
from lpm_kernel.stores.open import Stores

PATIENCE_S = 15.0
"""Longer than this nobody may be kept waiting for an answer or a refusal that an outage is the reason of."""
RECOVERY_S = 60.0
GONE_S = 60.0
"""A killed process that the disk holds up."""
PROBES = 6
"""Questions whose answers must be after each outage what they were before it."""


@dataclass(frozen=True)
class Told:
    """What came of one question."""

    question: str
    session_id: str
    status: int
    """0: no answer at all."""
    code: str
    """Of the error; empty without one."""
    body: dict[str, Any]
    seconds: float


@dataclass
class Talk:
    """People who ask again and again, and one who sends notes, until told to stop."""

    url: str
    user_id: str
    questions: Sequence[str]
    people: int = 4
    told: list[Told] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    """Notes that were acknowledged."""
    refused_notes: Counter[str] = field(default_factory=Counter)
    _ended: threading.Event = field(default_factory=threading.Event)
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(10**9)))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._ask_on, args=(n % 2 == 1,), daemon=True) for n in range(self.people)]
        threads.append(threading.Thread(target=self._send_on, daemon=True))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join(120)

    def wait_for_more(self, count: int, limit_s: float = 600) -> None:
        goal, deadline = len(self.told) + count, time.monotonic() + limit_s
        while len(self.told) < goal:
            if time.monotonic() > deadline:
                raise RuntimeError(f"only {len(self.told)} of {goal} questions came to an end in {limit_s:.0f} s")
            time.sleep(0.02)

    def _ask_on(self, streamed: bool) -> None:
        with httpx.Client(base_url=self.url, timeout=120, trust_env=False) as client:
            while not self._ended.is_set():
                with self._lock:
                    number = next(self._numbers)
                told = ask(client, self.user_id, self.questions[number % len(self.questions)], f"talk-{number}", streamed)
                with self._lock:
                    self.told.append(told)
                self._ended.wait(0.02 if told.status == 200 else 0.1)

    def _send_on(self) -> None:
        with httpx.Client(base_url=self.url, timeout=120, trust_env=False) as client:
            number = 0
            while not self._ended.is_set():
                note = f"Note {number} of {id(self)}: I counted {number} herons on the weir.\n".encode()
                number += 1
                try:
                    form = {"user_id": self.user_id}
                    answer = client.post("/upload", data=form, files={"files": (f"n-{number}.md", note, "text/markdown")})
                    status = str(answer.status_code)
                except httpx.HTTPError as error:
                    status = type(error).__name__
                if status == "202":
                    self.sent.append(note)
                else:
                    self.refused_notes[status] += 1
                self._ended.wait(0.3)


def ask(
    client: httpx.Client, user_id: str, question: str, session_id: str, streamed: bool = False, asker: str | None = None
) -> Told:
    headers = {"Accept": "text/event-stream"} if streamed else {}
    began = time.perf_counter()
    body: dict[str, Any] = {}
    try:
        asked = {"question": question, "session_id": session_id, **({"asker": asker} if asker else {})}
        answer = client.post(f"/twin/{user_id}/chat", json=asked, headers=headers)
        status = answer.status_code
        if status == 200 and streamed:
            status, body = read_stream(answer.text)
        else:
            body = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        status, body = 0, {"code": type(error).__name__}
    inner = body.get("error")
    code = str(inner["code"] if isinstance(inner, dict) else body.get("code", "")) if status != 200 else ""
    return Told(question, session_id, status, code, body, time.perf_counter() - began)


def read_stream(text: str) -> tuple[int, dict[str, Any]]:
    """The answer that a stream adds up to; an `error` event is its refusal, and without an end there was none."""
    start: dict[str, Any] = {}
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        data = json.loads(fields["data"]) if "data" in fields else {}
        if fields.get("event") == "start":
            start = data
        elif fields.get("event") == "done":
            # the end says which places it rests on, and the start what stands there
            places = {(place["document_sha256"], place["byte_start"]) for place in data["citations"]}
            told = [line for line in start["citations"] if (line["document_sha256"], line["byte_start"]) in places]
            return 200, {**start, **data, "citations": told}
        elif fields.get("event") == "error":
            return int(data["status"]), data
    return 0, {"code": "no_end"}


def wrongs(told: Sequence[Told], notes: str, answers: Callable[[Told], bool], patience_s: float = PATIENCE_S) -> list[str]:
    """Everything that nobody should have been told: other refusals than a clear 503, words that no document holds, an answer
    that rests on nothing without a word of what is missing, or that `answers` does not take for one."""
    found: list[str] = []
    for one in told:
        about = f"{one.session_id}: {one.status} {one.code}"
        if one.seconds > patience_s:
            found.append(f"{about} after {one.seconds:.1f} s")
        if one.status == 503 and one.code and one.code not in ("internal",):
            continue
        if one.status != 200:
            found.append(f"{about} {str(one.body)[:200]}")
            continue
        if [line for line in one.body["citations"] if line["text"] not in notes]:
            found.append(f"{about} cites what nobody wrote")
        if not one.body["degraded"] and one.body["answerable"] and not one.body["citations"]:
            found.append(f"{about} rests on nothing and does not say that something is missing")
        if not answers(one):
            found.append(f"{about} says {one.body['answer'][:80]!r}")
    return found


def stands_in(notes: str, told: Told) -> bool:
    """Whether an answer is one: a model's is some words, and where no model answered it is a line that somebody wrote."""
    answer = " ".join(told.body["answer"].split())
    if "base" not in told.body["degraded"] or not told.body["answerable"]:
        return bool(answer)
    return bool(answer) and answer in as_line(notes)


def whole_answers(url: str, user_id: str, questions: Sequence[str]) -> dict[str, str]:
    """What the twin says to somebody else, whose prompts hold nothing of earlier talks: equal questions have equal prompts."""
    found: dict[str, str] = {}
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        for question in questions:
            told = ask(client, user_id, question, f"whole-{time.monotonic_ns()}", asker="somebody-else")
            if told.status != 200 or told.body["degraded"]:
                raise RuntimeError(f"no whole answer without an outage: {told.status} {told.code} {told.body.get('degraded')}")
            found[question] = told.body["answer"]
    return found


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Answers are greedy, so that after an outage they are what they were."""
    return [
        f"{question!r} has another answer than before the outage"
        for question, said in before.items()
        if after[question] != said
    ]


def lost(stores: Stores, talk: Talk) -> list[str]:
    """What was acknowledged and is not there: answers with their questions, and notes."""
    missing: list[str] = []
    for one in talk.told:
        if one.status != 200:
            continue
        with stores.tables.transaction(talk.user_id) as connection:
            kept = {m.sender: m for m in last_messages(connection, talk.user_id, one.session_id, 10)}
        if "user" not in kept or kept["user"].content != one.question:
            missing.append(f"the question of {one.session_id}")
        if "twin" not in kept or kept["twin"].content != one.body["answer"].strip():
            missing.append(f"the answer of {one.session_id}")
    for note in talk.sent:
        if stores.blobs.get(raw_key(talk.user_id, sha256_hex(note))) != note:
            missing.append(f"the note {sha256_hex(note)[:8]}")
    return missing


@contextmanager
def engine_away(home: Path, settings: Settings, name: str) -> Iterator[None]:
    """Killed, kept away, and started again on its port."""
    place = locate_home(home)
    pid = next(item.pid for item in engines.status(home) if item.name == name)
    assert pid
    watcher = Supervisor(place, read_state(place))
    os.kill(pid, signal.SIGSTOP)  # so that it does not end well
    try:
        watcher.halt(name, wait=False)  # told before it dies: once it is dead it may already be starting again
    finally:
        os.kill(pid, signal.SIGKILL)
    try:
        wait_until_stopped(watcher, name)
        yield
    finally:
        engines.start(home, settings)


def wait_until_stopped(watcher: Supervisor, name: str) -> None:
    """Raises: RuntimeError."""
    began = time.monotonic()
    while (state := watcher.info(name).state) != "stopped":
        if time.monotonic() - began > GONE_S:
            raise RuntimeError(f"{name} was killed {GONE_S:.0f} s ago and is {state}")
        time.sleep(0.02)


def seconds_to_recover(url: str, user_id: str, question: str) -> float:
    """Until a question is answered from all of the memory and the API calls itself ready. Raises: RuntimeError."""
    began = time.monotonic()
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        number = 0
        while (seconds := time.monotonic() - began) < RECOVERY_S:
            number += 1
            told = ask(client, user_id, question, f"again-{time.monotonic_ns()}-{number}")
            ready = client.get("/readyz").json()
            if told.status == 200 and not told.body["degraded"] and ready["status"] == "ready":
                return seconds
            time.sleep(0.1)
    about = f"{told.status} {told.code} {told.body.get('degraded')}, {ready}"
    raise RuntimeError(f"no whole answer {RECOVERY_S:.0f} s after the engine was started again: {about}")


def run(stores: Stores) -> None:
    """Nothing of the engines that the other benchmarks run on, which must not be killed."""
    measure(stores.settings, 100)


def measure(settings: Settings, chats: int) -> None:
    """In a home, and over an API, of its own."""
    from bench.api_process import running_api
    from bench.people import silent
    from bench.served import serve_person
    from lpm_kernel.L2.base_model import prepare_base
    from lpm_kernel.L2.engine import cache_folder
    from lpm_kernel.stores.open import open_stores
    from lpm_kernel.stores.tables import upgrade_tables

    base = prepare_base(settings.models, cache_folder(), silent)
    with tempfile.TemporaryDirectory(prefix="twin-outage-") as name:
        home = Path(name) / "home"
        environment = engines.start(home, settings)
        try:
            upgrade_tables(environment[settings.stores.migration_database_url])
            own = open_stores(settings, environment)
            questions = serve_person(own, "1", "1", base, 0)
            with own.tables.transaction("1") as connection:
                read = [document for document in list_documents(connection, "1") if document.status == "read"]
            notes = "".join(own.blobs.get(text_key("1", document.sha256)).decode() for document in read)
            with running_api(Path(name), environment, requests_per_minute=0) as api:  # all come from one address
                print(f"  {chats} questions at least while each engine is away; tries {PATIENCE_S:.0f} s at most")
                print(
                    f"  {'engine':12} {'questions':>10} {'whole':>6} {'poorer':>7} {'503':>5}",
                    f"{'longest s':>10} {'back in s':>10}",
                )
                for engine in ("postgres", "seaweedfs", "falkordb"):
                    _show(own, api.url, home, engine, questions, chats, notes)
            own.close()
        finally:
            engines.stop(home)


def _show(stores: Stores, url: str, home: Path, engine: str, questions: Sequence[str], chats: int, notes: str) -> None:
    before = whole_answers(url, "1", questions[:PROBES])
    talk = Talk(url, "1", questions)
    with talk.going_on():
        talk.wait_for_more(4)
        with engine_away(home, stores.settings, engine):
            talk.wait_for_more(chats, 3600)
        back_s = seconds_to_recover(url, "1", questions[0])
        talk.wait_for_more(4)
    wrong = wrongs(talk.told, notes, partial(stands_in, notes))
    wrong += lost(stores, talk) + changed(before, whole_answers(url, "1", questions[:PROBES]))
    whole = sum(told.status == 200 and not told.body["degraded"] for told in talk.told)
    poorer = sum(told.status == 200 and bool(told.body["degraded"]) for told in talk.told)
    refused = Counter(told.code for told in talk.told if told.status == 503)
    longest = max(told.seconds for told in talk.told)
    print(
        f"  {engine:12} {len(talk.told):>10} {whole:>6} {poorer:>7} {refused.total():>5} {longest:10.1f} {back_s:10.1f}",
        end="  ",
    )
    print(f"{dict(refused)}; notes kept {len(talk.sent)}, refused {dict(talk.refused_notes)}; wrong or lost: {len(wrong)}")
    for line in wrong[:10]:
        print(f"    {line}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.outage")
    parser.add_argument("--quick", action="store_true", help="fewer questions in each outage")
    measure(load_settings(), 20 if parser.parse_args().quick else 100)


if __name__ == "__main__":
    main()
