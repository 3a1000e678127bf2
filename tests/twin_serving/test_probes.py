"""Stores that fail, hang and come back, asked by many at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from lpm_kernel.errors import StoreError
from twin_serving.probes import StoreProbes


def test_each_store_is_told_by_its_own_word() -> None:
    def refuses() -> None:
        raise StoreError("bucket_missing", "no bucket")

    def breaks() -> None:
        raise KeyError("a defect")

    probes = StoreProbes({"tables": lambda: None, "blobs": refuses, "graph": breaks})
    assert probes.states() == {"tables": "ok", "blobs": "bucket_missing", "graph": "internal"}


def test_a_store_that_hangs_is_silent_in_time_and_is_not_asked_again_while_it_hangs() -> None:
    asked: list[int] = []
    release = threading.Event()

    def hangs() -> None:
        asked.append(1)
        release.wait(30)

    probes = StoreProbes({"tables": hangs, "blobs": lambda: None}, limit_s=0.5, kept_s=0)
    began = time.monotonic()
    for _ in range(3):
        assert probes.states() == {"tables": "silent", "blobs": "ok"}
    assert time.monotonic() - began < 20
    assert len(asked) == 1
    release.set()
    deadline = time.monotonic() + 5
    while probes.states()["tables"] != "ok":
        assert time.monotonic() < deadline


def test_many_who_ask_at_once_cost_one_question_and_what_is_a_second_old_is_asked_anew() -> None:
    asked: list[int] = []
    now = [100.0]

    def slow() -> None:
        asked.append(1)
        time.sleep(0.05)

    probes = StoreProbes({"tables": slow}, clock=lambda: now[0])
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: probes.states(), range(16)))
    assert found == [{"tables": "ok"}] * 16
    assert len(asked) == 1
    now[0] += 1.0
    probes.states()
    assert len(asked) == 2
