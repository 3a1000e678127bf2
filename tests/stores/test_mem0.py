"""Mem0 below the port: its collection in PostgreSQL, parallel processes, and the platform before a stand-in."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from lpm_kernel.errors import StoreError
from lpm_kernel.request_context import RequestContext, within_request
from lpm_kernel.stores.mem0_cloud import Mem0CloudMemories
from lpm_kernel.stores.mem0_memories import Mem0Memories
from lpm_kernel.stores.memories import from_payload, lock_memories, prepare_mem0, to_payload
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeEmbedder
from tests.mem0_platform import Mem0Platform
from tests.rules.sources import ROOT
from tests.samples import NOON, RANKING, make_memory_of

LATER = NOON + timedelta(hours=1)


@pytest.fixture
def postgres(stores: Stores) -> Iterator[Mem0Memories]:
    memories = Mem0Memories(stores.tables.engine.url, FakeEmbedder(), RANKING)
    yield memories
    memories.close()


class CountingEmbedder(FakeEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.batches.append(len(texts))
        return super().embed(texts)


def test_a_batch_is_embedded_at_once(stores: Stores, user_id: str) -> None:
    """Mem0 itself embeds one text after another."""
    embedder = CountingEmbedder()
    memories = Mem0Memories(stores.tables.engine.url, embedder, RANKING)
    memories.add_batch(user_id, [make_memory_of(user_id, f"cat number {i}") for i in range(20)])
    memories.close()
    assert embedder.batches == [20]


def test_memories_of_the_model_before_are_found_again(
    postgres: Mem0Memories, stores: Stores, new_user: Callable[[], str]
) -> None:
    """A change of `models.embedder` made every memory so far invisible to a search, without a word."""
    one, two = new_user(), new_user()
    kept = make_memory_of(one, "red cat", key="user cat", expiration_date=NOON.date())
    postgres.add_batch(one, [kept, make_memory_of(one, "blue dog")])
    postgres.add_batch(two, [make_memory_of(two, "red cat")])
    stores.memories.add_batch(one, [make_memory_of(one, "green bird", 1)])
    assert stores.memories.reembed(one) == 2
    assert stores.memories.reembed(one) == 0
    found = stores.memories.search(one, "red cat", 5, as_of=NOON + timedelta(minutes=2))
    assert found[0].memory == kept
    assert {hit.memory.text for hit in found} == {"red cat", "blue dog", "green bird"}
    assert postgres.search(one, "red cat", 5, as_of=LATER) == []
    assert len(postgres.search(two, "red cat", 5, as_of=LATER)) == 1, "another user's are theirs"


def test_vectors_of_another_model_are_never_compared(postgres: Mem0Memories, stores: Stores, user_id: str) -> None:
    postgres.add_batch(user_id, [make_memory_of(user_id, "red cat")])
    assert stores.memories.search(user_id, "red cat", 5, as_of=NOON) == [], "of 384 dimensions, where the other has 64"
    stores.memories.add_batch(user_id, [make_memory_of(user_id, "red cat", 1)])
    assert len(stores.memories.search(user_id, "red cat", 5, as_of=LATER)) == 1
    assert len(postgres.search(user_id, "red cat", 5, as_of=LATER)) == 1
    assert len(postgres.current(user_id, as_of=LATER)) == 2


def test_a_user_who_is_deleted_takes_the_memories_along(postgres: Mem0Memories, stores: Stores, user_id: str) -> None:
    postgres.add_batch(user_id, [make_memory_of(user_id, "red cat")])
    with stores.tables.transaction(user_id) as connection:
        connection.execute(text("delete from app_user where user_id = :user_id"), {"user_id": user_id})
    assert postgres.current(user_id, as_of=NOON) == []


PROCESS = """
import sys
from lpm_kernel.recall.write_gate import write_memories
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.mem0_memories import Mem0Memories
from sqlalchemy import make_url
from tests.fakes import FakeEmbedder
from tests.samples import make_memory_of
url, user_id, name, first = sys.stdin.read().split()
memories = Mem0Memories(make_url(url), FakeEmbedder(), load_settings().memory_ranking)
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
    gone = Mem0Memories(stores.tables.engine.url.set(host="127.0.0.1", port=free_port), FakeEmbedder(), RANKING)
    with pytest.raises(StoreError) as caught:
        gone.search("1", "cat", 1, as_of=NOON)
    gone.close()
    assert (caught.value.code, caught.value.retryable) == ("tables_unavailable", True)


