"""What Locust runs, in a process of its own: people who chat and people who look. Imports Locust alone."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import gevent  # type: ignore[import-not-found]
from locust import FastHttpUser, between, events, task  # type: ignore[import-not-found]

PLAN: dict[str, Any] = json.loads(Path(os.environ["LOAD_PLAN"]).read_text(encoding="utf-8"))
TWINS: dict[str, list[str]] = PLAN["twins"]
TOLD_TO_WAIT: Counter[str] = Counter()
TRIES = 5


class Person(FastHttpUser):
    abstract = True
    connection_timeout = network_timeout = 120.0

    def on_start(self) -> None:
        self.twin = random.choice(list(TWINS))

    def ask(self, method: str, path: str, name: str, *, expect: tuple[int, ...] = (200,), holds: str = "", **more: Any) -> None:
        """One request, whose answer must hold these words; told to come again later it does, and that is no error but the last
        time: then nobody was answered.
        """
        for last in (*[False] * (TRIES - 1), True):
            with self.client.request(method, path, name=name, catch_response=True, **more) as response:
                if response.status_code == 429 and response.headers.get("retry-after"):
                    if last:
                        response.failure(f"429: told {TRIES} times to come again")
                        return
                    TOLD_TO_WAIT[name] += 1
                    response.success()
                    wait_s = float(response.headers["retry-after"])
                elif response.status_code in expect and holds in response.text:
                    response.success()
                    return
                else:
                    response.failure(f"{response.status_code}: {str(response.text)[-200:]!r}")
                    return
            gevent.sleep(wait_s)


class Chatter(Person):
    """Asks, reads the answer, thinks, asks again; every other answer is streamed."""

    fixed_count = PLAN["chats"]
    wait_time = between(*PLAN["chat_think_s"])

    @task(1)
    def ask_whole(self) -> None:
        body = {"question": random.choice(TWINS[self.twin])}
        self.ask("POST", f"/twin/{self.twin}/chat", "chat, whole", json=body)

    @task(1)
    def ask_streamed(self) -> None:
        body = {"question": random.choice(TWINS[self.twin])}
        headers = {"Accept": "text/event-stream"}
        self.ask("POST", f"/twin/{self.twin}/chat", "chat, streamed", holds="event: done", json=body, headers=headers)


class Reader(Person):
    """Looks at what a twin is made of."""

    fixed_count = PLAN["readers"]
    wait_time = between(*PLAN["reader_think_s"])

    @task
    def look(self) -> None:
        path, name = random.choices(PLAN["reads"], weights=PLAN["weights"])[0]
        self.ask("GET", path.format(twin=self.twin), name)


class Writer(Person):
    """Sends a note. Few differ: what is known already takes the same way."""

    fixed_count = PLAN["writers"]
    wait_time = between(*PLAN["reader_think_s"])

    @task
    def upload(self) -> None:
        number = random.randrange(5)
        form = "load-boundary"
        parts = [
            f'--{form}\r\nContent-Disposition: form-data; name="user_id"\r\n\r\n{self.twin}\r\n',
            f'--{form}\r\nContent-Disposition: form-data; name="files"; filename="load-{number}.md"\r\n'
            f"Content-Type: text/markdown\r\n\r\nI walked {number} miles along the harbour.\r\n--{form}--\r\n",
        ]
        headers = {"Content-Type": f"multipart/form-data; boundary={form}"}
        self.ask("POST", "/upload", "POST /upload", expect=(202,), data="".join(parts), headers=headers)


BEGAN = time.monotonic()
LOOKED: list[tuple[float, float]] = []
"""Of what generates nothing: when it was answered, seconds since the start, and how long it took, ms."""


FAILED: list[float] = []
COMPLETE: list[int] = []
"""How many had failed when the last person had come."""


@events.spawning_complete.add_listener
def all_are_there(**_: Any) -> None:
    COMPLETE.append(len(FAILED))
    TOLD_TO_WAIT.clear()


@events.request.add_listener
def note(name: str, response_time: float, exception: Exception | None = None, **_: Any) -> None:
    if exception is not None:
        FAILED.append(time.monotonic())
    if not name.startswith("chat"):
        LOOKED.append((time.monotonic() - BEGAN, response_time))


@events.quitting.add_listener
def write_figures(environment: Any, **_: Any) -> None:
    rows = [
        {
            "name": entry.name,
            "requests": entry.num_requests,
            "failures": entry.num_failures,
            "told_to_wait": TOLD_TO_WAIT[entry.name],
            "p50_ms": entry.get_response_time_percentile(0.5),
            "p95_ms": entry.get_response_time_percentile(0.95),
            "p99_ms": entry.get_response_time_percentile(0.99),
        }
        for entry in environment.stats.entries.values()
    ]
    errors = [f"{error.occurrences} x {error.name}: {error.error}" for error in environment.stats.errors.values()]
    early = COMPLETE[0] if COMPLETE else len(FAILED)
    figures = {"rows": rows, "errors": errors, "looked": LOOKED, "failed_while_coming": early}
    Path(PLAN["figures"]).write_text(json.dumps(figures), encoding="utf-8")
