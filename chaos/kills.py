"""A hundred `kill -9` while five people's twins are built, asked and vote; then everything must agree.

Belongs here: the home, its people, the phases, and waiting for rest.
Does not belong here: what a person does (`person.py`), what is killed (`killer.py`, `targets.py`), what must hold (`agree.py`).
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import yaml

from bench.backfill import write_small_settings
from bench.many_users import SMALLEST
from chaos.acknowledged import Book
from chaos.agree import differences, unreconciled
from chaos.killer import carry_out, plan
from chaos.person import Person, Rhythm, crowd
from chaos.targets import API, DAEMON, home_targets
from lpm_kernel.embedded import engines
from lpm_kernel.errors import EngineError, TwinError
from lpm_kernel.L2.engine import adapter_folder
from lpm_kernel.L2.release import find_unbuilt
from lpm_kernel.settings import Settings, load_settings
from lpm_kernel.stores.open import Stores, open_stores
from lpm_kernel.stores.releases import served_model
from twin_assets.backfill import run_backfill
from twin_assets.home import bring_up, service_programs
from twin_assets.instance import open_instance

BY_ITSELF_S = 45.0
"""How long nobody may be built while somebody waits for it, before it is asked for by hand."""
PEOPLE = ("ada", "bo", "cy", "dee", "eve")
RHYTHM = Rhythm(documents=4, proposals=6, pause_s=1.5)
PHASES = (("ingest", 0.3, 4.0), ("release", 0.2, 15.0), ("chat and vote", 0.5, 6.0))
"""What is under way, its share of the kills, and seconds between two of them on average: engines take one to five to come back,
the daemon with its code server twenty, and a twin that is never left alone for a minute is never built."""
SERVED_S = 900.0
REST_S = 1800.0
"""The longest that all may take to be built once nothing is killed any more. What crashed often is taken up by the catch-up
sensor, which waits four times as long each time."""


def run(seed: int, kills: int, folder: Path | None = None) -> list[str]:
    """What is wrong at the end; empty when all is as it must be. Prints each deed with its time."""
    with tempfile.TemporaryDirectory(prefix="twin-chaos-") as name, settings_in(folder or Path(name)) as (home, settings):
        environment = start(home, settings)
        try:
            os.environ.update(environment)
            return _run(home, settings, seed, kills)
        finally:
            engines.stop(home)


def _run(home: Path, settings: Settings, seed: int, kills: int) -> list[str]:
    say(f"seed {seed}, {kills} kills; {', '.join(PEOPLE)}; {home}")
    url = f"http://127.0.0.1:{settings.serving.api_port}"
    book, ended, over = Book(), threading.Event(), threading.Event()
    people = crowd(PEOPLE, url, seed, RHYTHM, book, ended)
    targets = home_targets(home)
    for person in people:
        person.start()
    try:
        deeds = []
        for number, (phase, share, mean_s) in enumerate(PHASES):
            if number == len(PHASES) - 1:
                _wait_until_served(home, settings)
            say(f"{phase}: {round(share * kills)} kills, {mean_s:.0f} s apart")
            blows = plan(10 * seed + number, round(share * kills), sorted(targets), mean_s)
            deeds += carry_out(blows, targets, over, say)
    finally:
        ended.set()
        for person in people:
            person.join(180)
    say(f"{len(deeds)} kills, {dict(Counter(deed.kind for deed in deeds))}; {book.counts()}")
    # as a person would, who looks after a machine that went down: `twin up`
    start(home, settings)
    wait_for_api(url)
    stores = open_stores(settings)
    try:
        settle(people, url)
        began = time.monotonic()
        wait_for_rest(stores, home, settings)
        say(f"at rest after {time.monotonic() - began:.0f} s")
        wrong = differences(stores, book, PEOPLE) + unreconciled(stores, adapter_folder(), say)
        with_twin = [user for user in PEOPLE if _serves(stores, user)]
        wrong += [f"{user} has no twin" for user in PEOPLE if user not in with_twin]
        meant = sum(round(share * kills) for _, share, _ in PHASES)
        wrong += [f"{len(deeds)} of {meant} kills"] if len(deeds) < meant else []
    finally:
        stores.close()
    say(f"{book.counts()}; told: {dict(sorted(book.told.items()))}")
    return wrong


@contextmanager
def settings_in(folder: Path) -> Iterator[tuple[Path, Settings]]:
    """The smallest training, ports of its own, and sensors that look often."""
    before = dict(os.environ)
    path = write_small_settings(folder, sensors=True)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section, values in SMALLEST.items():
        content[section].update(values)
    api_port, ui_port = _free_ports(2)
    content["serving"].update({"api_port": api_port, "ui_port": ui_port, "requests_per_minute": 0})
    content["automation"].update({"users_sensor_interval_s": 5, "catch_up_sensor_interval_s": 15})
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    os.environ["TWIN_SETTINGS"] = str(path)
    try:
        yield folder / "home", load_settings()
    finally:
        os.environ.clear()
        os.environ.update(before)


def start(home: Path, settings: Settings) -> dict[str, str]:
    """What `twin up` does, without the UI: nobody looks. Idempotent. Tried again where what was killed is still coming back."""
    for attempt in range(5):
        try:
            environment = bring_up(home, settings, services=False, say=lambda words: None)
            programs = [item for item in service_programs(home, settings, environment) if item.name in (DAEMON, API)]
            return {**environment, **engines.start(home, settings, programs)}
        except EngineError as error:
            if attempt == 4:
                raise
            say(f"`twin up` is tried again: {error.code}")
            time.sleep(3)
    raise AssertionError


def _wait_until_served(home: Path, settings: Settings) -> None:
    """Until everybody has a twin to ask, so that answers are cut off too; nothing is killed meanwhile. Raises: RuntimeError."""
    began = time.monotonic()
    start(home, settings)  # the supervisor gives up what is killed too often in a row
    while time.monotonic() - began < SERVED_S:
        with suppress(TwinError), closing(open_stores(settings)) as stores:
            if all(_serves(stores, user) for user in PEOPLE):
                say(f"everybody has a twin after {time.monotonic() - began:.0f} s without a kill")
                return
        time.sleep(3)
    raise RuntimeError(f"not everybody has a twin {SERVED_S:.0f} s after the last kill")


def settle(people: Sequence[Person], url: str) -> None:
    """Who was refused tries once more, now that nothing is killed."""
    for person in people:
        person.ended = threading.Event()
        person.settle(url)


def wait_for_rest(stores: Stores, home: Path, settings: Settings) -> None:
    """Until every document is in a release, everything said is remembered, and no run waits. Raises: RuntimeError.

    What the sensors would take up within an hour is asked for by hand, as by a person: a run that crashed often has none left.
    """
    import dagster as dg

    from twin_assets.sensors import UNFINISHED

    deadline, why, idle_since = time.monotonic() + REST_S, "nothing was looked at", time.monotonic()
    while time.monotonic() < deadline:
        try:
            with open_instance(home, settings, os.environ) as instance:
                runs = instance.get_runs_count(dg.RunsFilter(statuses=UNFINISHED))
            unbuilt = [user for user in PEOPLE if _unbuilt(stores, user)]
            waiting = _changes_waiting(stores)
        except TwinError as error:
            why = str(error)
        else:
            if not runs and not unbuilt and not waiting:
                return
            why = f"{runs} runs are not over, {', '.join(unbuilt) or 'nobody'} is not built, {waiting} changes wait"
            if runs or not unbuilt:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > BY_ITSELF_S:
                say(f"twin backfill {','.join(unbuilt)} --unfinished")
                run_backfill(settings, home, ",".join(unbuilt), lambda words: None, resume=True)
        time.sleep(2)
    raise RuntimeError(f"no rest in {REST_S:.0f} s: {why}")


def _unbuilt(stores: Stores, user_id: str) -> bool:
    with stores.tables.transaction(user_id) as connection:
        return find_unbuilt(connection, user_id) is not None


def _serves(stores: Stores, user_id: str) -> bool:
    with stores.tables.transaction(user_id) as connection:
        return served_model(connection, user_id).model_ready


def _changes_waiting(stores: Stores) -> int:
    """What was decided in PostgreSQL and has yet to reach another store."""
    from lpm_kernel.stores.changes import lag

    with stores.tables.operator_transaction() as connection:
        return sum(each.undone for each in lag(connection))


def wait_for_api(url: str, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    with httpx.Client(base_url=url, timeout=10, trust_env=False) as client:
        while time.monotonic() < deadline:
            try:
                if client.get("/readyz").status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
    raise RuntimeError(f"{url} is not ready after {seconds:.0f} s")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def say(words: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {words}", flush=True)
