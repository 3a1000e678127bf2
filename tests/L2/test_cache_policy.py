"""Which adapters stay: bytes, who is in use, who is pinned, and what one pass over everybody does to those in daily use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.L2.cache_policy import CachePolicy

from .traces import lru_hits, scan_trace, zipf_trace

MB = 2**20


def replay(policy: CachePolicy, trace: Sequence[str], size_bytes: int = MB) -> int:
    """One asks after another, each twice as a chat does: once to check, once to decode. How many were found in memory."""
    hits = 0
    for key in trace:
        hits += key in policy
        for _ in range(2):
            policy.touch(key)
            policy.hold(key)
            if key not in policy:
                policy.admit(key, size_bytes)
            policy.take_victims()
            policy.give_back(key)
            policy.take_victims()
    return hits


def resident(policy: CachePolicy, keys: Sequence[str]) -> int:
    return sum(key in policy for key in keys)


@pytest.mark.parametrize("skew", [0.8, 1.1])
@pytest.mark.parametrize("entries", [20, 50, 200])
def test_a_thousand_tenants_of_whom_few_chat_often_are_found_more_often_than_by_plain_lru(skew: float, entries: int) -> None:
    trace = zipf_trace(8_000, skew=skew)
    assert replay(CachePolicy(entries * MB), trace) > lru_hits(trace, entries)


@pytest.mark.parametrize("entries", [10, 50, 100])
def test_one_pass_over_ten_times_as_many_keeps_those_in_daily_use(entries: int) -> None:
    policy = CachePolicy(entries * MB)
    hot = [f"hot-{number}" for number in range(entries * 7 // 10)]
    for _ in range(6):
        replay(policy, hot)
    assert resident(policy, hot) == len(hot)
    replay(policy, scan_trace(10 * entries))
    assert resident(policy, hot) == len(hot), "the scan went through the window"


def test_chats_that_go_on_beside_a_scan_stay_as_fast_and_by_plain_lru_would_not() -> None:
    hot = zipf_trace(4_000, skew=1.1, tenants=40)
    beside = [key for pair in zip(scan_trace(len(hot)), hot, strict=True) for key in pair]
    policy = CachePolicy(40 * MB)
    replay(policy, zipf_trace(2_000, skew=1.1, tenants=40, seed=2))
    found = replay(policy, beside) / len(hot)
    plain = lru_hits(beside, 40) / len(hot)
    assert found > 0.9
    assert plain < 0.8


def test_who_becomes_busy_is_kept_before_long_and_who_no_longer_is_goes() -> None:
    policy = CachePolicy(50 * MB)
    replay(policy, [f"old-{number}" for number in range(50)] * 12)
    new = [f"new-{number}" for number in range(40)]
    replay(policy, new * 20)
    assert resident(policy, new) >= 36


def test_a_cache_for_one_adapter_keeps_one() -> None:
    policy = CachePolicy(MB)
    assert replay(policy, ["a", "a", "b", "b", "b"]) == 3


def test_adapters_are_counted_by_bytes_and_a_large_one_takes_the_room_of_many() -> None:
    policy = CachePolicy(10 * MB)
    replay(policy, [f"small-{number}" for number in range(10)])
    assert (len(policy), policy.size_bytes) == (10, 10 * MB)
    replay(policy, ["large"], 8 * MB)
    assert policy.size_bytes <= 10 * MB


def test_what_is_in_use_or_pinned_stays_even_above_the_budget() -> None:
    policy = CachePolicy(2 * MB)
    for key in "abcd":
        policy.hold(key)
        policy.admit(key, MB)
    assert policy.take_victims() == []
    policy.pin("a")
    for key in "abcd":
        policy.give_back(key)
    assert "a" not in policy.take_victims()
    replay(policy, scan_trace(20))
    assert "a" in policy
    policy.pin("")
    replay(policy, scan_trace(20, start=20))
    assert "a" not in policy


def test_a_retired_one_goes_when_it_is_given_back_and_stays_when_it_is_asked_for_again() -> None:
    policy = CachePolicy(9 * MB)
    replay(policy, "ab")
    policy.hold("a")
    for key in "ab":
        policy.retire(key)
    policy.touch("b")
    assert policy.take_victims() == []
    policy.give_back("a")
    assert policy.take_victims() == ["a"]
    assert "b" in policy


KEYS = st.sampled_from("abcdefgh")
SIZES = {key: (index + 1) * 10 for index, key in enumerate("abcdefgh")}


@given(
    st.integers(0, 200),
    st.lists(st.tuples(st.sampled_from(["borrow", "give", "pin", "retire", "idle"]), KEYS), max_size=80),
)
def test_whatever_happens_nothing_in_use_is_freed_and_the_budget_holds_but_for_those(
    budget: int, deeds: list[tuple[str, str]]
) -> None:
    policy = CachePolicy(budget)
    held: Counter[str] = Counter()
    loaded: set[str] = set()
    pinned: set[str] = set()

    def free(victims: list[str]) -> None:
        assert len(set(victims)) == len(victims)
        assert not any(held[key] for key in victims)
        assert set(victims) <= loaded
        loaded.difference_update(victims)

    for deed, key in deeds:
        if deed == "borrow":
            policy.touch(key)
            policy.hold(key)
            held[key] += 1
            if key not in policy:
                assert key not in loaded
                policy.admit(key, SIZES[key])
                loaded.add(key)
        elif deed == "give" and held[key]:
            policy.give_back(key)
            held[key] -= 1
        elif deed == "pin":
            pinned = {key}
            policy.pin(pinned)
        elif deed == "retire":
            policy.retire(key)
        elif deed == "idle":
            free(policy.take_idle())
            assert all(held[key] for key in loaded)
        victims = policy.take_victims()
        assert not pinned.intersection(victims)
        free(victims)
        assert policy.size_bytes == sum(SIZES[key] for key in loaded)
        assert {key for key in "abcdefgh" if key in policy} == loaded
        assert policy.size_bytes <= budget or all(held[key] or key in pinned for key in loaded)
