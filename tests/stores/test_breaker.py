"""Circuit breakers: closed, open and half-open, alone and with the state that processes share."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest

from lpm_kernel.errors import StoreError
from lpm_kernel.stores import breaker_board
from lpm_kernel.stores.breaker import Breaker, Breakers, Circuit
from lpm_kernel.stores.breaker_board import Posted, RedisBoard
from tests.embedded.fixtures import EngineHome


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def resting() -> StoreError:
    return StoreError("resting", "a moment ago")


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.failed()


def test_it_opens_after_so_many_failures_in_a_row_and_lets_one_caller_try_after_each_pause() -> None:
    clock = Clock()
    breaker = Breaker(3, 10.0, clock)
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 2)
    assert (breaker.allows(), breaker.circuit()) == (True, Circuit("closed", 0))
    breaker.failed()
    assert (breaker.allows(), breaker.circuit()) == (False, Circuit("open", 1))
    clock.now += 10
    assert breaker.circuit().state == "half_open"
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    assert breaker.circuit().state == "half_open", "one is trying"
    breaker.failed()
    assert (breaker.allows(), breaker.circuit()) == (False, Circuit("open", 1))
    clock.now += 10
    assert breaker.allows()
    breaker.succeeded()
    assert [breaker.allows() for _ in range(3)] == [True, True, True]
    assert breaker.circuit() == Circuit("closed", 1)


def test_a_caller_that_never_told_how_it_went_keeps_nobody_out_for_longer_than_a_pause() -> None:
    clock = Clock()
    breaker = Breaker(1, 10.0, clock)
    breaker.failed()
    clock.now += 10
    assert breaker.allows()
    clock.now += 10
    assert breaker.allows()


def test_guarding_counts_what_is_a_failure_and_takes_a_refusal_for_an_answer() -> None:
    breaker = Breaker(2, 10.0, Clock())

    def call(error: Exception | None) -> None:
        with breaker.guarding(resting, lambda found: found.retryable):
            if error:
                raise error

    for error in (
        StoreError("away", "no answer"),
        StoreError("refused", "no", retryable=False),
        StoreError("away", "no answer"),
    ):
        with pytest.raises(StoreError):
            call(error)
    assert breaker.circuit().state == "closed"
    with pytest.raises(StoreError):
        call(StoreError("away", "no answer"))
    with pytest.raises(StoreError) as caught:
        call(None)
    assert caught.value.code == "resting"


def test_one_name_is_one_breaker_and_all_are_told_by_name() -> None:
    breakers = Breakers()
    first = breakers.named("graph", 1, 10.0)
    assert breakers.named("graph", 5, 1.0) is first
    breakers.named("blobs", 1, 10.0)
    breakers.add(Breaker(1, 10.0, name="redis"))
    first.failed()
    assert breakers.circuits() == {"blobs": Circuit("closed", 0), "graph": Circuit("open", 1), "redis": Circuit("closed", 0)}
    assert breakers.open_now() == {"graph": "open"}


# Shared


@pytest.fixture
def boards(engine_home: EngineHome, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RedisBoard, RedisBoard]]:
    """Of two processes, as far as they know; each reads at every look, and waits for a slow disk."""
    monkeypatch.setattr(breaker_board, "TIMEOUT_S", 20.0)
    monkeypatch.setattr(breaker_board, "KEY", f"twin:breakers:{uuid.uuid4().hex}")
    one, two = (RedisBoard(engine_home.redis_url, read_each_s=0.0) for _ in range(2))
    with closing(one), closing(two):
        yield one, two


def test_what_one_finds_dead_the_other_does_not_try_out_and_one_of_both_tries_again(
    boards: tuple[RedisBoard, RedisBoard],
) -> None:
    one, two = (Breaker(3, 3.0, name="graph", board=board) for board in boards)
    fail(one, 3)
    assert [one.allows(), two.allows()] == [False, False]
    assert two.circuit().state == "open"
    deadline = time.monotonic() + 30
    granted: list[Breaker] = []
    while not granted:
        assert time.monotonic() < deadline
        granted = [breaker for breaker in (two, one) if breaker.allows()]
        time.sleep(0.01)
    assert len(granted) == 1
    granted[0].succeeded()
    assert [one.allows(), two.allows()] == [True, True]
    assert {one.circuit().state, two.circuit().state} == {"closed"}


def test_a_try_that_fails_begins_another_pause_for_all(boards: tuple[RedisBoard, RedisBoard]) -> None:
    one, two = (Breaker(1, 0.3, name="graph", board=board) for board in boards)
    one.failed()
    deadline = time.monotonic() + 30
    while not two.allows():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    two = Breaker(1, 60.0, name="graph", board=boards[1])  # a longer pause, so that a slow machine sees it
    two.failed()
    assert [one.allows(), two.allows()] == [False, False]


def test_a_key_that_one_process_has_wrong_closes_nobody_elses_circuit(boards: tuple[RedisBoard, RedisBoard]) -> None:
    one, two = (Breaker(3, 60.0, name="gemini", board=board) for board in boards)
    one.failed(for_good=True)
    assert [one.allows(), two.allows()] == [False, True]


def test_trips_of_others_are_counted_and_shown(boards: tuple[RedisBoard, RedisBoard]) -> None:
    mine, others = Breakers(boards[0]), Breakers(boards[1])
    mine.named("blobs", 3, 60.0)
    broken = others.named("gemini", 1, 60.0)
    broken.failed()
    assert mine.circuits() == {"blobs": Circuit("closed", 0), "gemini": Circuit("open", 1)}
    assert mine.open_now() == {"gemini": "open"}


def test_what_nobody_has_tried_for_long_says_nothing() -> None:
    assert Posted(is_open=True, rest_s=-1.0, version=1, trips=2).circuit == Circuit("half_open", 2)
    assert Posted(is_open=True, rest_s=-3600.0, version=1, trips=2).circuit == Circuit("closed", 2)


def test_without_redis_each_counts_for_itself_and_nobody_waits(free_port: int) -> None:
    clock = Clock()
    with closing(RedisBoard(f"redis://127.0.0.1:{free_port}/0", clock=clock)) as board:
        breaker = Breaker(2, 10.0, clock, name="graph", board=board)
        assert breaker.allows()
        fail(breaker, 2)
        assert not breaker.allows()
        clock.now += 10
        assert [breaker.allows(), breaker.allows()] == [True, False]
        breaker.succeeded()
        assert breaker.allows()


def test_redis_is_read_once_a_second_at_most_however_many_ask(engine_home: EngineHome, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    asked: list[int] = []
    monkeypatch.setattr(breaker_board, "TIMEOUT_S", 20.0)
    with closing(RedisBoard(engine_home.redis_url, clock=clock)) as board:
        really = board._asked

        def counted(script: int, arguments: list[object]) -> object:
            asked.append(script)
            return really(script, arguments)

        monkeypatch.setattr(board, "_asked", counted)
        breaker = Breaker(3, 10.0, clock, name="a-name-of-this-test", board=board)
        threads = [threading.Thread(target=lambda: [breaker.allows() for _ in range(200)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert asked == [0]
        clock.now += 1
        breaker.allows()
        assert asked == [0, 0]


IN_ANOTHER_PROCESS = """
import sys
from lpm_kernel.stores import breaker_board
from lpm_kernel.stores.breaker import Breakers
breaker_board.KEY, breaker_board.TIMEOUT_S = sys.argv[2], 20.0
breakers = Breakers(breaker_board.RedisBoard(sys.argv[1]))
breaker = breakers.named("graph", 3, 60.0)
if sys.argv[3] == "trip":
    for _ in range(3):
        breaker.failed()
print(breaker.allows(), breakers.open_now(), breaker.circuit().trips)
breakers.close()
"""


def test_two_processes_see_the_same_open_circuit(engine_home: EngineHome) -> None:
    key = f"twin:breakers:{uuid.uuid4().hex}"

    def other(deed: str) -> str:
        arguments = [sys.executable, "-c", IN_ANOTHER_PROCESS, engine_home.redis_url, key, deed]
        return subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=120).stdout.strip()

    assert other("look") == "True {} 0"
    assert other("trip") == "False {'graph': 'open'} 1"
    assert other("look") == "False {'graph': 'open'} 0", "it has tripped nothing itself, and asks nobody"