def test_a_writer_waits_for_another_one_no_longer_than_a_person_would(
    postgres: Mem0Memories, stores: Stores, user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chat that is remembered waits for whatever holds the memories of its user, while its person waits for the answer."""
    with stores.tables.transaction(user_id) as connection:
        lock_memories(connection, user_id)
        monkeypatch.setattr("lpm_kernel.stores.memories.LOCK_TIMEOUT_S", 0.05)
        with pytest.raises(StoreError) as caught:
            postgres.add_batch(user_id, [make_memory_of(user_id, "red cat")])
    assert (caught.value.code, caught.value.retryable) == ("tables_locked", True)
    assert len(postgres.add_batch(user_id, [make_memory_of(user_id, "red cat")])) == 1


def test_what_postgres_refuses_of_mem0_is_an_error_without_the_text(
    postgres: Mem0Memories, user_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Mem0's store logs every error with its traceback."""
    nobody = f"{user_id[:40]}-nobody"
    with pytest.raises(StoreError) as caught:
        postgres.add_batch(nobody, [make_memory_of(nobody, "my bank card is 1234")])
    assert (caught.value.code, caught.value.retryable) == ("tables_refused", False)
    assert "1234" not in str(caught.value) + caplog.text


def test_a_payload_in_the_name_of_another_user_is_refused_by_the_table(stores: Stores, new_user: Callable[[], str]) -> None:
    """Mem0 filters by the payload and the fence by the column: a row where they differ would be nobody's."""
    one, two = new_user(), new_user()
    payload = to_payload(make_memory_of(one, "red cat"), "fake/64/l2")
    with pytest.raises(StoreError) as caught, stores.tables.transaction(two) as connection:
        connection.execute(
            text("insert into memory (id, vector, payload) values (gen_random_uuid(), '[1]', cast(:payload as jsonb))"),
            {"payload": json.dumps(payload)},
        )
    assert "check constraint" in caught.value.message


def test_mem0s_own_class_reads_what_was_written(postgres: Mem0Memories, user_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collection is Mem0's: another program with the stock package finds the same memories."""
    memory = make_memory_of(user_id, "red cat")
    postgres.add_batch(user_id, [memory])
    prepare_mem0()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mem0 import Memory as StockMemory
    stock = object.__new__(StockMemory)  # its constructor opens a language model and a history file
    with postgres._transaction(user_id):
        stock.vector_store = postgres._store
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


@pytest.fixture
def platform() -> Iterator[Mem0Platform]:
    with Mem0Platform() as platform:
        yield platform


@pytest.fixture
def cloud(platform: Mem0Platform, stores: Stores) -> Iterator[Mem0CloudMemories]:
    memories = Mem0CloudMemories("m0-key", FakeEmbedder(), stores.tables, host=platform.host, event_wait_s=0.001)
    yield memories
    memories.close()


def test_the_platform_is_never_asked_to_rewrite_what_was_said(
    cloud: Mem0CloudMemories, platform: Mem0Platform, user_id: str
) -> None:
    cloud.add_batch(user_id, [make_memory_of(user_id, "I  moved\nto Porto"), make_memory_of(user_id, "red cat")])
    added = [body for method, path, body in platform.requests if path == "/v3/memories/add/"]
    assert [(body["infer"], body["messages"][0]["content"]) for body in added] == [
        (False, "I  moved\nto Porto"),
        (False, "red cat"),
    ]


def test_the_platform_is_told_which_transaction_wrote_and_gives_the_memory_back_as_it_was(
    cloud: Mem0CloudMemories, platform: Mem0Platform, user_id: str
) -> None:
    red = make_memory_of(user_id, "red cat")
    with within_request(RequestContext("asked-1", frozenset({user_id}))):
        cloud.add_batch(user_id, [red])
    assert cloud.every(user_id) == [red]
    with within_request(RequestContext("asked-2", frozenset({user_id}))):
        cloud.add_batch(user_id, [red])
        assert [row["metadata"]["transaction_id"] for row in platform.rows.values()] == ["asked-1"], "it was not written again"
        blue = cloud.correct(user_id, red.memory_id, "blue cat", by="ada", at=LATER)
    assert [memory.memory_id for memory in cloud.history(user_id, red.memory_id)] == [red.memory_id, blue.memory_id]
    assert [row["metadata"]["transaction_id"] for row in platform.rows.values()] == ["asked-2"] * 2


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (500, "memories_unavailable", True),
        (429, "memories_unavailable", True),
        (401, "memories_refused", False),
        (400, "memories_refused", False),
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["first call", "later call"])
def test_an_answer_that_is_no_success_says_whether_a_retry_can_help(
    cloud: Mem0CloudMemories, platform: Mem0Platform, user_id: str, status: int, code: str, retryable: bool, first: bool
) -> None:
    """At its first call the client tells an outage as a wrong key."""
    if not first:
        assert cloud.current(user_id, as_of=NOON) == []
    platform.failing = status
    with pytest.raises(StoreError) as caught:
        cloud.add_batch(user_id, [make_memory_of(user_id, "my bank card is 1234")])
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert "1234" not in str(caught.value)


def test_a_platform_that_is_not_there_may_be_asked_again_later(stores: Stores, user_id: str, free_port: int) -> None:
    gone = Mem0CloudMemories("m0-key", FakeEmbedder(), stores.tables, host=f"http://127.0.0.1:{free_port}")
    with pytest.raises(StoreError) as caught:
        gone.search(user_id, "cat", 1, as_of=NOON)
    assert (caught.value.code, caught.value.retryable) == ("memories_unavailable", True)


def test_a_platform_that_hangs_is_waited_for_no_longer_than_a_person_would(
    stores: Stores, user_id: str, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mem0's client waits for five minutes."""
    monkeypatch.setattr("lpm_kernel.stores.mem0_client.ANSWER_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", free_port)):
        slow = Mem0CloudMemories("m0-key", FakeEmbedder(), stores.tables, host=f"http://127.0.0.1:{free_port}")
        with pytest.raises(StoreError) as caught:
            slow.search(user_id, "cat", 1, as_of=NOON)
    assert (caught.value.code, caught.value.retryable) == ("memories_unavailable", True)


def test_a_memory_that_the_platform_failed_to_write_is_an_error(
    cloud: Mem0CloudMemories, platform: Mem0Platform, user_id: str
) -> None:
    """What is added is queued: an answer of 200 says nothing yet."""
    platform.event_status = "FAILED"
    with pytest.raises(StoreError) as caught:
        cloud.add_batch(user_id, [make_memory_of(user_id, "red cat")])
    assert caught.value.code == "memory_not_written"


def test_a_row_of_another_user_in_the_platforms_answer_is_refused(
    cloud: Mem0CloudMemories, platform: Mem0Platform, user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.add_batch(user_id, [make_memory_of(user_id, "red cat")])
    for row in platform.rows.values():
        monkeypatch.setitem(row, "user_id", "another")
    monkeypatch.setattr(platform, "_visible", lambda body: list(platform.rows.values()))
    for read in (lambda: cloud.current(user_id, as_of=NOON), lambda: cloud.search(user_id, "cat", 1, as_of=NOON)):
        with pytest.raises(StoreError) as caught:
            read()
        assert caught.value.code == "foreign_memory"


def test_a_row_that_another_program_wrote_is_none_of_ours(
    cloud: Mem0CloudMemories, platform: Mem0Platform, user_id: str
) -> None:
    platform.rows["x"] = {"id": "x", "memory": "red cat", "user_id": user_id, "metadata": None, "expiration_date": None}
    assert cloud.current(user_id, as_of=NOON) == []
    assert cloud.search(user_id, "red cat", 5, as_of=NOON) == []
    assert cloud.delete_all(user_id) == 0
