"""Two users with different memories in every store: the second can reach nothing of the first, by any door."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from lpm_kernel.artefacts import decode_records, encode_records, read_previous
from lpm_kernel.dao.ballot_draft import BallotDraft
from lpm_kernel.errors import RetrievalError, StoreError, UserInputError
from lpm_kernel.L0.embed import chunk_texts, embed_chunks, generation_of, vector_entries
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.L0.library import chunk_documents, fetch_texts, read_documents
from lpm_kernel.L2.golden import load_golden
from lpm_kernel.layout import asset_key, gguf_key, golden_key, lora_key, tenant_prefix
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.records import Chunk, Evidence, User
from lpm_kernel.stores.ballot_drafts import keep_drafts, list_drafts
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.calibration import list_pairs, put_pairs
from lpm_kernel.stores.changes import put_change
from lpm_kernel.stores.conversations import append_message, find_message, last_messages, list_messages, list_sessions
from lpm_kernel.stores.dao_consent import Consent, set_consent
from lpm_kernel.stores.dao_plans import PgPlans
from lpm_kernel.stores.dao_twin_turns import take_turn
from lpm_kernel.stores.dao_words import keep_words
from lpm_kernel.stores.dead_letters import put_dead_letter
from lpm_kernel.stores.deletions import begin_deletion, end_deletion, find_deletion
from lpm_kernel.stores.documents import list_documents, list_waiting, pending_change, put_document
from lpm_kernel.stores.feedback import keep_feedback, list_rated
from lpm_kernel.stores.memory_writes import list_memory_writes, put_memory_write
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import list_releases, live_release, promote_release
from lpm_kernel.stores.session_summaries import mark_summed
from lpm_kernel.stores.users import add_user, find_user
from tests.fakes import no_progress
from tests.samples import (
    NOON,
    hold_fence,
    make_document,
    make_letter,
    make_memory_of,
    make_message,
    make_pair,
    make_plan,
    make_release,
)
from tests.social.said import say_something

ONE, TWO = "isolation-one", "isolation-two"
SECRET = "Pilchard"
NOTES = {
    ONE: b"# Secrets\n\nMy one-eyed cat is called Pilchard and my bank card ends in 4711.\n",
    TWO: b"# Cycling\n\nMy racing bicycle is called Kestrel and it is red.\n",
}


@dataclass(frozen=True, slots=True)
class World:
    stores: Stores
    keys_of_one: tuple[str, ...]
    generations: dict[str, str]
    """Of each user's memory."""


@pytest.fixture(scope="module")
def world(stores: Stores) -> World:
    """Both users have been through everything that writes: upload, reading, search store, artefacts, chat, release."""
    generations = {}
    for user_id, note in NOTES.items():
        result = receive_document(stores.tables, stores.blobs, stores.settings.limits, user_id, "notes.md", note)
        assert result.status == "stored"
        documents, _ = read_documents(stores.tables, stores.blobs, stores.settings.limits, user_id, no_progress)
        chunks, _ = chunk_documents(documents, stores.blobs, stores.settings.chunking, [])
        items = chunk_texts(chunks, fetch_texts(chunks, stores.blobs))
        table, _ = embed_chunks(items, stores.embedder, None, no_progress)
        generations[user_id] = generation_of(table)
        stores.vectors.sync(user_id, generations[user_id], vector_entries(items, table), table.fingerprint)
        blobs = TenantBlobs(stores.blobs, user_id)
        blobs.put(asset_key(user_id, "chunks", "jsonl"), encode_records(chunks))
        blobs.put(golden_key(user_id), b"questions: []")
        for key in (lora_key, gguf_key):
            blobs.put(key(user_id, "a" * 64), note)
        with stores.tables.transaction(user_id) as connection:
            add_user(connection, User(user_id, f"Name of {user_id}"))
            append_message(connection, make_message(user_id, 1, note.decode()))
            put_memory_write(connection, make_message(user_id, 1, note.decode()), 1)
            put_change(
                connection,
                user_id,
                "memories",
                "correct_memory",
                {"memory_id": "m", "words_sha256": "0", "by": "user"},
                at=NOON,
                words=note.decode(),
            )
            hold_fence(connection, user_id)
            keep_drafts(connection, make_message(user_id, 1), [BallotDraft("P-1", "for", note.decode())])
            append_message(connection, make_message(user_id, 0, "What do you keep to yourself?", "rated"))
            append_message(connection, make_message(user_id, 2, note.decode(), "rated", sender="twin"))
            keep_feedback(connection, user_id, "m2", truth=1, edited=note.decode(), created_at=NOON)
            promote_release(connection, make_release(user_id))
            put_dead_letter(connection, make_letter(user_id))
            begin_deletion(connection, user_id, NOON)
            end_deletion(connection, user_id, NOON)  # of somebody who had this id before
            put_pairs(connection, user_id, [make_pair(f"pair-of-{user_id}", note.decode())])
            mark_summed(connection, user_id, "s", 1, NOON)
            keep_words(connection, user_id, note.decode())
            set_consent(connection, Consent(user_id), NOON)
            say_something(connection, user_id, note.decode())
            take_turn(connection, user_id, "P-1", "basis", NOON, NOON)
        plan, started, line = make_plan(user_id, note.decode())
        plans = PgPlans(stores.tables)
        plans.begin(plan, started)
        plans.keep_lines(user_id, plan.plan_id, user_id, [line])
        stores.memories.add_batch(user_id, [make_memory_of(user_id, note.decode())])
    receive_document(stores.tables, stores.blobs, stores.settings.limits, ONE, "more.md", b"Pilchard again, still to be read.")
    return World(stores, tuple(stores.blobs.list_keys(tenant_prefix(ONE))), generations)


