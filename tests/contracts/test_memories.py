"""What a memory store guarantees: one user's memories, each held from when it was said until it is superseded or expired."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from lpm_kernel.errors import UserInputError
from lpm_kernel.recall.write_gate import write_memories
from lpm_kernel.records import Memory
from lpm_kernel.stores.mem0_cloud import Mem0CloudMemories
from lpm_kernel.stores.mem0_memories import Mem0Memories
from lpm_kernel.stores.memories import Decision, Memories, MemoryHit
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeEmbedder
from tests.mem0_platform import Mem0Platform
from tests.samples import NOON, RANKING, make_memory_of

LATER = NOON + timedelta(hours=1)


CLOUD = ["cloud"] if os.environ.get("MEM0_API_KEY") else []


@dataclass(frozen=True, slots=True)
class Opened:
    memories: Memories
    embedder: FakeEmbedder


@pytest.fixture(params=["embedded", "stand-in", *CLOUD])
def opened(request: pytest.FixtureRequest, stores: Stores) -> Iterator[Opened]:
    """Mem0 on PostgreSQL; the class of the platform before a stand-in; the platform itself, where a key is given."""
    embedder = FakeEmbedder()
    with ExitStack() as stack:
        if request.param == "embedded":
            memories: Memories = Mem0Memories(stores.tables.engine.url, embedder, RANKING)
        elif request.param == "stand-in":
            host = stack.enter_context(Mem0Platform()).host
            memories = Mem0CloudMemories("m0-key", embedder, stores.tables, host=host, event_wait_s=0.001)
        else:
            memories = Mem0CloudMemories(os.environ["MEM0_API_KEY"], embedder, stores.tables)
        stack.callback(memories.close)
        yield Opened(memories, embedder)


@pytest.fixture
def memories(opened: Opened) -> Memories:
    return opened.memories


def texts(found: list[Memory]) -> list[str]:
    return [memory.text for memory in found]


def test_a_memory_comes_back_as_it_was_written(memories: Memories, user_id: str) -> None:
    memory = make_memory_of(
        user_id,
        "J'aime le thé 🍵; it's \"green\" \\ and\nhot",
        kind="preference",
        importance=0.9,
        session_id="s",
        turn=4,
        expiration_date=date(2026, 4, 1),
        key="user tea",
        citation="ab12:3-40",
        message_ids=("m1", "m2"),
    )
    assert memories.add_batch(user_id, [memory]) == [Decision("written", memory)]
    assert memories.current(user_id, as_of=NOON) == [memory]
    [hit] = memories.search(user_id, memory.text, 5, as_of=NOON)
    assert hit.memory == memory
    assert hit.score == pytest.approx(1, abs=1e-3)


def test_the_nearest_are_found_first_and_no_more_than_asked(memories: Memories, user_id: str) -> None:
    memories.add_batch(user_id, [make_memory_of(user_id, said) for said in ("red cat", "red cat asleep", "tax return")])
    hits = memories.search(user_id, "red cat", 2, as_of=NOON)
    assert [hit.memory.text for hit in hits] == ["red cat", "red cat asleep"]
    assert 1.001 > hits[0].score > hits[1].score > 0


def test_a_question_may_come_as_its_vector(opened: Opened, user_id: str) -> None:
    opened.memories.add_batch(user_id, [make_memory_of(user_id, "red cat")])
    vector = opened.embedder.embed(["red cat"])[0]
    before = len(opened.embedder.texts)
    assert len(opened.memories.search(user_id, "red cat", 1, as_of=NOON, vector=vector)) == 1
    assert len(opened.embedder.texts) == before


def test_what_is_not_allowed_is_no_candidate(opened: Opened, user_id: str) -> None:
    said = ["my red cat", "my red dog", "my red fox"]
    opened.memories.add_batch(user_id, [make_memory_of(user_id, text, number) for number, text in enumerate(said)])
    asked = opened.embedder.embed(["red cat"])[0]

    def recalled(allowed: Callable[[Memory], bool] | None) -> list[str]:
        hits = opened.memories.recall(user_id, "red cat", asked, 1, as_of=LATER, allowed=allowed)
        return [hit.memory.text for hit in hits]

    assert recalled(None) == ["my red cat"]
    assert recalled(lambda memory: "cat" not in memory.text) in (["my red dog"], ["my red fox"])
    assert recalled(lambda _: False) == []


def test_nothing_is_remembered_of_an_empty_batch(memories: Memories, user_id: str) -> None:
    assert memories.add_batch(user_id, []) == []
    assert memories.current(user_id, as_of=NOON) == []
    assert memories.search(user_id, "anything", 5, as_of=NOON) == []


def test_kinds_and_domains_are_told_apart(memories: Memories, user_id: str) -> None:
    memories.add_batch(
        user_id,
        [
            make_memory_of(user_id, "red cat", kind="fact"),
            make_memory_of(user_id, "red tea", kind="preference"),
            make_memory_of(user_id, "red ballot", kind="turn", domain="dao"),
        ],
    )
    assert texts(memories.current(user_id, as_of=NOON, kinds=["preference"])) == ["red tea"]
    assert texts(memories.current(user_id, as_of=NOON, domain="dao")) == ["red ballot"]
    found = memories.search(user_id, "red", 9, as_of=NOON, kinds=["fact", "turn"], domain="life")
    assert [hit.memory.text for hit in found] == ["red cat"]


def test_a_memory_that_expires_is_held_to_the_end_of_its_last_day(memories: Memories, user_id: str) -> None:
    memories.add_batch(user_id, [make_memory_of(user_id, "at the fair", expiration_date=NOON.date())])
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    for moment, expected in ((midnight - timedelta(seconds=1), 1), (midnight, 0)):
        assert len(memories.search(user_id, "fair", 5, as_of=moment)) == expected
        assert len(memories.current(user_id, as_of=moment)) == expected


def test_a_memory_is_not_held_before_it_was_said(memories: Memories, user_id: str) -> None:
    memories.add_batch(user_id, [make_memory_of(user_id, "red cat")])
    assert memories.search(user_id, "cat", 5, as_of=NOON - timedelta(seconds=1)) == []
    assert memories.current(user_id, as_of=NOON - timedelta(seconds=1)) == []


def test_expired_rows_are_purged_and_no_others(memories: Memories, user_id: str) -> None:
    days = {"yesterday": date(2026, 3, 1), "today": date(2026, 3, 2), "ever": None}
    batch = [make_memory_of(user_id, name, expiration_date=day) for name, day in days.items()]
    memories.add_batch(user_id, batch)
    assert memories.purge_expired(user_id, date(2026, 3, 2)) == 1
    assert [len(memories.history(user_id, memory.memory_id)) for memory in batch] == [0, 1, 1]
    assert memories.purge_expired(user_id, date(2026, 3, 2)) == 0


def test_a_deleted_memory_is_gone_for_good(memories: Memories, user_id: str) -> None:
    memory = make_memory_of(user_id, "red cat")
    memories.add_batch(user_id, [memory])
    assert memories.delete(user_id, [memory.memory_id]) == 1
    assert memories.history(user_id, memory.memory_id) == []
    assert memories.search(user_id, "red cat", 5, as_of=NOON) == []
    assert memories.delete(user_id, [memory.memory_id]) == 0


def test_a_batch_that_is_sent_again_writes_nothing(memories: Memories, user_id: str) -> None:
    batch = [make_memory_of(user_id, "red cat"), make_memory_of(user_id, "blue cat")]
    memories.add_batch(user_id, batch)
    assert [decision.outcome for decision in memories.add_batch(user_id, batch)] == ["duplicate", "duplicate"]
    assert len(memories.current(user_id, as_of=NOON)) == 2


def test_a_batch_is_written_whole_or_not_at_all(memories: Memories, user_id: str) -> None:
    def fail_at_the_second(memory: Memory, near: object, versions: object) -> Decision:
        if memory.text == "second":
            raise RuntimeError("told to")
        return Decision("written", memory)

    with pytest.raises(RuntimeError):
        memories.add_batch(user_id, [make_memory_of(user_id, "first"), make_memory_of(user_id, "second")], fail_at_the_second)
    assert memories.current(user_id, as_of=NOON) == []


def test_a_candidate_sees_those_before_it_in_its_batch(memories: Memories, user_id: str) -> None:
    seen: list[list[str]] = []

    def look(memory: Memory, near: list[MemoryHit], versions: object) -> Decision:
        seen.append([hit.memory.text for hit in near])
        return Decision("written", memory)

    batch = [make_memory_of(user_id, "red cat"), make_memory_of(user_id, "red dog"), make_memory_of(user_id, "x", kind="turn")]
    memories.add_batch(user_id, batch, look)
    assert seen == [[], ["red cat"], []], "and none of another kind"


def test_a_repeated_memory_is_held_as_long_as_the_repetition_would_be(memories: Memories, stores: Stores, user_id: str) -> None:
    first = make_memory_of(user_id, "I like red tea", expiration_date=date(2026, 3, 5))
    again = make_memory_of(user_id, "I like red tea!", 10, expiration_date=date(2026, 3, 9))
    sooner = make_memory_of(user_id, "I like red tea.", 20, expiration_date=date(2026, 3, 7))
    decided = write_memories(memories, user_id, [first, again, sooner], [], stores.settings.gate)
    assert [decision.outcome for decision in decided] == ["written", "duplicate", "duplicate"]
    assert memories.current(user_id, as_of=LATER) == [replace(first, expiration_date=date(2026, 3, 9))]


def test_a_changed_fact_replaces_the_old_one_which_stays_in_its_history(
    memories: Memories, stores: Stores, user_id: str
) -> None:
    old = make_memory_of(user_id, "I live in Lisbon", 0, key="user home")
    new = make_memory_of(user_id, "I live in Porto", 30, key="user home")
    other = make_memory_of(user_id, "I live for tea", 20, key="user passion")
    for memory in (old, other, new):
        write_memories(memories, user_id, [memory], [], stores.settings.gate)
    assert texts(memories.current(user_id, as_of=LATER)) == ["I live for tea", "I live in Porto"]
    assert "I live in Lisbon" not in [hit.memory.text for hit in memories.search(user_id, "I live in Lisbon", 9, as_of=LATER)]
    then = memories.search(user_id, "I live in", 9, as_of=NOON)
    assert [hit.memory.text for hit in then] == ["I live in Lisbon"], "what held then is found as of then"
    ended = replace(old, superseded_by=new.memory_id, superseded_at=new.created_at)
    for memory in (old, new):
        assert memories.history(user_id, memory.memory_id) == [ended, new]
    assert memories.history(user_id, other.memory_id) == [other]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_newest_statement_holds_in_whatever_order_they_arrive(
    memories: Memories, stores: Stores, user_id: str, order: tuple[int, ...]
) -> None:
    said = [
        make_memory_of(user_id, f"I live in {city}", i, key="user home") for i, city in enumerate(("Lisbon", "Porto", "Faro"))
    ]
    for position in order:
        write_memories(memories, user_id, [said[position]], [], stores.settings.gate)
    assert memories.current(user_id, as_of=LATER) == [said[2]]
    ends = [(version.superseded_by, version.superseded_at) for version in memories.history(user_id, said[0].memory_id)]
    assert ends == [(said[1].memory_id, said[1].created_at), (said[2].memory_id, said[2].created_at), (None, None)]


@pytest.mark.parametrize(
    "wrong",
    [{"text": " "}, {"text": "a\x00b"}, {"importance": 1.1}, {"user_id": "another"}, {"created_at": datetime(2026, 3, 1)}],
)
def test_what_is_no_memory_is_refused_whole(memories: Memories, user_id: str, wrong: dict[str, object]) -> None:
    good = make_memory_of(user_id, "red cat")
    with pytest.raises(UserInputError) as caught:
        memories.add_batch(user_id, [good, replace(good, **wrong)])  # type: ignore[arg-type]
    assert caught.value.code == "memory_invalid"
    assert memories.current(user_id, as_of=NOON) == []


def test_a_user_sees_and_changes_no_memory_of_another(memories: Memories, new_user: Callable[[], str]) -> None:
    one, two = new_user(), new_user()
    memory = make_memory_of(one, "red cat", expiration_date=NOON.date())
    memories.add_batch(one, [memory])
    memories.add_batch(two, [make_memory_of(two, "red cat")])
    assert [hit.memory.user_id for hit in memories.search(two, "red cat", 9, as_of=NOON)] == [two]
    assert memories.history(two, memory.memory_id) == []
    assert memories.delete(two, [memory.memory_id]) == 0
    assert memories.purge_expired(two, date(2030, 1, 1)) == 0
    assert memories.current(one, as_of=NOON) == [memory]


def test_all_of_one_user_can_be_deleted(memories: Memories, new_user: Callable[[], str]) -> None:
    one, two = new_user(), new_user()
    for user_id in (one, two):
        memories.add_batch(user_id, [make_memory_of(user_id, f"cat {i}") for i in range(6)])
    assert memories.delete_all(one) == 6
    assert memories.current(one, as_of=NOON) == []
    assert len(memories.current(two, as_of=NOON)) == 6


def test_threads_of_different_users_do_not_mix(memories: Memories, new_user: Callable[[], str]) -> None:
    users = [new_user() for _ in range(4)]

    def work(user_id: str) -> list[Memory]:
        for i in range(10):
            memories.add_batch(user_id, [make_memory_of(user_id, f"cat {i} of {user_id}", i)])
        return memories.current(user_id, as_of=LATER)

    with ThreadPoolExecutor(4) as pool:
        for user_id, found in zip(users, pool.map(work, users), strict=True):
            assert texts(found) == [f"cat {i} of {user_id}" for i in range(10)]


def test_pages_come_newest_first_and_hold_each_memory_once(memories: Memories, user_id: str) -> None:
    batch = [make_memory_of(user_id, f"cat {i}", i // 2, kind="turn" if i % 3 else "fact") for i in range(7)]
    memories.add_batch(user_id, [*batch, make_memory_of(user_id, "gone", expiration_date=date(2026, 2, 1))])
    expected = sorted(batch, key=lambda memory: (memory.created_at, memory.memory_id), reverse=True)
    seen: list[Memory] = []
    while page := memories.page(
        user_id, as_of=LATER, before=(seen[-1].created_at, seen[-1].memory_id) if seen else None, limit=3
    ):
        assert len(page) <= 3
        seen += page
    assert seen == expected
    facts = memories.page(user_id, as_of=LATER, kinds=["fact"], limit=9)
    assert facts == [memory for memory in expected if memory.kind == "fact"]
    assert memories.count(user_id, as_of=LATER) == {"fact": 3, "turn": 4}
    assert len(memories.every(user_id)) == 8


def test_a_correction_takes_the_place_of_what_was_remembered(memories: Memories, user_id: str) -> None:
    old = make_memory_of(user_id, "I live in Lisbon", kind="preference", citation="ab12:3-40")
    memories.add_batch(user_id, [old])
    at = NOON + timedelta(minutes=5)
    new = memories.correct(user_id, old.memory_id, "I live in Porto", by="ada", at=at)
    assert (new.text, new.kind, new.written_by, new.citation, new.created_at) == (
        "I live in Porto", "preference", "ada", None, at,
    )  # fmt: skip
    assert memories.current(user_id, as_of=LATER) == [new]
    assert [hit.memory for hit in memories.search(user_id, "I live in Porto", 5, as_of=LATER)] == [new]
    assert texts(memories.history(user_id, old.memory_id)) == ["I live in Lisbon", "I live in Porto"]
    assert texts(memories.current(user_id, as_of=NOON)) == ["I live in Lisbon"], "what held then"
    assert memories.correct(user_id, old.memory_id, "I live in Porto", by="ada", at=LATER) == new, "asked again"
    with pytest.raises(UserInputError) as caught:
        memories.correct(user_id, old.memory_id, "I live in Faro", by="ada", at=LATER)
    assert caught.value.code == "memory_superseded"
    again = memories.correct(user_id, new.memory_id, "I live in Faro", by="ada", at=LATER)
    assert memories.current(user_id, as_of=LATER) == [again]


def test_a_memory_that_is_forgotten_takes_its_versions_along(memories: Memories, user_id: str) -> None:
    old, other = make_memory_of(user_id, "I live in Lisbon"), make_memory_of(user_id, "I like tea")
    memories.add_batch(user_id, [old, other])
    new = memories.correct(user_id, old.memory_id, "I live in Porto", by="ada", at=NOON + timedelta(minutes=5))
    assert memories.forget(user_id, new.memory_id) == 2
    assert memories.every(user_id) == [other]
    with pytest.raises(UserInputError) as caught:
        memories.forget(user_id, new.memory_id)
    assert caught.value.code == "memory_unknown"


@pytest.mark.parametrize(
    "where",
    [
        {"kind": "preference", "citation": "ab12:3-40"},
        {"kind": "turn", "session_id": "s", "turn": 3, "expiration_date": LATER.date()},
    ],
    ids=["of a document", "of a session"],
)
def test_what_is_said_somewhere_is_forgotten_without_a_word_and_not_remembered_again(
    memories: Memories, user_id: str, where: dict[str, Any]
) -> None:
    said = make_memory_of(user_id, "I never drink coffee", **where)
    memories.add_batch(user_id, [said])
    assert memories.forget(user_id, said.memory_id) == 1
    assert memories.add_batch(user_id, [said])[0].outcome == "duplicate"
    [left] = memories.every(user_id)
    assert "coffee" not in str(left)
    assert (left.citation, left.session_id, left.turn) == (said.citation, said.session_id, said.turn)
    assert (left.superseded_at, left.expiration_date) == (said.created_at, None)
    for moment in (NOON, LATER):
        assert memories.current(user_id, as_of=moment) == []
    assert memories.search(user_id, "coffee", 5, as_of=LATER) == []
    with pytest.raises(UserInputError):
        memories.forget(user_id, said.memory_id)


@pytest.mark.parametrize("memory_id", ["", "no id", "00000000-0000-0000-0000-000000000000"])
def test_what_is_no_memory_is_neither_corrected_nor_forgotten(memories: Memories, user_id: str, memory_id: str) -> None:
    for change in (
        lambda: memories.correct(user_id, memory_id, "words", by="ada", at=NOON),
        lambda: memories.forget(user_id, memory_id),
    ):
        with pytest.raises(UserInputError) as caught:
            change()
        assert caught.value.code == "memory_unknown"


def test_how_a_person_writes_is_measured_and_not_corrected(memories: Memories, user_id: str) -> None:
    voice = make_memory_of(user_id, "writes short sentences", kind="voice", key="voice")
    memories.add_batch(user_id, [voice])
    for change in (
        lambda: memories.correct(user_id, voice.memory_id, "writes long ones", by="ada", at=LATER),
        lambda: memories.forget(user_id, voice.memory_id),
    ):
        with pytest.raises(UserInputError) as caught:
            change()
        assert caught.value.code == "memory_derived"
    assert memories.current(user_id, as_of=LATER) == [voice]
