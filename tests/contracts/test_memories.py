"""What a memory store guarantees: one user's memories, each held from when it was said until it is superseded or expired."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.recall.write_gate import write_memories
from lpm_kernel.records import Memory
from lpm_kernel.stores.mem0_memories import Mem0Memories
from lpm_kernel.stores.memories import Decision, Memories, MemoryHit, from_payload, prepare_mem0, to_payload
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeEmbedder
from tests.rules.sources import ROOT
from tests.samples import NOON, make_memory_of

LATER = NOON + timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Opened:
    memories: Memories
    embedder: FakeEmbedder


@pytest.fixture
def opened(stores: Stores) -> Iterator[Opened]:
    embedder = FakeEmbedder()
    memories = Mem0Memories(stores.tables.engine.url, embedder)
    yield Opened(memories, embedder)
    memories.close()


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
    assert len(opened.memories.search(user_id, vector, 1, as_of=NOON)) == 1
    assert len(opened.embedder.texts) == before


def test_a_batch_is_embedded_at_once(opened: Opened, user_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mem0 itself embeds one text after another, which took eight times as long."""
    batches: list[int] = []
    embed = opened.embedder.embed
    monkeypatch.setattr(opened.embedder, "embed", lambda given: (batches.append(len(given)), embed(given))[1])
    opened.memories.add_batch(user_id, [make_memory_of(user_id, f"cat number {i}") for i in range(20)])
    assert batches == [20]


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


def test_expired_rows_are_purged_from_the_disk_and_no_others(memories: Memories, stores: Stores, user_id: str) -> None:
    days = {"yesterday": date(2026, 3, 1), "today": date(2026, 3, 2), "ever": None}
    memories.add_batch(user_id, [make_memory_of(user_id, name, expiration_date=day) for name, day in days.items()])
    assert memories.purge_expired(user_id, date(2026, 3, 2)) == 1
    with stores.tables.transaction(user_id) as connection:
        assert set(connection.execute(text("select payload ->> 'data' from memory")).scalars()) == {"today", "ever"}
    assert memories.purge_expired(user_id, date(2026, 3, 2)) == 0


def test_a_deleted_memory_is_gone_for_good(memories: Memories, user_id: str) -> None:
    memory = make_memory_of(user_id, "red cat")
    memories.add_batch(user_id, [memory])
    assert memories.delete(user_id, memory.memory_id)
    assert memories.history(user_id, memory.memory_id) == []
    assert memories.search(user_id, "red cat", 5, as_of=NOON) == []
    assert not memories.delete(user_id, memory.memory_id)


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


def test_vectors_of_another_model_are_never_compared(memories: Memories, stores: Stores, user_id: str) -> None:
    memories.add_batch(user_id, [make_memory_of(user_id, "red cat")])
    assert stores.memories.search(user_id, "red cat", 5, as_of=NOON) == [], "of 384 dimensions, where the other has 64"
    stores.memories.add_batch(user_id, [make_memory_of(user_id, "red cat", 1)])
    assert len(stores.memories.search(user_id, "red cat", 5, as_of=LATER)) == 1
    assert len(memories.search(user_id, "red cat", 5, as_of=LATER)) == 1
    assert len(memories.current(user_id, as_of=LATER)) == 2


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
    assert not memories.delete(two, memory.memory_id)
    assert memories.purge_expired(two, date(2030, 1, 1)) == 0
    assert memories.current(one, as_of=NOON) == [memory]


def test_a_user_who_is_deleted_takes_the_memories_along(memories: Memories, stores: Stores, user_id: str) -> None:
    memories.add_batch(user_id, [make_memory_of(user_id, "red cat")])
    with stores.tables.transaction(user_id) as connection:
        connection.execute(text("delete from app_user where user_id = :user_id"), {"user_id": user_id})
    assert memories.current(user_id, as_of=NOON) == []


def test_threads_of_different_users_do_not_mix(memories: Memories, new_user: Callable[[], str]) -> None:
    users = [new_user() for _ in range(4)]

    def work(user_id: str) -> list[Memory]:
        for i in range(10):
            memories.add_batch(user_id, [make_memory_of(user_id, f"cat {i} of {user_id}", i)])
        return memories.current(user_id, as_of=LATER)

    with ThreadPoolExecutor(4) as pool:
        for user_id, found in zip(users, pool.map(work, users), strict=True):
            assert texts(found) == [f"cat {i} of {user_id}" for i in range(10)]


PROCESS = """
import sys
from lpm_kernel.recall.write_gate import write_memories
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.mem0_memories import Mem0Memories
from sqlalchemy import make_url
from tests.fakes import FakeEmbedder
from tests.samples import make_memory_of
url, user_id, name, first = sys.stdin.read().split()
memories = Mem0Memories(make_url(url), FakeEmbedder())
settings = load_settings().gate
for i in range(12):
    write_memories(memories, user_id, [make_memory_of(user_id, f"red cat {i}", int(first) + 2 * i)], [], settings)
    home = make_memory_of(user_id, f"I live in {name} {i}", int(first) + 2 * i, key="user home")
    write_memories(memories, user_id, [home], [], settings)
memories.close()
"""