def recall(world: World, user_id: str, question: str, generation: str, lines: int | None = None) -> list[Evidence]:
    stores = world.stores
    return recall_evidence(user_id, generation, question, stores.vectors, stores.embedder, stores.settings.recall, lines=lines)


def fenced_tables(connection: Connection) -> list[str]:
    found = connection.execute(
        text("select table_name from information_schema.columns where table_schema = 'public' and column_name = 'user_id'")
    )
    return sorted(found.scalars())


def test_the_first_user_has_something_in_every_store(world: World) -> None:
    """Else the tests below would prove nothing."""
    kinds = {key.removeprefix(tenant_prefix(ONE)).split("/")[0] for key in world.keys_of_one}
    assert kinds == {"raw", "text", "assets", "lora", "golden.yaml"}
    with world.stores.tables.transaction(ONE) as connection:
        for table in fenced_tables(connection):
            assert connection.execute(text(f"select count(*) from {table}")).scalar_one() >= 1, table
    assert SECRET in str(recall(world, ONE, "cat", world.generations[ONE]))


def test_no_row_of_any_table_speaks_of_another_user(world: World) -> None:
    with world.stores.tables.transaction(TWO) as connection:
        for table in fenced_tables(connection):
            rows = [str(row) for row in connection.execute(text(f"select to_jsonb({table}) from {table}")).scalars()]
            assert rows, table
            assert not any(ONE in row or SECRET in row for row in rows), table


@pytest.mark.parametrize(
    ("query", "nothing"),
    [
        (lambda c: list_documents(c, ONE), []),
        (lambda c: pending_change(c, ONE), None),
        (lambda c: last_messages(c, ONE, "s", 50), []),
        (lambda c: live_release(c, ONE), None),
        (lambda c: list_releases(c, ONE), []),
        (lambda c: find_user(c, ONE), None),
        (lambda c: list_rated(c, ONE), []),
        (lambda c: find_message(c, ONE, "m1"), None),
        (lambda c: list_memory_writes(c, ONE), []),
        (lambda c: list_drafts(c, ONE), []),
        (lambda c: list_sessions(c, ONE, limit=9), []),
        (lambda c: list_messages(c, ONE, "s", limit=9), []),
        (lambda c: find_deletion(c, ONE), None),
        (lambda c: list_pairs(c, ONE), []),
    ],
    ids=[
        *("documents", "pending", "messages", "live release", "releases", "user", "feedback"),
        *("message", "memory writes", "ballot drafts", "sessions", "pages", "deletion", "calibration"),
    ],
)
def test_no_query_with_another_users_id_finds_anything(
    world: World, query: Callable[[Connection], Any], nothing: object
) -> None:
    with world.stores.tables.transaction(ONE) as connection:
        assert query(connection) != nothing
    with world.stores.tables.transaction(TWO) as connection:
        assert query(connection) == nothing


@pytest.mark.parametrize(
    "write",
    [
        lambda c: put_document(c, make_document(ONE)),
        lambda c: append_message(c, make_message(ONE, 3, "planted")),
        lambda c: promote_release(c, make_release(ONE, 2)),
        lambda c: add_user(c, User(ONE, "Mallory")),
    ],
    ids=["document", "message", "release", "user"],
)
def test_nothing_can_be_planted_in_another_users_memory(world: World, write: Callable[[Connection], None]) -> None:
    with pytest.raises(StoreError) as caught, world.stores.tables.transaction(TWO) as connection:
        write(connection)
    assert caught.value.code == "tables_refused"
    with world.stores.tables.transaction(ONE) as connection:
        assert find_user(connection, ONE) == User(ONE, f"Name of {ONE}")
        assert [m.content for m in last_messages(connection, ONE, "s", 9)] == [NOTES[ONE].decode()]
        assert [r.release_id for r in list_releases(connection, ONE)] == ["release-1"]


DOORS: dict[str, Callable[[TenantBlobs, str, Path], object]] = {
    "get": lambda own, key, folder: own.get(key),
    "get_range": lambda own, key, folder: own.get_range(key, 0, 4),
    "get_file": lambda own, key, folder: own.get_file(key, folder / "x"),
    "exists": lambda own, key, folder: own.exists(key),
    "put": lambda own, key, folder: own.put(key, b"planted"),
    "delete": lambda own, key, folder: own.delete(key),
    "get by a detour": lambda own, key, folder: own.get(f"{own.prefix}../{key.removeprefix('tenant/')}"),
}


