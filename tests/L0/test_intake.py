"""Intake on real stores: what is taken in is never lost, and what is not taken in has a reason."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest

from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.L0.intake import check_filename, receive_document, receive_file
from lpm_kernel.L0.records import UploadResult
from lpm_kernel.layout import raw_key
from lpm_kernel.records import Document, sha256_hex
from lpm_kernel.settings import LimitSettings
from lpm_kernel.stores.blobs import Blobs
from lpm_kernel.stores.documents import list_documents, pending_change
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.tables import Tables
from lpm_kernel.stores.users import find_user
from tests.fakes import FailingTables, MemoryBlobs

LIMITS = LimitSettings(
    documents_per_user=3,
    social_documents_per_user=2,
    document_size_mb=1,
    quarantine_mb=2,
    pdf_seconds=10,
    pdf_memory_mb=1000,
    runs_per_user=1,
    concurrent_runs=1,
)


def receive(
    stores: Stores, user_id: str, filename: str, data: bytes, *, tables: Tables | None = None, blobs: Blobs | None = None
) -> UploadResult:
    return receive_document(tables or stores.tables, blobs or stores.blobs, LIMITS, user_id, filename, data)


def rows_of(stores: Stores, user_id: str) -> list[Document]:
    with stores.tables.transaction(user_id) as connection:
        return list_documents(connection, user_id)


def outcome(result: UploadResult) -> tuple[str, str | None]:
    return result.status, result.refusal.code if result.refusal else None


def test_a_stored_file_has_its_bytes_its_row_and_its_user(stores: Stores) -> None:
    data = "Our cat is called Pilchard. 😀".encode()
    result = receive(stores, "intake-first", "diary.md", data)
    assert result == UploadResult("diary.md", "stored", sha256_hex(data), len(data))
    assert stores.blobs.get(raw_key("intake-first", sha256_hex(data))) == data
    (row,) = rows_of(stores, "intake-first")
    assert (row.sha256, row.filename, row.mime, row.status) == (sha256_hex(data), "diary.md", "text/markdown", "received")
    assert (row.size_bytes, row.source, row.created_by) == (len(data), "upload", "user")
    with stores.tables.transaction("intake-first") as connection:
        assert find_user(connection, "intake-first") is not None
        assert pending_change(connection, "intake-first") is not None


@pytest.mark.parametrize("user_id", ["../x", "", "A/b", "x" * 64])
def test_a_bad_user_id_reaches_no_store(stores: Stores, user_id: str) -> None:
    blobs = MemoryBlobs()
    with pytest.raises(UserInputError) as caught:
        receive(stores, user_id, "a.md", b"x", blobs=blobs)
    assert caught.value.code == "user_id_invalid"
    assert blobs.objects == {}


def test_an_empty_file_is_refused_and_the_reason_kept(stores: Stores, user_id: str) -> None:
    assert outcome(receive(stores, user_id, "a.md", b"")) == ("refused", "document_empty")
    (row,) = rows_of(stores, user_id)
    assert row.status == "refused"
    assert row.refusal is not None
    assert row.refusal.code == "document_empty"


def test_a_file_is_too_large_from_one_byte_over_the_limit(stores: Stores, user_id: str) -> None:
    blobs = MemoryBlobs()
    assert outcome(receive(stores, user_id, "a.md", b"x" * 1_000_001, blobs=blobs)) == ("refused", "document_too_large")
    assert not any("/raw/" in key for key in blobs.objects)
    assert outcome(receive(stores, user_id, "b.md", b"x" * 1_000_000, blobs=blobs)) == ("stored", None)


class Counted(BytesIO):
    """Remembers the most bytes that were asked for at once."""

    largest = 0

    def read(self, size: int | None = -1) -> bytes:
        self.largest = max(self.largest, len(self.getvalue()) if size is None or size < 0 else size)
        return super().read(size)


def test_a_file_that_is_too_large_leaves_its_reason_and_is_never_held_whole(stores: Stores, user_id: str) -> None:
    """Such a file was answered and forgotten: the profile did not know that it had ever been sent."""
    blobs, data = MemoryBlobs(), b"x" * 9_000_000
    file = Counted(data)
    result = receive_file(stores.tables, blobs, LIMITS, user_id, "large.md", file)
    assert (outcome(result), result.size_bytes) == (("refused", "document_too_large"), len(data))
    assert file.largest < 2_100_000
    assert blobs.objects == {}
    (row,) = rows_of(stores, user_id)
    assert (row.filename, row.sha256, row.size_bytes, row.status) == ("large.md", sha256_hex(data), len(data), "refused")
    assert row.refusal is not None
    assert row.refusal == result.refusal


class Trickle(BytesIO):
    """Gives what it has in small pieces, as a pipe does."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(7, size) if size and size > 0 else 7)


