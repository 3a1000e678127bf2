"""50 people chat, 200 look and a few send notes for two minutes; what fails, and how long looking takes meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from bench.api_process import Api, running_api
from bench.load.locust_folder import locust_folder
from bench.people import silent
from bench.served import serve_person
from lpm_kernel.L2.base_model import prepare_base
from lpm_kernel.L2.engine import cache_folder
from lpm_kernel.stores.open import Stores

SECONDS, CHATS, READERS, WRITERS, TWINS = 120, 50, 200, 5, 8
CHAT_THINK_S, READER_THINK_S = (20, 60), (5, 15)
SPAWN_A_SECOND = 5
"""People come one after the other; figures are of the time from when all are there, errors of all of it."""
SLICE_S = 10
GOAL_P95_MS = 50
READS = {
    "/twin/{twin}": 4,
    "/twin/{twin}/profile": 4,
    "/twin/{twin}/wiki": 2,
    "/twin/{twin}/sessions": 2,
    "/twin/{twin}/memories": 2,
    "/twin/{twin}/releases": 1,
    "/readyz": 1,
    "/healthz": 1,
}
"""Routes that generate nothing, and how often they are asked for beside each other."""
CHATTED, SENT = ("chat, whole", "chat, streamed"), "POST /upload"
"""What `users.py` calls the rest."""


def run(stores: Stores, *, seconds: int = SECONDS, quick: bool = False, priority: Literal["nice", "idle"] = "idle") -> bool:
    """Goals: no error, while people come too; p95 of every route that generates nothing under 50 ms. Whether they were met."""
    folder = locust_folder()
    if folder is None:
        print("  Locust cannot be fetched: not measured")
        return False
    base = prepare_base(stores.settings.models, cache_folder(), silent)
    count = 2 if quick else TWINS
    people = {f"load-{number}": "12"[number % 2] for number in range(count)}
    twins = {user_id: serve_person(stores, person, user_id, base, n) for n, (user_id, person) in enumerate(people.items())}
    with tempfile.TemporaryDirectory(prefix="twin-load-") as name:
        place = Path(name)
        plan = {
            "twins": twins,
            "chats": CHATS // 5 if quick else CHATS,
            "readers": READERS // 5 if quick else READERS,
            "writers": WRITERS // 5 if quick else WRITERS,
            "chat_think_s": CHAT_THINK_S,
            "reader_think_s": READER_THINK_S,
            "reads": [(path, f"GET {path.format(twin='{user_id}')}") for path in READS],
            "weights": list(READS.values()),
            "figures": str(place / "figures.json"),
        }
        (place / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
        # all come from one address, and nothing else computes here
        with running_api(place, os.environ, requests_per_minute=0, decode_priority=priority) as api:
            _warm(api, twins)
            _locust(folder, api, place, plan, seconds)
            log = api.log.read_text(errors="replace")
        figures = json.loads((place / "figures.json").read_text(encoding="utf-8"))
    return _show(plan, figures, seconds, log, priority)


def _locust(folder: Path, api: Api, place: Path, plan: dict[str, Any], seconds: int) -> None:
    users = plan["chats"] + plan["readers"] + plan["writers"]
    command = [sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("users.py")), "--headless"]
    coming_s = -(-users // SPAWN_A_SECOND)
    command += ["-u", str(users), "-r", str(SPAWN_A_SECOND), "-t", f"{coming_s + seconds}s", "--only-summary", "--reset-stats"]
    command += ["--host", api.url, "--stop-timeout", "90", "--exit-code-on-error", "0"]
    # its folder in front: Locust exchanges the standard library's sockets, and must meet no package that holds some already
    environment = {**os.environ, "PYTHONPATH": str(folder), "LOAD_PLAN": str(place / "plan.json"), "PYTHONWARNINGS": "ignore"}
    ran = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, check=False)
    if not (place / "figures.json").exists():
        raise RuntimeError(f"Locust ended with {ran.returncode}:\n{ran.stderr[-3000:]}")


def _warm(api: Api, twins: dict[str, list[str]]) -> None:
    """One chat each, and one look at everything, so that what is imported, opened and read at the first is not measured."""
    import httpx

    with httpx.Client(base_url=api.url, timeout=120, trust_env=False) as client:
        for user_id, questions in twins.items():
            client.post(f"/twin/{user_id}/chat", json={"question": questions[0]}).raise_for_status()
            for path in READS:
                client.get(path.format(twin=user_id)).raise_for_status()


def _show(plan: dict[str, Any], figures: dict[str, Any], seconds: int, log: str, priority: str) -> bool:
    rows = sorted(figures["rows"], key=lambda row: row["name"])
    print(
        f"  {plan['chats']} chat, thinking {CHAT_THINK_S[0]}-{CHAT_THINK_S[1]} s,",
        f"{plan['readers'] + plan['writers']} look or send,",
        end=" ",
    )
    print(
        f"thinking {READER_THINK_S[0]}-{READER_THINK_S[1]} s, {len(plan['twins'])} twins, {seconds} s; the load runs beside it"
    )
    print(f"  serving.decode_priority: {priority}")
    print(f"  they come {SPAWN_A_SECOND} a second; errors meanwhile: {figures['failed_while_coming']}")
    print(f"  {'route':32} {'requests':>9} {'errors':>7} {'429':>5} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8}")
    for row in rows:
        mark = "  over the goal" if _is_slow(row) else ""
        print(f"  {row['name']:32} {row['requests']:>9} {row['failures']:>7} {row['told_to_wait']:>5}", end=" ")
        print(f"{row['p50_ms']:8.0f} {row['p95_ms']:8.0f} {row['p99_ms']:8.0f}{mark}")
    total, failed = sum(row["requests"] for row in rows), sum(row["failures"] for row in rows)
    print(f"  error rate {failed / max(1, total):.4f} (goal 0) of {total}; tracebacks in the log: {log.count('Traceback')}")
    for error in figures["errors"][:10]:
        print(f"    {error}")
    print(f"  p95 of what generates nothing, each {SLICE_S} s, ms: {' '.join(by_time(figures['looked']))}")
    wrong = missed(plan, rows, log, figures["failed_while_coming"])
    for line in wrong:
        print(f"  missed: {line}")
    return not wrong


def by_time(looked: Sequence[tuple[float, float]]) -> list[str]:
    """p95 of each slice of time, in order: whether it is slow all the time, or while people come."""
    slices: dict[int, list[float]] = defaultdict(list)
    for at_s, took_ms in looked:
        slices[int(at_s // SLICE_S)].append(took_ms)
    return [f"{sorted(took)[int(0.95 * (len(took) - 1))]:.0f}" for _, took in sorted(slices.items())]


def missed(plan: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], log: str, failed_while_coming: int = 0) -> list[str]:
    """Which goals were not met; what was never asked, or never answered, has met none."""
    early = [f"{failed_while_coming} errors while people came"] if failed_while_coming else []
    found = [f"{row['name']}: {row['failures']} errors" for row in rows if row["failures"]]
    found += [f"{row['name']}: p95 {row['p95_ms']:.0f} ms" for row in rows if _is_slow(row)]
    answered = {row["name"] for row in rows if row["requests"] > row["failures"] + row["told_to_wait"]}
    wanted = {*(name for _, name in plan["reads"]), *CHATTED, *([SENT] if plan["writers"] else [])}
    found += [f"{name}: no answer" for name in sorted(wanted - answered)]
    if count := log.count("Traceback"):
        found.append(f"{count} tracebacks in the log of the API")
    return early + found


def _is_slow(row: Mapping[str, Any]) -> bool:
    return row["name"] not in CHATTED and row["p95_ms"] >= GOAL_P95_MS
