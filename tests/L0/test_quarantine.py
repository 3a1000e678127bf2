"""Quarantine: a refused file is kept within a bound, comes out when it can be read, and can be thrown away."""

from __future__ import annotations

from io import BytesIO

import pytest

from lpm_kernel.errors import IngestionError, StoreError, UserInputError
from lpm_kernel.L0 import library, quarantine
from lpm_kernel.L0.intake import receive_document, receive_file
from lpm_kernel.L0.library import read_documents
from lpm_kernel.L0.quarantine import discard_refused
from lpm_kernel.L0.read import MIME_OF_EXTENSION, reader_fingerprint
from lpm_kernel.L0.records import UploadResult
from lpm_kernel.layout import document_keys, quarantine_key, raw_key, tenant_prefix, text_key
from lpm_kernel.records import Document, sha256_hex
from lpm_kernel.settings import LimitSettings
from lpm_kernel.stores.documents import list_documents, pending_change
from lpm_kernel.stores.open import Stores
from tests.fakes import FailingTables, no_progress

from .pdfs import make_pdf

LIMITS = LimitSettings(
    documents_per_user=3,
    social_documents_per_user=2,
    document_size_mb=1,
    quarantine_mb=2,
    pdf_seconds=20,
    pdf_memory_mb=1000,
    runs_per_user=1,
    concurrent_runs=1,
)
SCAN = make_pdf([None])
NO_TEXT = b"\x89PNG\x00\x01\x02"


def limits(**changed: int) -> LimitSettings:
    return LIMITS.model_copy(update=changed)


def send(stores: Stores, user_id: str, name: str, data: bytes, given: LimitSettings = LIMITS) -> UploadResult:
    return receive_document(stores.tables, stores.blobs, given, user_id, name, data)


def read(stores: Stores, user_id: str, given: LimitSettings = LIMITS) -> tuple[list[Document], library.ReadCount]:
    return read_documents(stores.tables, stores.blobs, given, user_id, no_progress)


def row_of(stores: Stores, user_id: str, data: bytes) -> Document:
    with stores.tables.transaction(user_id) as connection:
        (row,) = (row for row in list_documents(connection, user_id) if row.sha256 == sha256_hex(data))
    return row


def places(stores: Stores, user_id: str, data: bytes) -> set[str]:
    """Where the bytes of a file, or its text, lie: raw, text, quarantine."""
    keys = document_keys(user_id, sha256_hex(data))
    return {key.removeprefix(tenant_prefix(user_id)).split("/")[0] for key in keys if stores.blobs.exists(key)}


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [("a.docx", b"PK words", "type_unknown"), ("a.md", b"x" * 1_000_001, "document_too_large")],
)
def test_a_file_refused_at_the_door_is_kept_apart(stores: Stores, user_id: str, name: str, data: bytes, code: str) -> None:
    assert send(stores, user_id, name, data).refusal
    row = row_of(stores, user_id, data)
    assert (row.status, row.refusal and row.refusal.code, row.quarantined) == ("refused", code, True)
    assert stores.blobs.get(quarantine_key(user_id, row.sha256)) == data
    assert places(stores, user_id, data) == {"quarantine"}


def test_one_file_too_many_lies_in_quarantine_and_not_among_the_raw_files(stores: Stores, user_id: str) -> None:
    """Its bytes were left among the raw files: who went on sending files could fill the store past every limit."""
    for name in ("a.md", "b.md", "c.md", "d.md"):
        send(stores, user_id, name, name.encode())
    assert places(stores, user_id, b"d.md") == {"quarantine"}
    assert places(stores, user_id, b"c.md") == {"raw"}


