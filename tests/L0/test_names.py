"""Names and contents: which bytes a name stands for, from upload to upload and from pass to pass."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis
import pytest
from hypothesis import strategies as st

from lpm_kernel.L0.intake import receive_document
from lpm_kernel.L0.library import chunk_documents, read_documents
from lpm_kernel.records import Document
from lpm_kernel.settings import ChunkingSettings
from lpm_kernel.stores.documents import list_documents, pending_change
from lpm_kernel.stores.open import Stores
from tests.fakes import no_progress

UNREADABLE = b"\x00\x01\x02"


class Shelf:
    """One user's documents, sent and read in the order of a test."""

    def __init__(self, stores: Stores, user_id: str) -> None:
        self.stores, self.user_id = stores, user_id

    def send(self, filename: str, data: bytes, documents_per_user: int = 100) -> str:
        limits = self.stores.settings.limits.model_copy(update={"documents_per_user": documents_per_user})
        result = receive_document(self.stores.tables, self.stores.blobs, limits, self.user_id, filename, data)
        return result.refusal.code if result.refusal else result.status

    def read(self, documents_per_user: int = 100) -> dict[str, tuple[str, ...]]:
        """Read what waits; the words of each content in the twin, with its names."""
        limits = self.stores.settings.limits.model_copy(update={"documents_per_user": documents_per_user})
        documents, _ = read_documents(self.stores.tables, self.stores.blobs, limits, self.user_id, no_progress)
        return self.contents(documents)

    def contents(self, documents: list[Document]) -> dict[str, tuple[str, ...]]:
        return {self.stores.blobs.get(f"tenant/{self.user_id}/text/{d.sha256}.txt").decode(): d.names for d in documents}

    @property
    def rows(self) -> list[Document]:
        with self.stores.tables.transaction(self.user_id) as connection:
            return list_documents(connection, self.user_id)

    @property
    def waits(self) -> bool:
        with self.stores.tables.transaction(self.user_id) as connection:
            return pending_change(connection, self.user_id) is not None


@pytest.fixture
def shelf(stores: Stores, user_id: str) -> Shelf:
    return Shelf(stores, user_id)


@pytest.mark.parametrize("read_first", [True, False], ids=["read", "not read yet"])
@pytest.mark.parametrize("edited", ["a.md", "b.md"])
def test_of_two_files_with_the_same_bytes_the_other_stays_when_one_is_edited(
    shelf: Shelf, edited: str, read_first: bool
) -> None:
    """The second file was a duplicate and forgotten: when the first was edited, the second left the twin with it."""
    assert [shelf.send(name, b"same words") for name in ("a.md", "b.md")] == ["stored", "duplicate"]
    if read_first:
        assert shelf.read() == {"same words": ("a.md", "b.md")}
    assert shelf.send(edited, b"edited words") == "stored"
    other = "b.md" if edited == "a.md" else "a.md"
    assert shelf.read() == {"same words": (other,), "edited words": (edited,)}
    assert not shelf.waits


def test_chunks_carry_the_name_that_is_left(shelf: Shelf) -> None:
    shelf.send("a.md", b"same words")
    shelf.send("b.md", b"same words")
    shelf.read()
    shelf.send("other.md", b"other words")
    shelf.read()
    shelf.send("a.md", b"other words")
    assert shelf.waits, "a content that has another name is a change to take up"
    documents, _ = read_documents(
        shelf.stores.tables, shelf.stores.blobs, shelf.stores.settings.limits, shelf.user_id, no_progress
    )
    chunks, _ = chunk_documents(documents, shelf.stores.blobs, ChunkingSettings(max_tokens=24), [])
    assert shelf.contents(documents) == {"same words": ("b.md",), "other words": ("other.md", "a.md")}
    assert {chunk.filename for chunk in chunks} == {"b.md", "other.md"}
    assert not shelf.waits


def test_a_content_is_replaced_with_its_last_name(shelf: Shelf) -> None:
    shelf.send("a.md", b"same words")
    shelf.send("b.md", b"same words")
    shelf.send("a.md", b"words of a")
    shelf.send("b.md", b"words of b")
    assert shelf.read() == {"words of a": ("a.md",), "words of b": ("b.md",)}


def test_a_known_files_bytes_under_another_known_name_replace_that_ones_content(shelf: Shelf) -> None:
    """The second file now says what the first says; what it said before is no longer the user's."""
    shelf.send("a.md", b"one")
    shelf.send("b.md", b"two")
    assert shelf.send("b.md", b"one") == "duplicate"
    assert shelf.read() == {"one": ("b.md", "a.md")}
    shelf.send("c.md", b"three")
    shelf.read()
    assert shelf.send("c.md", b"one") == "duplicate"
    assert shelf.waits
    assert shelf.read() == {"one": ("b.md", "a.md", "c.md")}


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_file_that_cannot_be_read_replaces_nothing_however_often_it_is_sent(shelf: Shelf, times: int) -> None:
    """Sent twice before it was read it was a duplicate, and the good content was replaced then and there."""
    shelf.send("a.md", b"the good old words")
    shelf.read()
    for _ in range(times):
        shelf.send("a.md", UNREADABLE)
    assert shelf.read() == {"the good old words": ("a.md",)}