def test_a_file_that_comes_in_pieces_is_stored_whole(stores: Stores, user_id: str) -> None:
    """One read was taken for all there is: the hash was of the whole file, the stored bytes were its beginning."""
    data = b"Our cat is called Pilchard, and he has one eye."
    assert receive_file(stores.tables, stores.blobs, LIMITS, user_id, "a.md", Trickle(data)).sha256 == sha256_hex(data)
    assert stores.blobs.get(raw_key(user_id, sha256_hex(data))) == data


def test_a_name_is_one_name_however_its_accents_are_written(stores: Stores, user_id: str) -> None:
    receive(stores, user_id, "Zoe\u0308.md", b"first")
    receive(stores, user_id, "Zo\u00eb.md", b"second")
    assert {row.filename for row in rows_of(stores, user_id)} == {"Zo\u00eb.md"}


@pytest.mark.parametrize("filename", ["a.docx", "noextension", ".md"])
def test_an_unknown_type_leaves_its_reason(stores: Stores, user_id: str, filename: str) -> None:
    """Such a file was answered and forgotten: the profile did not know that it had ever been sent."""
    blobs = MemoryBlobs()
    assert outcome(receive(stores, user_id, filename, b"x", blobs=blobs)) == ("refused", "type_unknown")
    assert not any("/raw/" in key for key in blobs.objects)
    (row,) = rows_of(stores, user_id)
    assert (row.filename, row.mime, row.status) == (filename, "application/octet-stream", "refused")
    assert row.refusal is not None
    assert (row.refusal.code, filename in row.refusal.reason) == ("type_unknown", True)


def test_a_refused_file_waits_for_nobody(stores: Stores, user_id: str) -> None:
    for name, data in {"a.docx": b"x", "b.md": b"", "c.md": b"x" * 1_000_001}.items():
        assert receive(stores, user_id, name, data).status == "refused"
    with stores.tables.transaction(user_id) as connection:
        assert pending_change(connection, user_id) is None


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("diary.md", "diary.md"),
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\Users\\nora\\diary.md", "diary.md"),
        ("/home/nora/Zoë’s 😀 notes.md", "Zoë’s 😀 notes.md"),
        ("  spaced.md ", "spaced.md"),
    ],
)
def test_of_a_path_only_the_name_is_kept(given: str, kept: str) -> None:
    assert check_filename(given) == kept


@pytest.mark.parametrize(
    "filename",
    ["", "   ", ".", "..", "a/..", "a\x00.md", "a\nb.md", "\u202egnp.md", "é" * 101 + ".md", "bad\udcff.md"],
    ids=["empty", "blank", "dot", "dots", "path of dots", "nul", "newline", "turned around", "201 bytes", "no unicode"],
)
def test_an_unusable_name_is_refused(stores: Stores, user_id: str, filename: str) -> None:
    """A name that is no Unicode, as a file system gives it, broke the upload instead of being refused."""
    result = receive(stores, user_id, filename, b"x")
    assert outcome(result) == ("refused", "filename_invalid")
    result.filename.encode()
    assert rows_of(stores, user_id) == []


def test_a_long_name_is_refused_only_over_its_limit() -> None:
    assert check_filename("a" * 197 + ".md") == "a" * 197 + ".md"
    with pytest.raises(UserInputError):
        check_filename("a" * 198 + ".md")


def test_the_same_bytes_are_a_duplicate_under_any_name(stores: Stores, user_id: str) -> None:
    assert outcome(receive(stores, user_id, "a.md", b"same")) == ("stored", None)
    with stores.tables.transaction(user_id) as connection:
        change = pending_change(connection, user_id)
    assert outcome(receive(stores, user_id, "a.md", b"same")) == ("duplicate", None)
    assert outcome(receive(stores, user_id, "b.txt", b"same")) == ("duplicate", None)
    assert [row.names for row in rows_of(stores, user_id)] == [("a.md", "b.txt")]
    with stores.tables.transaction(user_id) as connection:
        assert pending_change(connection, user_id) == change