@pytest.mark.parametrize(("name", "data"), [("scan.pdf", SCAN), ("picture.txt", NO_TEXT)])
def test_a_file_that_cannot_be_read_moves_to_quarantine_with_the_reason(
    stores: Stores, user_id: str, name: str, data: bytes
) -> None:
    send(stores, user_id, "sound.md", b"sound")
    send(stores, user_id, name, data)
    _, count = read(stores, user_id)
    assert (count.read, count.refused) == (1, 1)
    row = row_of(stores, user_id, data)
    assert row.refusal
    assert (row.status, row.quarantined) == ("refused", True)
    assert places(stores, user_id, data) == {"quarantine"}
    assert stores.blobs.get(quarantine_key(user_id, row.sha256)) == data


def test_a_file_far_too_large_is_told_by_its_reason_alone(stores: Stores, user_id: str) -> None:
    data = b"x" * 2_000_001
    assert send(stores, user_id, "a.md", data).refusal
    row = row_of(stores, user_id, data)
    assert (row.status, row.size_bytes, row.quarantined) == ("refused", len(data), False)
    assert places(stores, user_id, data) == set()


def test_quarantine_has_one_bound_for_all_refused_files_of_a_user(stores: Stores, user_id: str) -> None:
    files = [bytes([i]) * 900_000 for i in range(3)]
    for i, data in enumerate(files):
        assert send(stores, user_id, f"{i}.docx", data).refusal
    assert [row_of(stores, user_id, data).quarantined for data in files] == [True, True, False]
    assert places(stores, user_id, files[2]) == set()
    send(stores, user_id, "0.docx", files[0])
    assert row_of(stores, user_id, files[0]).quarantined, "sent again it needs no more room"


def test_an_unreadable_file_without_room_leaves_no_bytes_anywhere(stores: Stores, user_id: str) -> None:
    send(stores, user_id, "a.docx", b"x" * 1_999_990)
    send(stores, user_id, "sound.md", b"sound")
    send(stores, user_id, "scan.pdf", SCAN)
    read(stores, user_id)
    row = row_of(stores, user_id, SCAN)
    assert (row.status, row.refusal and row.refusal.code, row.quarantined) == ("refused", "no_text", False)
    assert places(stores, user_id, SCAN) == set()