def test_two_processes_that_write_at_once_leave_one_of_each_and_one_unbroken_history(stores: Stores, user_id: str) -> None:
    """Without the lock both see no neighbour and both write; Mem0's own history file is locked by the other meanwhile."""
    url = stores.tables.engine.url.render_as_string(hide_password=False)
    writers = [
        subprocess.Popen([sys.executable, "-c", PROCESS], stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True)
        for _ in range(2)
    ]
    for number, writer in enumerate(writers):
        assert writer.stdin is not None
        writer.stdin.write(f"{url} {user_id} {['Lisbon', 'Porto'][number]} {number}")
        writer.stdin.close()
    for writer in writers:
        assert writer.stderr is not None
        said = writer.stderr.read()
        writer.stderr.close()
        assert writer.wait(60) == 0, said
    as_of = NOON + timedelta(days=1)
    held = stores.memories.current(user_id, as_of=as_of)
    assert sorted(memory.text for memory in held if memory.key is None) == sorted(f"red cat {i}" for i in range(12))
    [home] = [memory for memory in held if memory.key]
    assert home.text == "I live in Porto 11", "the last that was said, whoever wrote last"
    versions = stores.memories.history(user_id, home.memory_id)
    assert len(versions) == 24
    for version, after in itertools.pairwise(versions):
        assert (version.superseded_by, version.superseded_at) == (after.memory_id, after.created_at)


def test_a_store_that_is_not_there_may_be_asked_again_later(stores: Stores, free_port: int) -> None:
    gone = Mem0Memories(stores.tables.engine.url.set(host="127.0.0.1", port=free_port), FakeEmbedder())
    with pytest.raises(StoreError) as caught:
        gone.search("1", "cat", 1, as_of=NOON)
    gone.close()
    assert (caught.value.code, caught.value.retryable) == ("tables_unavailable", True)


def test_what_postgres_refuses_of_mem0_is_an_error_without_the_text(
    memories: Memories, user_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Mem0's store logs every error with its traceback."""
    nobody = f"{user_id[:40]}-nobody"
    with pytest.raises(StoreError) as caught:
        memories.add_batch(nobody, [make_memory_of(nobody, "my bank card is 1234")])
    assert (caught.value.code, caught.value.retryable) == ("tables_refused", False)
    assert "1234" not in str(caught.value) + caplog.text


def test_a_payload_in_the_name_of_another_user_is_refused_by_the_table(
    memories: Memories, stores: Stores, new_user: Callable[[], str]
) -> None:
    """Mem0 filters by the payload and the fence by the column: a row where they differ would be nobody's."""
    one, two = new_user(), new_user()
    payload = to_payload(make_memory_of(one, "red cat"), "fake/64/l2")
    with pytest.raises(StoreError) as caught, stores.tables.transaction(two) as connection:
        connection.execute(
            text("insert into memory (id, vector, payload) values (gen_random_uuid(), '[1]', cast(:payload as jsonb))"),
            {"payload": json.dumps(payload)},
        )
    assert "check constraint" in caught.value.message


def test_mem0s_own_class_reads_what_was_written(opened: Opened, user_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collection is Mem0's: another program with the stock package finds the same memories."""
    memory = make_memory_of(user_id, "red cat")
    opened.memories.add_batch(user_id, [memory])
    prepare_mem0()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mem0 import Memory as StockMemory
    stock = object.__new__(StockMemory)  # its constructor opens a language model and a history file
    with opened.memories._transaction(user_id):  # type: ignore[attr-defined]
        stock.vector_store = opened.memories._store  # type: ignore[attr-defined]
        monkeypatch.setattr("mem0.memory.main.capture_event", lambda *_: None)
        read = stock.get(memory.memory_id)
        listed = stock._get_all_from_vector_store({"user_id": user_id}, 10, show_expired=True)
    assert (read["memory"], read["user_id"], read["metadata"]["kind"]) == ("red cat", user_id, "fact")
    assert [item["id"] for item in listed] == [memory.memory_id]


def test_a_payload_holds_everything_and_nothing_that_is_none() -> None:
    memory = make_memory_of("1", "red cat")
    payload = to_payload(memory, "f")
    assert None not in payload.values()
    assert from_payload(memory.memory_id, payload) == memory


def test_mem0_is_imported_without_telemetry_and_without_a_folder_at_home(tmp_path: Path) -> None:
    code = (
        "from lpm_kernel.stores.memories import prepare_mem0; prepare_mem0()\n"
        "import threading, warnings, mem0.memory.telemetry as t, mem0.memory.setup as s\n"
        "print(t.MEM0_TELEMETRY, s.mem0_dir, len(threading.enumerate()))"
    )
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    told = run.stdout.split()
    assert (told[0], told[2]) == ("False", "1")
    assert not told[1].startswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