@pytest.mark.parametrize("door", DOORS)
def test_no_blob_of_another_user_can_be_touched(world: World, door: str, tmp_path: Path) -> None:
    own = TenantBlobs(world.stores.blobs, TWO)
    for key in world.keys_of_one:
        with pytest.raises(StoreError) as caught:
            DOORS[door](own, key, tmp_path)
        assert caught.value.code == "foreign_key"
    assert tuple(world.stores.blobs.list_keys(tenant_prefix(ONE))) == world.keys_of_one
    assert list(tmp_path.iterdir()) == []


def test_a_listing_of_the_own_blobs_names_no_other_user(world: World) -> None:
    own = list(TenantBlobs(world.stores.blobs, TWO).list_keys())
    assert own
    assert not any(ONE in key for key in own)


def test_no_search_finds_another_users_lines(world: World) -> None:
    stores = world.stores
    lines = recall(world, TWO, NOTES[ONE].decode(), world.generations[TWO], lines=50)
    assert lines
    assert not any(SECRET in line.text or "4711" in line.text for line in lines)
    assert stores.vectors.count(TWO) == len(lines)
    for user_id in (TWO, "isolation-nobody"):
        with pytest.raises(RetrievalError):
            recall(world, user_id, "cat", world.generations[ONE])


def test_a_sync_changes_nothing_of_another_user_even_with_their_chunks(world: World, user_id: str) -> None:
    """Chunk ids of two users never meet by themselves; here they are made to."""
    stores = world.stores
    chunks = read_previous(stores.blobs, ONE, "chunks", "jsonl", partial(decode_records, record_type=Chunk)) or []
    items = chunk_texts(chunks, fetch_texts(chunks, stores.blobs))
    table, _ = embed_chunks(items, stores.embedder, None, no_progress)
    generation = world.generations[ONE]
    before = recall(world, ONE, "cat", generation)
    planted = [replace(entry, text="planted") for entry in vector_entries(items, table)]
    for entries in (planted, []):
        stores.vectors.sync(user_id, generation, entries, table.fingerprint)
        stores.vectors.drop_generations(user_id, [generation])
        assert stores.vectors.count(user_id) == len(entries)
        assert recall(world, ONE, "cat", generation) == before


def test_no_artefact_is_taken_for_the_own(world: World) -> None:
    assert read_previous(world.stores.blobs, TWO, "topics", "jsonl", bytes) is None
    previous = read_previous(world.stores.blobs, TWO, "chunks", "jsonl", bytes)
    assert previous is not None
    assert ONE.encode() not in previous
    assert load_golden(world.stores.blobs, "isolation-nobody") is None


def test_nobody_learns_that_another_user_has_the_same_file(world: World) -> None:
    stores = world.stores
    result = receive_document(stores.tables, stores.blobs, stores.settings.limits, "isolation-three", "x.md", NOTES[ONE])
    assert result.status == "stored"


def test_a_user_who_never_came_has_no_documents(world: World) -> None:
    with pytest.raises(UserInputError) as caught:
        read_documents(world.stores.tables, world.stores.blobs, world.stores.settings.limits, "isolation-nobody", no_progress)
    assert caught.value.code == "twin_not_found"


def test_the_sensor_learns_who_waits_and_no_word_of_what(world: World) -> None:
    with world.stores.tables.operator_transaction() as connection:
        waiting = {item.user_id: item.change for item in list_waiting(connection)}
        assert ONE in waiting
        assert TWO not in waiting
        with pytest.raises(Exception, match="permission denied"), connection.begin_nested():
            connection.execute(text("select filename from document"))


def test_no_memory_of_another_user_is_found_changed_or_planted(world: World) -> None:
    memories = world.stores.memories
    [secret] = memories.current(ONE, as_of=NOON)
    assert [hit.memory.user_id for hit in memories.search(TWO, SECRET, 10, as_of=NOON)] == [TWO]
    assert memories.history(TWO, secret.memory_id) == []
    assert memories.delete(TWO, [secret.memory_id]) == 0
    for change in (
        lambda: memories.forget(TWO, secret.memory_id),
        lambda: memories.correct(TWO, secret.memory_id, "planted", by=TWO, at=NOON),
    ):
        with pytest.raises(UserInputError) as caught:
            change()
        assert caught.value.code == "memory_unknown"
    assert {memory.user_id for memory in memories.every(TWO)} == {TWO}
    assert {memory.user_id for memory in memories.page(TWO, as_of=NOON, limit=9)} == {TWO}
    with pytest.raises(UserInputError):
        memories.add_batch(TWO, [make_memory_of(ONE, "planted")])
    assert memories.current(ONE, as_of=NOON) == [secret]