def test_a_file_that_changes_while_it_is_kept_is_not_kept_as_another(stores: Stores, user_id: str) -> None:
    class Changing(BytesIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            self.getbuffer()[:1] = b"y"
            return super().seek(offset, whence)

    with pytest.raises(UserInputError, match="file_changed"):
        receive_file(stores.tables, stores.blobs, LIMITS, user_id, "a.md", Changing(b"x" * 1_500_000))
    assert places(stores, user_id, b"x" * 1_500_000) == set()


def test_a_raised_size_limit_takes_a_file_out(stores: Stores, user_id: str) -> None:
    data = b"A line of words. " * 90_000
    assert send(stores, user_id, "long.txt", data).refusal
    with pytest.raises(IngestionError):
        read(stores, user_id)
    documents, count = read(stores, user_id, limits(document_size_mb=2))
    assert [document.filename for document in documents] == ["long.txt"]
    assert (count.read, count.taken_out) == (1, 1)
    assert places(stores, user_id, data) == {"raw", "text"}
    row = row_of(stores, user_id, data)
    assert (row.status, row.refusal, row.quarantined) == ("read", None, False)


def test_room_takes_the_oldest_out_first(stores: Stores, user_id: str) -> None:
    for name in ("a.md", "b.md", "c.md", "d.md", "e.md"):
        send(stores, user_id, name, f"words of {name}".encode())
    documents, _ = read(stores, user_id, limits(documents_per_user=4))
    assert [document.filename for document in documents] == ["a.md", "b.md", "c.md", "d.md"]
    assert places(stores, user_id, b"words of e.md") == {"quarantine"}
    documents, _ = read(stores, user_id, limits(documents_per_user=5))
    assert len(documents) == 5


def test_a_new_type_takes_a_file_out(stores: Stores, user_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    send(stores, user_id, "notes.org", b"* A heading\nwords")
    monkeypatch.setitem(MIME_OF_EXTENSION, ".org", "text/org")
    documents, _ = read(stores, user_id)
    assert [(document.filename, document.mime) for document in documents] == [("notes.org", "text/org")]


def test_another_reader_tries_again_and_the_same_one_does_not(
    stores: Stores, user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(stores, user_id, "sound.md", b"sound")
    send(stores, user_id, "picture.txt", NO_TEXT)
    read(stores, user_id)
    assert read(stores, user_id)[1].taken_out == 0
    other = reader_fingerprint(LIMITS) + "/other"
    for module in (library, quarantine):
        monkeypatch.setattr(module, "reader_fingerprint", lambda limits: other)
    assert read(stores, user_id)[1] == library.ReadCount(read=0, reused=1, refused=1, taken_out=1)
    assert places(stores, user_id, NO_TEXT) == {"quarantine"}
    assert read(stores, user_id)[1].taken_out == 0


def test_a_file_whose_name_has_a_newer_content_stays_in_quarantine(stores: Stores, user_id: str) -> None:
    """Taken out, it would have stood beside the content that replaced it: two texts of one file."""
    older = b"The older words. " * 90_000
    assert send(stores, user_id, "a.md", older).refusal
    send(stores, user_id, "a.md", b"The newer words.")
    documents, count = read(stores, user_id, limits(document_size_mb=2))
    assert [document.sha256 for document in documents] == [sha256_hex(b"The newer words.")]
    assert count.taken_out == 0


def test_a_refused_file_under_a_readable_name_leaves_quarantine(stores: Stores, user_id: str) -> None:
    send(stores, user_id, "a.docx", b"plain words")
    assert send(stores, user_id, "a.md", b"plain words").status == "stored"
    assert places(stores, user_id, b"plain words") == {"raw"}
    assert row_of(stores, user_id, b"plain words").quarantined is False


def test_a_file_sent_again_while_it_is_refused_keeps_its_bytes(
    stores: Stores, user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run deletes the raw file it refused; the same bytes sent at that moment must not go with it."""
    send(stores, user_id, "sound.md", b"sound")
    send(stores, user_id, "picture.txt", NO_TEXT)
    drop = quarantine.drop_useless_copies

    def sent_again_just_before(*arguments: object) -> None:
        monkeypatch.setattr(quarantine, "drop_useless_copies", drop)
        assert send(stores, user_id, "picture.txt", NO_TEXT).status == "stored"
        drop(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(quarantine, "drop_useless_copies", sent_again_just_before)
    read(stores, user_id)
    assert places(stores, user_id, NO_TEXT) == {"raw"}
    monkeypatch.undo()
    assert read(stores, user_id)[1].refused == 1


def test_a_taken_out_file_waits_until_it_was_read(stores: Stores, user_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that dies between the two leaves a change to take up, not a file that nobody looks for."""
    send(stores, user_id, "notes.org", b"words")
    monkeypatch.setitem(MIME_OF_EXTENSION, ".org", "text/org")
    assert quarantine.take_out_of_quarantine(stores.tables, stores.blobs, LIMITS, user_id) == 1
    with stores.tables.transaction(user_id) as connection:
        assert pending_change(connection, user_id) is not None


@pytest.mark.parametrize("before", [True, False], ids=["before its work", "before its commit"])
@pytest.mark.parametrize("spared", range(7))
def test_a_failed_commit_loses_no_bytes_of_an_unreadable_file(stores: Stores, user_id: str, spared: int, before: bool) -> None:
    """The raw file was deleted before the refusal stood: the row then waited for bytes that were gone, in every run."""
    send(stores, user_id, "picture.txt", NO_TEXT)
    send(stores, user_id, "sound.md", b"sound")
    tables = FailingTables(stores.tables, spared=spared, before=before)
    with pytest.raises(StoreError):
        read_documents(tables, stores.blobs, LIMITS, user_id, no_progress)
    read(stores, user_id)
    assert row_of(stores, user_id, NO_TEXT).quarantined
    assert "quarantine" in places(stores, user_id, NO_TEXT)
    assert places(stores, user_id, b"sound") == {"raw", "text"}


@pytest.mark.parametrize("before", [True, False], ids=["before its work", "before its commit"])
@pytest.mark.parametrize("spared", [0, 1])
def test_a_failed_discard_can_be_repeated(stores: Stores, user_id: str, spared: int, before: bool) -> None:
    send(stores, user_id, "a.docx", b"words")
    with pytest.raises(StoreError):
        discard_refused(FailingTables(stores.tables, spared=spared, before=before), stores.blobs, user_id, sha256_hex(b"words"))
    row = row_of(stores, user_id, b"words")
    assert places(stores, user_id, b"words") == {"quarantine"} or not row.quarantined
    discard_refused(stores.tables, stores.blobs, user_id, sha256_hex(b"words"))
    assert places(stores, user_id, b"words") == set()


@pytest.mark.parametrize("spared", [0, 1, 2])
def test_a_row_in_quarantine_never_stands_without_its_bytes(stores: Stores, user_id: str, spared: int) -> None:
    with pytest.raises(StoreError):
        receive_document(
            FailingTables(stores.tables, spared=spared, before=False), stores.blobs, LIMITS, user_id, "a.docx", b"words"
        )
    with stores.tables.transaction(user_id) as connection:
        rows = list_documents(connection, user_id)
    assert all(not row.quarantined for row in rows)
    assert send(stores, user_id, "a.docx", b"words").refusal
    assert row_of(stores, user_id, b"words").quarantined
    assert places(stores, user_id, b"words") == {"quarantine"}


def test_an_error_of_our_own_refuses_one_file_and_stops_no_other(
    stores: Stores, user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error outside the tree of errors stopped the run, and with it all documents of the user, again and again."""
    sound = library.read_document

    def failing(data: bytes, *arguments: object) -> object:
        if data == b"the second":
            raise ZeroDivisionError("with words of the document in it")
        return sound(data, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(library, "read_document", failing)
    for name, data in {"a.md": b"the first", "b.md": b"the second", "c.md": b"the third"}.items():
        send(stores, user_id, name, data)
    documents, count = read(stores, user_id)
    assert [document.filename for document in documents] == ["a.md", "c.md"]
    assert count.refused == 1
    refusal = row_of(stores, user_id, b"the second").refusal
    assert refusal
    assert (refusal.code, "words" in refusal.reason) == ("reader_failed", False)


def test_a_refused_file_can_be_thrown_away(stores: Stores, user_id: str) -> None:
    send(stores, user_id, "a.docx", b"words")
    sha256 = sha256_hex(b"words")
    assert discard_refused(stores.tables, stores.blobs, user_id, sha256[:12]).filename == "a.docx"
    assert places(stores, user_id, b"words") == set()
    assert list(stores.blobs.list_keys(tenant_prefix(user_id))) == []
    with stores.tables.transaction(user_id) as connection:
        assert list_documents(connection, user_id) == []


def test_only_a_refused_file_of_ones_own_can_be_thrown_away(stores: Stores, user_id: str) -> None:
    send(stores, user_id, "a.md", b"words")
    for sha256, code in ((sha256_hex(b"words"), "document_in_use"), ("", "document_unknown"), ("f" * 64, "document_unknown")):
        with pytest.raises(UserInputError, match=code):
            discard_refused(stores.tables, stores.blobs, user_id, sha256)
    assert places(stores, user_id, b"words") == {"raw"}


def test_everything_of_one_document_lies_where_its_deletion_looks(stores: Stores, user_id: str) -> None:
    files = {"a.md": b"sound", "b.docx": b"refused at the door", "c.txt": NO_TEXT}
    for name, data in files.items():
        send(stores, user_id, name, data)
    read(stores, user_id)
    own = {key for data in files.values() for key in document_keys(user_id, sha256_hex(data))}
    assert set(stores.blobs.list_keys(tenant_prefix(user_id))) <= own
    assert raw_key(user_id, sha256_hex(b"sound")) in own
    assert text_key(user_id, sha256_hex(b"sound")) in own