def test_other_bytes_under_a_known_name_wait_beside_the_ones_before(stores: Stores, user_id: str) -> None:
    for data in (b"first", b"second"):
        assert outcome(receive(stores, user_id, "a.md", data)) == ("stored", None)
    found = {row.sha256: row.status for row in rows_of(stores, user_id)}
    assert found == {sha256_hex(b"first"): "received", sha256_hex(b"second"): "received"}


def test_one_file_too_many_is_refused_until_there_is_room(stores: Stores, user_id: str) -> None:
    names = ("a.md", "b.md", "c.md")
    assert [outcome(receive(stores, user_id, name, name.encode())) for name in names] == [("stored", None)] * 3
    refused = receive(stores, user_id, "d.md", b"one too many")
    assert outcome(refused) == ("refused", "document_limit")
    assert "limits.documents_per_user" in (refused.refusal.reason if refused.refusal else "")
    assert outcome(receive(stores, user_id, "a.md", b"a replacement needs no room")) == ("stored", None)
    assert {row.filename: row.status for row in rows_of(stores, user_id)} == {
        **dict.fromkeys(names, "received"),
        "d.md": "refused",
    }


def test_a_refused_file_is_taken_in_when_there_is_room(stores: Stores, user_id: str) -> None:
    for name in ("a.md", "b.md", "c.md", "d.md"):
        receive(stores, user_id, name, name.encode())
    roomier = LIMITS.model_copy(update={"documents_per_user": 4})
    result = receive_document(stores.tables, stores.blobs, roomier, user_id, "d.md", b"d.md")
    assert outcome(result) == ("stored", None)
    assert {row.filename: (row.status, row.refusal) for row in rows_of(stores, user_id)}["d.md"] == ("received", None)


def test_uploads_at_once_do_not_pass_the_limit(stores: Stores, user_id: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda i: receive(stores, user_id, f"{i}.md", f"file {i}".encode()), range(6)))
    assert sorted(result.status for result in results) == ["refused"] * 3 + ["stored"] * 3
    assert sorted(row.status for row in rows_of(stores, user_id)) == ["received"] * 3 + ["refused"] * 3


@pytest.mark.parametrize("before", [True, False], ids=["before the row", "before its commit"])
def test_a_failure_between_blob_and_row_takes_nothing_in_and_loses_nothing(stores: Stores, user_id: str, before: bool) -> None:
    tables = FailingTables(stores.tables, before=before)
    with pytest.raises(StoreError):
        receive(stores, user_id, "a.md", b"data", tables=tables)
    assert rows_of(stores, user_id) == []
    assert outcome(receive(stores, user_id, "a.md", b"data", tables=tables)) == ("stored", None)
    assert stores.blobs.get(raw_key(user_id, sha256_hex(b"data"))) == b"data"


def test_a_failure_of_a_replacement_leaves_the_file_before(stores: Stores, user_id: str) -> None:
    receive(stores, user_id, "a.md", b"before")
    with pytest.raises(StoreError):
        receive(stores, user_id, "a.md", b"after", tables=FailingTables(stores.tables, before=False))
    assert [(row.sha256, row.status) for row in rows_of(stores, user_id)] == [(sha256_hex(b"before"), "received")]


def test_a_row_never_stands_without_its_bytes(stores: Stores, user_id: str) -> None:
    class FullBlobs(MemoryBlobs):
        def put(self, key: str, data: bytes) -> None:
            raise StoreError("blob_store", "no space left")

    with pytest.raises(StoreError):
        receive(stores, user_id, "a.md", b"data", blobs=FullBlobs())
    assert rows_of(stores, user_id) == []


def test_two_users_may_have_the_same_file(stores: Stores, new_user: Callable[[], str]) -> None:
    one, two = new_user(), new_user()
    assert [outcome(receive(stores, user, "a.md", b"same")) for user in (one, two)] == [("stored", None)] * 2
    assert len(rows_of(stores, one)) == len(rows_of(stores, two)) == 1
