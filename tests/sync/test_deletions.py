"""Deletions and corrections on their way: what a store could not take at once the worker brings to it, and nobody need ask."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lpm_kernel.corrections import correct_memory, forget_memory
from lpm_kernel.erase import delete_user
from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.forget import delete_document
from lpm_kernel.layout import document_keys
from lpm_kernel.records import Memory, sha256_hex
from lpm_kernel.request_context import RequestContext, within_request
from lpm_kernel.stores.changes import list_of_transaction, list_undone
from lpm_kernel.stores.conversations import append_message
from lpm_kernel.stores.dead_letters import list_dead_letters
from lpm_kernel.stores.deletions import find_deletion
from lpm_kernel.stores.memories import make_memory
from lpm_kernel.stores.memory_writes import put_memory_write
from lpm_kernel.stores.open import Stores
from lpm_kernel.sync.worker import work_changes_of
from tests.forgetful_twin import BOAT, CAT, Twin
from tests.samples import NOON, make_message

CAT_SHA256 = sha256_hex(CAT.encode())


class Away:
    """A store of which these calls fail as long as it is away."""

    def __init__(self, store: Any, *calls: str) -> None:
        self._store, self._calls, self.away = store, calls, True

    def __getattr__(self, name: str) -> Any:
        if self.away and name in self._calls:
            raise StoreError("told_to", "the store did not answer: told to")
        return getattr(self._store, name)


@pytest.fixture
def twin(stores: Stores, user_id: str, tmp_path: Path) -> Twin:
    made = Twin(stores, user_id, tmp_path / "adapters")
    made.send("cats.md", CAT)
    made.send("boat.txt", BOAT)
    made.build()
    return made


def go_on(stores: Stores, user_id: str) -> int:
    """As the worker would, when everything that waits has its time."""
    later = datetime.now(UTC) + timedelta(hours=1)
    return work_changes_of(stores, user_id, lambda: later)


def steps_left(stores: Stores, user_id: str) -> list[str]:
    with stores.tables.transaction(user_id) as connection:
        return [change.step for change in list_undone(connection, user_id)]


@pytest.mark.parametrize(
    ("port", "call"), [("vectors", "forget_documents"), ("memories", "every"), ("graph", "list_facts"), ("blobs", "delete")]
)
def test_a_store_that_is_away_keeps_no_other_from_forgetting_and_forgets_when_it_is_back(
    twin: Twin, port: str, call: str
) -> None:
    """The deletion stopped at the first store that failed, and went on when somebody asked again."""
    broken = replace(twin.stores, **{port: Away(getattr(twin.stores, port), call)})
    with pytest.raises(StoreError, match="told_to"):
        delete_document(broken, twin.user_id, "cats.md", twin.adapters)
    assert steps_left(twin.stores, twin.user_id) == [f"{port}/delete_documents"]
    assert go_on(twin.stores, twin.user_id) == 1
    assert steps_left(twin.stores, twin.user_id) == []
    assert not any(twin.own.exists(key) for key in document_keys(twin.user_id, CAT_SHA256))
    assert not [memory for memory in twin.stores.memories.every(twin.user_id) if (memory.citation or "").startswith(CAT_SHA256)]


def test_one_deletion_is_one_transaction_by_its_requests_id(twin: Twin) -> None:
    with within_request(RequestContext("asked-17", frozenset({twin.user_id}))):
        delete_document(twin.stores, twin.user_id, "cats.md", twin.adapters)
    with twin.stores.tables.transaction(twin.user_id) as connection:
        changes = list_of_transaction(connection, twin.user_id, "asked-17")
    assert {change.target for change in changes} == {"blobs", "vectors", "memories", "graph"}
    assert all(change.done_at for change in changes)
    assert all(set(change.reference) <= {"sha256s"} for change in changes), "hashes, and no name of a file"


def test_a_document_that_was_sent_again_meanwhile_is_not_deleted_by_what_still_waited(twin: Twin) -> None:
    broken = replace(twin.stores, vectors=Away(twin.stores.vectors, "forget_documents"))
    with pytest.raises(StoreError):
        delete_document(broken, twin.user_id, "cats.md", twin.adapters)
    twin.send("cats.md", CAT)
    twin.build()
    go_on(twin.stores, twin.user_id)
    assert twin.shown("What is your cat called?") >= {"cats.md"}


def test_the_last_document_is_forgotten_with_all_that_was_made_when_the_store_is_back(twin: Twin) -> None:
    delete_document(twin.stores, twin.user_id, "cats.md", twin.adapters)
    broken = replace(twin.stores, blobs=Away(twin.stores.blobs, "delete"))
    with pytest.raises(StoreError):
        delete_document(broken, twin.user_id, "boat.txt", twin.adapters)
    assert steps_left(twin.stores, twin.user_id) == ["blobs/delete_documents", "blobs/delete_derived"]
    go_on(twin.stores, twin.user_id)
    assert list(twin.own.list_keys()) == []


@pytest.mark.parametrize(
    ("port", "call"), [("graph", "delete_user"), ("memories", "delete_all"), ("vectors", "delete_user"), ("blobs", "delete")]
)
def test_a_person_is_gone_when_the_store_that_was_away_is_back_whoever_asks(twin: Twin, port: str, call: str) -> None:
    broken = replace(twin.stores, **{port: Away(getattr(twin.stores, port), call)})
    with pytest.raises(StoreError, match="deletion_incomplete"):
        delete_user(broken, twin.user_id, twin.adapters)
    assert steps_left(twin.stores, twin.user_id) == [f"{port}/delete_user"]
    go_on(twin.stores, twin.user_id)
    with twin.stores.tables.transaction(twin.user_id) as connection:
        found = find_deletion(connection, twin.user_id)
        assert found is not None
        assert found.done_at is not None
    assert list(twin.own.list_keys()) == []
    assert not delete_user(twin.stores, twin.user_id, twin.adapters).existed


def test_what_somebody_said_is_not_remembered_of_them_once_they_go(twin: Twin) -> None:
    message = make_message(twin.user_id, 1, "I moved to Porto in May.")
    with twin.stores.tables.transaction(twin.user_id) as connection:
        append_message(connection, message)
        put_memory_write(connection, message, 1)
    broken = replace(twin.stores, graph=Away(twin.stores.graph, "delete_user"))
    with pytest.raises(StoreError, match="deletion_incomplete"):
        delete_user(broken, twin.user_id, twin.adapters)
    assert steps_left(twin.stores, twin.user_id) == ["graph/delete_user"]
    assert twin.stores.memories.every(twin.user_id) == []


def remembered(stores: Stores, user_id: str, words: str = "My cat is red.") -> Memory:
    memory = make_memory(user_id, "turn", words, domain="chat", source="chat", importance=0.5, created_at=NOON)
    stores.memories.add_batch(user_id, [memory])
    return memory


def words_of(stores: Stores, user_id: str) -> list[str]:
    return [memory.text for memory in stores.memories.current(user_id, as_of=datetime.now(UTC) + timedelta(hours=2))]


def test_a_correction_that_memory_could_not_take_holds_when_it_is_back(stores: Stores, user_id: str) -> None:
    old = remembered(stores, user_id)
    broken = replace(stores, memories=Away(stores.memories, "correct"))
    with pytest.raises(StoreError, match="told_to"):
        correct_memory(broken, user_id, old.memory_id, "My cat is grey.", by="ada")
    assert words_of(stores, user_id) == ["My cat is red."]
    go_on(stores, user_id)
    assert words_of(stores, user_id) == ["My cat is grey."]
    assert steps_left(stores, user_id) == []


def test_a_correction_that_was_made_and_not_marked_is_made_once(stores: Stores, user_id: str) -> None:
    old = remembered(stores, user_id)

    class Lost(Away):
        def correct(self, *arguments: Any, **named: Any) -> Memory:
            self._store.correct(*arguments, **named)
            raise StoreError("told_to", "the answer was lost: told to")

    with pytest.raises(StoreError):
        correct_memory(replace(stores, memories=Lost(stores.memories)), user_id, old.memory_id, "My cat is grey.", by="ada")  # type: ignore[arg-type]
    go_on(stores, user_id)
    assert words_of(stores, user_id) == ["My cat is grey."]
    assert len(stores.memories.every(user_id)) == 2


def test_what_is_forgotten_is_forgotten_when_memory_is_back(stores: Stores, user_id: str) -> None:
    old = remembered(stores, user_id)
    broken = replace(stores, memories=Away(stores.memories, "forget"))
    with pytest.raises(StoreError, match="told_to"):
        forget_memory(broken, user_id, old.memory_id)
    go_on(stores, user_id)
    assert words_of(stores, user_id) == []


def test_a_wrong_wish_is_refused_and_leaves_nothing_to_do(stores: Stores, user_id: str) -> None:
    unknown = remembered(stores, user_id).memory_id[:-4] + "0000"
    for ask in (
        lambda: forget_memory(stores, user_id, unknown),
        lambda: correct_memory(stores, user_id, unknown, "My cat is grey.", by="ada"),
        lambda: forget_memory(stores, user_id, "no id at all"),
    ):
        with pytest.raises(UserInputError, match="memory_unknown"):
            ask()
    with stores.tables.transaction(user_id) as connection:
        assert (list_undone(connection, user_id), list_dead_letters(connection, user_id)) == ([], [])
