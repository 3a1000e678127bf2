"""Adapters in memory under many threads: loaded once, nobody kept waiting by another's hash, never freed while in use."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lpm_kernel.errors import LlmError
from lpm_kernel.L2.adapter_cache import LOAD_BOUNDS_S, AdapterCache

from .fake_library import BASE, FakeLibrary, adapter_named
from .traces import lru_hits, scan_trace, zipf_trace


def cache_of(library: FakeLibrary, entries: int) -> AdapterCache:
    return AdapterCache(library, BASE, entries * library.size_bytes)


def wait_until(happens, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_many_who_ask_for_one_adapter_at_once_load_it_once() -> None:
    library = FakeLibrary()
    library.slow["a"] = threading.Event()
    cache = cache_of(library, 4)

    def ask(_: int) -> object:
        with cache.borrow(adapter_named("a")) as pointer:
            return pointer

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, number) for number in range(8)]
        wait_until(lambda: cache.figures().joined == 7)
        library.slow["a"].set()
        assert len({done.result() for done in asked}) == 1
    assert (library.checks["a"], library.loads["a"]) == (1, 1)
    figures = cache.figures()
    assert (figures.misses, figures.joined, figures.hits) == (1, 7, 0)


def test_who_asks_for_another_adapter_is_not_kept_waiting_by_a_hash() -> None:
    library = FakeLibrary()
    library.slow["slow"] = threading.Event()
    cache = cache_of(library, 4)

    def ask_slow() -> None:
        with cache.borrow(adapter_named("slow")):
            pass

    waiting = threading.Thread(target=ask_slow)
    waiting.start()
    wait_until(lambda: library.checks["slow"] == 1)
    for name in ("new", "new", "other"):
        with cache.borrow(adapter_named(name)) as pointer:
            assert library.loaded[pointer] == name
    assert waiting.is_alive()
    library.slow["slow"].set()
    waiting.join()
    assert len(cache) == 3


def test_a_refused_adapter_is_checked_once_for_all_who_wait_and_anew_for_who_comes_later() -> None:
    library = FakeLibrary()
    library.slow["bad"] = threading.Event()
    library.damaged.add("bad")
    cache = cache_of(library, 4)

    def ask(_: int) -> str:
        try:
            with cache.borrow(adapter_named("bad")):
                return "loaded"
        except LlmError as error:
            return error.code

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, number) for number in range(4)]
        wait_until(lambda: cache.figures().joined == 3)
        library.slow["bad"].set()
        assert {done.result() for done in asked} == {"adapter_refused"}
    assert library.checks["bad"] == 1
    library.damaged.clear()
    assert ask(0) == "loaded"
    assert cache.figures().refusals == 1


def test_when_loading_breaks_off_the_next_who_waits_tries_itself() -> None:
    library = FakeLibrary()
    library.slow["a"] = threading.Event()
    library.breaks.add("a")
    cache = cache_of(library, 4)
    broken: list[BaseException] = []

    def first() -> None:
        try:
            with cache.borrow(adapter_named("a")):
                pass
        except MemoryError as error:
            broken.append(error)

    def second() -> None:
        with cache.borrow(adapter_named("a")):
            pass

    threads = [threading.Thread(target=first)]
    threads[0].start()
    wait_until(lambda: library.checks["a"] == 1)
    threads.append(threading.Thread(target=second))
    threads[1].start()
    wait_until(lambda: cache.figures().joined == 1)
    real = library.check

    def check_and_mend(adapter, base):
        library.breaks.clear()
        return real(adapter, base)

    library.check = check_and_mend  # type: ignore[method-assign]
    library.slow["a"].set()
    for thread in threads:
        thread.join()
    assert len(broken) == 1
    assert "a" in cache


def test_an_adapter_recorded_for_another_base_is_refused_unread() -> None:
    library = FakeLibrary()
    with pytest.raises(LlmError) as caught, cache_of(library, 1).borrow(adapter_named("a", "c" * 64)):
        pass
    assert (caught.value.code, library.checks["a"]) == ("adapter_refused", 0)


def test_a_thousand_tenants_in_threads_on_room_for_fifty_never_lose_what_they_use() -> None:
    library = FakeLibrary()
    cache = cache_of(library, 50)
    trace = zipf_trace(4_000)

    def ask(name: str) -> bool:
        with cache.borrow(adapter_named(name)) as pointer:
            return library.loaded.get(pointer) == name

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, trace))
    assert library.overlaps == 0
    figures = cache.figures()
    assert figures.size_bytes == len(library.loaded) * library.size_bytes <= figures.budget_bytes
    assert library.most_bytes <= (50 + 8) * library.size_bytes
    assert figures.hits + figures.misses + figures.joined == len(trace)
    assert sum(figures.loads) == figures.misses
    assert len(figures.loads) == len(LOAD_BOUNDS_S) + 1
    assert figures.evictions == figures.misses - figures.adapters
    assert figures.hits > lru_hits(trace, 50)
    cache.close()
    assert library.loaded == {}


def test_the_price_of_a_scan_is_paid_by_the_scan() -> None:
    """The cliff that others fell from: one pass over more tenants than fit, and every chat waits for a load from then on."""
    library = FakeLibrary()
    cache = cache_of(library, 50)
    hot = zipf_trace(3_000, skew=1.1, tenants=40)

    def replay(names: list[str]) -> int:
        before = cache.figures().misses
        for name in names:
            with cache.borrow(adapter_named(name)):
                pass
        return cache.figures().misses - before

    replay(hot)
    assert replay(scan_trace(500)) == 500
    assert replay(hot[:300]) == 0


def test_pinned_adapters_stay_and_retired_ones_go_after_their_last_use() -> None:
    library = FakeLibrary()
    cache = cache_of(library, 2)
    with cache.borrow(adapter_named("pinned")):
        cache.pin(["pinned"])
    for name in scan_trace(10):
        with cache.borrow(adapter_named(name)):
            pass
    assert "pinned" in cache
    with cache.borrow(adapter_named("old")) as pointer:
        cache.retire("old")
        assert library.loaded[pointer] == "old"
    assert "old" not in cache
    assert "old" not in library.loaded.values()