def test_unread_bytes_under_another_name_replace_nothing_before_they_are_read(shelf: Shelf) -> None:
    shelf.send("b.md", b"the good old words")
    shelf.read()
    shelf.send("a.md", UNREADABLE)
    assert shelf.send("b.md", UNREADABLE) == "duplicate"
    assert shelf.read() == {"the good old words": ("b.md",)}


def test_the_last_word_on_each_name_counts_when_nothing_was_read_between(shelf: Shelf) -> None:
    for name, data in (("a.md", b"one"), ("b.md", b"two"), ("a.md", b"three"), ("b.md", b"one")):
        shelf.send(name, data)
    assert shelf.read() == {"three": ("a.md",), "one": ("b.md",)}


def test_a_content_that_is_sent_again_while_its_successor_waits_stays_in_the_twin(shelf: Shelf) -> None:
    """The pass had seen the successor waiting, found it replaced, and still replaced the content before: both were gone."""
    shelf.send("a.md", b"first")
    shelf.read()
    shelf.send("x.md", b"another file")
    shelf.send("a.md", b"second")

    def send_the_first_again(share: float, words: str) -> None:
        if share == 0.5:
            assert shelf.send("a.md", b"first") == "duplicate"

    documents, count = read_documents(
        shelf.stores.tables, shelf.stores.blobs, shelf.stores.settings.limits, shelf.user_id, send_the_first_again
    )
    assert shelf.contents(documents) == {"first": ("a.md",), "another file": ("x.md",)}
    assert (count.read, count.reused) == (1, 1)
    assert shelf.waits
    assert shelf.read() == {"first": ("a.md",), "another file": ("x.md",)}


def test_a_name_given_during_the_pass_is_known_to_it(shelf: Shelf) -> None:
    shelf.send("b.md", b"two")
    shelf.read()
    shelf.send("x.md", b"another file")
    shelf.send("a.md", b"one")

    def name_it_b(share: float, words: str) -> None:
        if share == 0.5:
            assert shelf.send("b.md", b"one") == "duplicate"

    documents, _ = read_documents(
        shelf.stores.tables, shelf.stores.blobs, shelf.stores.settings.limits, shelf.user_id, name_it_b
    )
    assert shelf.contents(documents) == {"one": ("b.md", "a.md"), "another file": ("x.md",)}


def test_two_empty_files_of_one_batch_both_leave_their_reason(shelf: Shelf) -> None:
    """They are the same bytes: of a folder's empty files only the last was on record."""
    assert {shelf.send(name, b"") for name in ("a.md", "b.md", "a.md", "c.txt")} == {"document_empty"}
    (row,) = shelf.rows
    assert (row.names, row.status) == (("c.txt", "a.md", "b.md"), "refused")
    assert row.refusal is not None


def test_a_refused_type_does_not_cover_the_same_bytes_that_are_kept(shelf: Shelf) -> None:
    shelf.send("a.md", b"words")
    assert shelf.send("a.docx", b"words") == "type_unknown"
    assert [(row.names, row.status) for row in shelf.rows] == [(("a.md",), "received")]


def test_bytes_refused_under_one_name_are_taken_in_under_another(shelf: Shelf) -> None:
    assert shelf.send("a.docx", b"words") == "type_unknown"
    assert shelf.send("a.md", b"words") == "stored"
    assert shelf.read() == {"words": ("a.md",)}


def test_a_file_that_leaves_its_twin_behind_needs_room_of_its_own(shelf: Shelf) -> None:
    """A replacement needs no room; here both contents are kept."""
    shelf.send("a.md", b"same words", 1)
    shelf.send("b.md", b"same words", 1)
    assert shelf.send("b.md", b"edited words", 1) == "document_limit"
    assert shelf.send("b.md", b"edited words", 2) == "stored"
    assert shelf.send("a.md", b"the last word on a", 2) == "document_limit"
    assert shelf.read(2) == {"same words": ("a.md",), "edited words": ("b.md",)}
    assert shelf.read(2) == {"the last word on a": ("a.md",), "edited words": ("b.md",)}, "now it replaces one"


NAMES, WORDS = ("a.md", "b.md", "c.md"), ("one", "two", "three")
STEPS = st.lists(st.one_of(st.just("read"), st.tuples(st.sampled_from(NAMES), st.sampled_from(WORDS))), max_size=9)


@hypothesis.settings(max_examples=30, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(steps=STEPS)
def test_every_name_stands_for_the_bytes_that_were_sent_last(
    stores: Stores, new_user: Callable[[], str], steps: list[str | tuple[str, str]]
) -> None:
    shelf = Shelf(stores, new_user())
    shelf.send("kept.md", b"kept")
    wanted = {"kept.md": "kept"}
    for step in [*steps, "read"]:
        if isinstance(step, tuple):
            shelf.send(step[0], step[1].encode())
            wanted[step[0]] = step[1]
        else:
            assert {name: words for words, names in shelf.read().items() for name in names} == wanted
    assert not shelf.waits
