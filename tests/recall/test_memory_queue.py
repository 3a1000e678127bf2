"""What a person said comes into memory after the turn: once, whatever fails in between, and what cannot says why."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from lpm_kernel.errors import LlmError, StoreError
from lpm_kernel.L0.embed import embed_chunks, generation_of, vector_entries
from lpm_kernel.recall.memory_queue import write_memories_of
from lpm_kernel.records import ChatMessage, Memory
from lpm_kernel.request_context import RequestContext, request_id, within_request
from lpm_kernel.stores.changes import claim_change, users_with_due_changes
from lpm_kernel.stores.conversations import append_message
from lpm_kernel.stores.dead_letters import list_dead_letters
from lpm_kernel.stores.memory_writes import MemoryWrite, list_memory_writes, put_memory_write
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import promote_release
from lpm_kernel.sync.retry import LEASE_S
from lpm_kernel.sync.worker import work_due_changes
from tests.fakes import FailingTables, no_progress
from tests.samples import NOON, make_items, make_release

NOTE = "My cat is called Pilchard."
LATER = NOON + timedelta(days=1)


def at(when: datetime) -> Callable[[], datetime]:
    return lambda: when


def say(stores: Stores, user_id: str, words: str, number: int = 1, sender: str = "user") -> ChatMessage:
    message = ChatMessage(f"m{number}", user_id, "s", sender, NOON + timedelta(seconds=number), words)  # type: ignore[arg-type]
    with stores.tables.transaction(user_id) as connection:
        append_message(connection, message)
        if sender == "user":
            put_memory_write(connection, message, number)
    return message


def waiting(stores: Stores, user_id: str) -> list[MemoryWrite]:
    with stores.tables.transaction(user_id) as connection:
        return list_memory_writes(connection, user_id)


def held(stores: Stores, user_id: str) -> list[Memory]:
    return stores.memories.current(user_id, as_of=LATER)


class FailingMemories:
    """Fails as often as told, and then does what the real ones do."""

    def __init__(self, stores: Stores, error: Exception, times: int) -> None:
        self._real, self._error, self.left = stores.memories, error, times

    def add_batch(self, *arguments, **named):
        if self.left:
            self.left -= 1
            raise self._error
        return self._real.add_batch(*arguments, **named)


def failing(stores: Stores, error: Exception, times: int = 1) -> Stores:
    return replace(stores, memories=FailingMemories(stores, error, times))  # type: ignore[arg-type]


def test_what_is_written_later_names_the_request_that_it_came_with(stores: Stores, user_id: str) -> None:
    """The id ended at the queue: what the worker wrote, and why it could not, belonged to no request."""
    named: list[tuple[str | None, str]] = []

    class Asking(FailingMemories):
        def add_batch(self, *arguments, **told):
            with stores.tables.transaction(user_id) as connection:
                shown = connection.execute(text("select current_setting('app.request_id', true)")).scalar_one()
            named.append((request_id(), shown))
            return super().add_batch(*arguments, **told)

    failing_once = replace(stores, memories=Asking(stores, StoreError("tables_unavailable", "told to"), 1))  # type: ignore[arg-type]
    with within_request(RequestContext("asked-17", frozenset({user_id}))):
        say(stores, user_id, "I never eat meat, it makes me ill.")
    say(stores, user_id, "My dentist is in the High Street.", 2)
    assert write_memories_of(failing_once, user_id, at(LATER)) == 1, "the second is not written before the first"
    assert write_memories_of(failing_once, user_id, at(LATER + timedelta(days=1))) == 2
    assert named[:2] == [("asked-17", "asked-17")] * 2
    [(asked_by, shown)] = {pair for pair in named if pair[0] != "asked-17"}
    assert asked_by, "what came without a request has a transaction of its own"
    assert asked_by == shown
    assert request_id() is None


def test_what_was_said_is_written_with_its_preferences_and_leaves_the_queue(stores: Stores, user_id: str) -> None:
    say(stores, user_id, "I never eat meat, it makes me ill.")
    say(stores, user_id, "Good to know.", 2, "twin")
    assert write_memories_of(stores, user_id, at(LATER)) == 1
    assert sorted((memory.kind, memory.text) for memory in held(stores, user_id)) == [
        ("preference", "I never eat meat, it makes me ill."),
        ("turn", "I never eat meat, it makes me ill."),
    ]
    [turn] = [memory for memory in held(stores, user_id) if memory.kind == "turn"]
    assert turn.importance == 0.5
    assert turn.expiration_date == (NOON + timedelta(days=stores.settings.gate.turn_days)).date()
    assert waiting(stores, user_id) == []


def test_a_write_is_stored_with_its_message_or_not_at_all(stores: Stores, user_id: str) -> None:
    message = ChatMessage("m1", user_id, "s", "user", NOON, "I moved to Porto.")

    def lost() -> None:
        with FailingTables(stores.tables, before=False).transaction(user_id) as connection:
            append_message(connection, message)
            put_memory_write(connection, message, 1)

    with pytest.raises(StoreError):
        lost()
    assert waiting(stores, user_id) == []


def test_everybodys_writes_are_found_though_nobody_may_read_them_all(stores: Stores, new_user: Callable[[], str]) -> None:
    users = [new_user() for _ in range(3)]
    for user_id in users:
        say(stores, user_id, f"I moved to Porto in May, says {user_id}.")
    with stores.tables.operator_transaction() as connection:
        assert set(users) <= set(users_with_due_changes(connection, LATER, 1000))
        assert not set(users) & set(users_with_due_changes(connection, NOON, 1000)), "none is due before it was said"
        with pytest.raises(Exception, match="permission denied"), connection.begin_nested():
            connection.execute(text("select reference from change"))
    assert work_due_changes(stores, at(LATER), targets=("memories",)) >= 3
    assert all(held(stores, user_id) for user_id in users)
    assert work_due_changes(stores, at(LATER), targets=("memories",)) == 0


def test_a_store_that_fails_is_tried_again_later_each_time_twice_as_long(stores: Stores, user_id: str) -> None:
    say(stores, user_id, "I moved to Porto in May.")
    away = failing(stores, StoreError("memories_unavailable", "Mem0 did not answer"), 2)
    write_memories_of(away, user_id, at(LATER))
    [write] = waiting(stores, user_id)
    assert (write.state, write.attempts, write.code, write.reason) == (
        *("waiting", 1, "memories_unavailable"),
        "Mem0 did not answer",
    )
    delay_s = stores.settings.changes.delay_s
    first_s = (write.due_at - LATER).total_seconds()
    assert 0.8 * delay_s <= first_s <= 1.2 * delay_s
    assert write_memories_of(away, user_id, at(LATER)) == 0, "not before it is due"
    write_memories_of(away, user_id, at(write.due_at))
    [write] = waiting(stores, user_id)
    assert 1.6 * delay_s <= (write.due_at - LATER).total_seconds() - first_s <= 2.4 * delay_s
    write_memories_of(away, user_id, at(write.due_at))
    assert [memory.text for memory in held(stores, user_id)] == ["I moved to Porto in May."]
    assert waiting(stores, user_id) == []


def test_what_fails_for_good_or_too_often_stays_and_says_why(stores: Stores, user_id: str) -> None:
    say(stores, user_id, "I moved to Porto in May.")
    write_memories_of(failing(stores, LlmError("embedder_unknown", "no such model", retryable=False)), user_id, at(LATER))
    [write] = waiting(stores, user_id)
    assert (write.state, write.attempts, write.code) == ("failed", 1, "embedder_unknown")
    say(stores, user_id, "I moved to Lisbon in June.", 2)
    away = failing(stores, OSError("told to"), 10**6)
    when = LATER
    for _ in range(stores.settings.changes.attempts):
        assert write_memories_of(away, user_id, at(when)) == 1
        when += timedelta(hours=1)
    assert write_memories_of(stores, user_id, at(when)) == 0
    [_, last] = waiting(stores, user_id)
    assert (last.state, last.attempts, last.code) == ("failed", stores.settings.changes.attempts, "internal")
    assert "told to" not in (last.reason or ""), "what nobody foresaw may hold anything"
    with stores.tables.transaction(user_id) as connection:
        letters = list_dead_letters(connection, user_id)
    assert {(letter.stage, letter.code) for letter in letters} == {
        ("memories/remember_message", "embedder_unknown"),
        ("memories/remember_message", "internal"),
    }
    assert held(stores, user_id) == []


def test_a_process_that_died_in_the_middle_has_lost_nothing_and_a_message_that_kills_is_given_up(
    stores: Stores, user_id: str
) -> None:
    say(stores, user_id, "I moved to Porto in May.")
    when = LATER
    with stores.tables.transaction(user_id) as connection:
        assert claim_change(connection, user_id, "memories", when, LEASE_S) is not None
    assert write_memories_of(stores, user_id, at(when)) == 0, "somebody has it"
    when += timedelta(seconds=LEASE_S)
    assert write_memories_of(stores, user_id, at(when)) == 1
    assert len(held(stores, user_id)) == 1
    say(stores, user_id, "I moved to Lisbon in June.", 2)
    for _ in range(stores.settings.changes.attempts):
        with stores.tables.transaction(user_id) as connection:
            assert claim_change(connection, user_id, "memories", when, LEASE_S) is not None
        when += timedelta(seconds=LEASE_S)
    write_memories_of(stores, user_id, at(when))
    [write] = waiting(stores, user_id)
    assert (write.state, write.code) == ("failed", "change_lost")


def test_a_write_that_was_done_but_not_taken_off_is_done_again_to_no_effect(stores: Stores, user_id: str) -> None:
    message = say(stores, user_id, "I never eat meat, it makes me ill.")
    write_memories_of(stores, user_id, at(LATER))
    before = held(stores, user_id)
    with stores.tables.transaction(user_id) as connection:
        put_memory_write(connection, message, 1)
    assert write_memories_of(stores, user_id, at(LATER)) == 1
    assert held(stores, user_id) == before


def test_two_workers_never_take_the_same_write(stores: Stores, user_id: str) -> None:
    for number in range(1, 9):
        say(stores, user_id, f"In year {1990 + number} I moved to house {number}.", number)
    together = threading.Barrier(2)

    def work() -> int:
        together.wait()
        return write_memories_of(stores, user_id, at(LATER))

    with ThreadPoolExecutor(2) as pool:
        assert sum(done.result() for done in [pool.submit(work) for _ in range(2)]) == 8
    assert len([memory for memory in held(stores, user_id) if memory.kind == "turn"]) == 8


def test_an_echo_of_the_notes_or_of_the_twin_is_no_memory(stores: Stores, user_id: str) -> None:
    items = make_items(user_id, {"cats.md": NOTE})
    table, _ = embed_chunks(items, stores.embedder, None, no_progress)
    stores.vectors.sync(user_id, generation_of(table), vector_entries(items, table), table.fingerprint)
    made = replace(
        make_release(user_id), memory_generation=generation_of(table), embedding_fingerprint=stores.embedder.fingerprint
    )
    with stores.tables.transaction(user_id) as connection:
        promote_release(connection, made)
    say(stores, user_id, "You sail every Sunday.", 1, "twin")
    say(stores, user_id, "You sail every Sunday.", 2)
    say(stores, user_id, NOTE, 3)
    say(stores, user_id, "I bake bread on Fridays.", 4)
    write_memories_of(stores, user_id, at(LATER))
    assert {memory.text for memory in held(stores, user_id)} == {"I bake bread on Fridays."}
    assert waiting(stores, user_id) == []


def test_notes_that_cannot_be_asked_put_the_write_off(stores: Stores, user_id: str) -> None:
    with stores.tables.transaction(user_id) as connection:
        promote_release(connection, replace(make_release(user_id), embedding_fingerprint=stores.embedder.fingerprint))
    say(stores, user_id, "I moved to Porto in May.")

    class Gone:
        def search(self, *_: object, **__: object) -> list[object]:
            raise StoreError("vectors_unavailable", "told to")

    write_memories_of(replace(stores, vectors=Gone()), user_id, at(LATER))  # type: ignore[arg-type]
    [write] = waiting(stores, user_id)
    assert (write.state, write.code) == ("waiting", "vectors_unavailable")
    write_memories_of(stores, user_id, at(LATER + timedelta(hours=1)))
    assert len(held(stores, user_id)) == 1, "a memory without a chunk is an empty one, and no failure"


def test_a_message_that_is_deleted_takes_its_write_along(stores: Stores, user_id: str) -> None:
    say(stores, user_id, "I moved to Porto in May.")
    with stores.tables.transaction(user_id) as connection:
        connection.execute(text("delete from chat_message"))
    assert waiting(stores, user_id) == []


def test_a_worker_that_is_told_to_stop_leaves_the_rest(stores: Stores, user_id: str) -> None:
    say(stores, user_id, "I moved to Porto in May.")
    assert write_memories_of(stores, user_id, lambda: datetime.now(UTC), stopped=lambda: True) == 0
    assert len(waiting(stores, user_id)) == 1
