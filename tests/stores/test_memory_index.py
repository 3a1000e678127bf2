"""Memories held ready for ranking: true to the table whoever writes, one user's own, and within their share of memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Connection

from lpm_kernel.stores.mem0_memories import Mem0Memories
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeEmbedder
from tests.samples import NOON, RANKING, make_memory_of

LATER = NOON + timedelta(hours=1)


@pytest.fixture
def memories(stores: Stores) -> Iterator[Mem0Memories]:
    opened = Mem0Memories(stores.tables.engine.url, FakeEmbedder(), RANKING)
    yield opened
    opened.close()


def told(memories: Mem0Memories, user_id: str, question: str, k: int = 9, **about: object) -> list[str]:
    vector = FakeEmbedder().embed([question])[0]
    hits = memories.recall(user_id, question, vector, k, as_of=about.pop("as_of", LATER), **about)  # type: ignore[arg-type]
    return [hit.memory.text for hit in hits]


def test_what_another_process_wrote_changed_or_removed_is_seen_at_the_next_question(
    memories: Mem0Memories, stores: Stores, user_id: str
) -> None:
    """Another object stands for another process: it shares nothing with this one but the table."""
    other = Mem0Memories(stores.tables.engine.url, FakeEmbedder(), RANKING)
    first, second = make_memory_of(user_id, "red cat"), make_memory_of(user_id, "green dog", 1)
    other.add_batch(user_id, [first])
    assert told(memories, user_id, "red cat") == ["red cat"]
    other.add_batch(user_id, [second])
    assert told(memories, user_id, "red cat") == ["red cat", "green dog"]
    home = [
        make_memory_of(user_id, f"I live in {town}", minute, key="user home") for minute, town in ((2, "Porto"), (3, "Faro"))
    ]
    from lpm_kernel.recall.write_gate import write_memories

    write_memories(other, user_id, home, [], stores.settings.gate)
    assert "I live in Porto" not in told(memories, user_id, "live in")
    assert "I live in Porto" in told(memories, user_id, "live in", as_of=NOON + timedelta(minutes=2, seconds=1))
    other.delete_all(user_id)
    assert told(memories, user_id, "red cat") == []
    other.close()


def test_kinds_and_times_are_kept_apart(memories: Mem0Memories, user_id: str) -> None:
    memories.add_batch(
        user_id,
        [
            make_memory_of(user_id, "red cat", kind="turn"),
            make_memory_of(user_id, "red tea", kind="preference"),
            make_memory_of(user_id, "red fair", expiration_date=NOON.date()),
            make_memory_of(user_id, "red ballot", 120),
        ],
    )
    assert told(memories, user_id, "red", kinds=["preference"]) == ["red tea"]
    assert sorted(told(memories, user_id, "red")) == ["red cat", "red fair", "red tea"]
    assert "red fair" not in told(memories, user_id, "red", as_of=NOON + timedelta(days=1))


def test_a_user_hears_only_their_own(memories: Mem0Memories, new_user: Callable[[], str]) -> None:
    mine, theirs = new_user(), new_user()
    memories.add_batch(theirs, [make_memory_of(theirs, "red cat")])
    assert told(memories, mine, "red cat") == []
    memories.add_batch(mine, [make_memory_of(mine, "green dog")])
    assert told(memories, mine, "red cat") == ["green dog"]
    assert told(memories, theirs, "green dog") == ["red cat"]


def test_those_who_wait_for_one_large_user_hold_no_connection(memories: Mem0Memories, new_user: Callable[[], str]) -> None:
    """Six chats of one user took all twelve connections while the first of them read 40,000 memories."""
    large, other = new_user(), new_user()
    memories.add_batch(other, [make_memory_of(other, "red cat")])
    opened: list[str] = []
    inside, go_on = threading.Event(), threading.Event()
    vector = FakeEmbedder().embed(["red"])[0]

    @contextmanager
    def connect(user_id: str) -> Iterator[Connection]:
        opened.append(user_id)
        with memories._by_index(user_id) as connection:
            if user_id == large:
                inside.set()
                go_on.wait(20)
            yield connection

    def ask(user_id: str) -> int:
        return len(memories._indexes.search(connect, user_id, "red", vector, 5, as_of=LATER))

    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(ask, large) for _ in range(5)]
        inside.wait(20)
        assert ask(other) == 1
        assert opened.count(large) == 1
        go_on.set()
        assert [future.result() for future in waiting] == [0] * 5


def test_users_beyond_the_budget_are_read_again_and_nothing_is_lost(stores: Stores, new_user: Callable[[], str]) -> None:
    users = [new_user() for _ in range(3)]
    small = Mem0Memories(stores.tables.engine.url, FakeEmbedder(), RANKING.model_copy(update={"index_mb": 1}))
    for user_id in users:
        small.add_batch(user_id, [make_memory_of(user_id, f"cat number {i} of {user_id}", i) for i in range(300)])
    for _ in range(2):
        for user_id in users:
            assert len(told(small, user_id, "cat number 7", 300, as_of=NOON + timedelta(days=1))) == 300
    assert len(small._indexes._held) == 1
    small.close()
