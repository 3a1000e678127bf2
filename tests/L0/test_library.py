"""The pass over a user's documents: each is read once, a bad one stops no other, and only what was read is cleared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from lpm_kernel.errors import IngestionError, StoreError, UserInputError
from lpm_kernel.L0.chunk import chunk_document
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.L0.library import ChunkCount, ReadCount, chunk_documents, fetch_texts, read_documents
from lpm_kernel.layout import raw_key, text_key
from lpm_kernel.records import Document, sha256_hex
from lpm_kernel.settings import ChunkingSettings
from lpm_kernel.stores.documents import list_documents, pending_change
from lpm_kernel.stores.open import Stores
from tests.fakes import FailingTables, MemoryBlobs, no_progress
from tests.samples import make_document

from .pdfs import make_identity_pdf, make_pdf

CHUNKING = ChunkingSettings(max_tokens=24)


def upload(stores: Stores, user_id: str, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        result = receive_document(stores.tables, stores.blobs, stores.settings.limits, user_id, name, data)
        assert result.status == "stored"


def read(stores: Stores, user_id: str) -> tuple[list[Document], ReadCount]:
    return read_documents(stores.tables, stores.blobs, stores.settings.limits, user_id, no_progress)


def rows_of(stores: Stores, user_id: str) -> dict[str, Document]:
    with stores.tables.transaction(user_id) as connection:
        return {row.filename: row for row in list_documents(connection, user_id)}


def change_of(stores: Stores, user_id: str) -> str | None:
    with stores.tables.transaction(user_id) as connection:
        return pending_change(connection, user_id)


def test_what_waits_is_read_and_its_text_stored_in_utf_8(stores: Stores, user_id: str) -> None:
    files = {"b.txt": "café £5\r\nzwei".encode("cp1252"), "a.md": "# A 😀".encode(), "c.pdf": make_pdf(["page of c"])}
    upload(stores, user_id, files)
    documents, count = read(stores, user_id)
    assert [document.filename for document in documents] == ["a.md", "b.txt", "c.pdf"]
    assert count == ReadCount(read=3, reused=0, refused=0)
    texts = [stores.blobs.get(text_key(user_id, document.sha256)) for document in documents]
    assert texts[:2] == ["# A 😀".encode(), "café £5\nzwei".encode()]
    assert [document.text_size_bytes for document in documents] == [len(text) for text in texts]
    assert stores.blobs.get(raw_key(user_id, sha256_hex(files["b.txt"]))) == files["b.txt"]
    assert change_of(stores, user_id) is None


def test_a_document_is_read_once(stores: Stores, user_id: str) -> None:
    upload(stores, user_id, {"a.md": b"one"})
    first, _ = read(stores, user_id)
    stores.blobs.delete(raw_key(user_id, sha256_hex(b"one")))  # a second reading would miss it
    assert read(stores, user_id) == (first, ReadCount(read=0, reused=1, refused=0))
    upload(stores, user_id, {"b.md": b"two"})
    documents, count = read(stores, user_id)
    assert [document.filename for document in documents] == ["a.md", "b.md"]
    assert count == ReadCount(read=1, reused=1, refused=0)


def test_a_broken_file_is_refused_while_the_rest_is_read(stores: Stores, user_id: str) -> None:
    broken = {"b.pdf": make_pdf(["x"])[:400], "c.txt": b"\x89PNG\x00\x01\x02", "d.pdf": make_pdf([None])}
    upload(stores, user_id, {"a.md": b"sound", **broken, "e.md": b"sound too"})
    documents, count = read(stores, user_id)
    assert [document.filename for document in documents] == ["a.md", "e.md"]
    assert count == ReadCount(read=2, reused=0, refused=3)
    rows = rows_of(stores, user_id)
    codes = {name: row.refusal.code for name, row in rows.items() if row.refusal}
    assert codes == {"b.pdf": "pdf_broken", "c.txt": "binary_content", "d.pdf": "no_text"}
    assert change_of(stores, user_id) is None


def test_a_pdf_that_gives_no_encodable_text_stops_no_other(stores: Stores, user_id: str) -> None:
    """The error of the encoder was none of ours: the run failed on it, and the next, and the next."""
    odd = make_identity_pdf([0xD83D, 0xD801, 0x41], to_unicode=True, plain="And twenty-seven letters that are sound.")
    upload(stores, user_id, {"a.md": b"sound", "b.pdf": odd})
    documents, _ = read(stores, user_id)
    assert [document.filename for document in documents] == ["a.md", "b.pdf"]
    assert change_of(stores, user_id) is None


def test_a_user_of_broken_files_has_no_documents_and_is_not_asked_again(stores: Stores, user_id: str) -> None:
    upload(stores, user_id, {"a.txt": b"\x00\x01"})
    with pytest.raises(IngestionError) as caught:
        read(stores, user_id)
    assert (caught.value.code, caught.value.retryable) == ("no_documents", False)
    assert change_of(stores, user_id) is None


def test_an_unknown_user_is_a_named_error(stores: Stores) -> None:
    with pytest.raises(UserInputError) as caught:
        read(stores, "library-nobody")
    assert caught.value.code == "twin_not_found"


def test_a_replaced_file_is_read_in_its_new_form_alone(stores: Stores, user_id: str) -> None:
    upload(stores, user_id, {"a.md": b"before"})
    read(stores, user_id)
    upload(stores, user_id, {"a.md": b"after"})
    documents, count = read(stores, user_id)
    assert [document.sha256 for document in documents] == [sha256_hex(b"after")]
    assert count == ReadCount(read=1, reused=0, refused=0)


def test_a_replacement_that_cannot_be_read_replaces_nothing(stores: Stores, user_id: str) -> None:
    upload(stores, user_id, {"a.md": b"the good old text"})
    read(stores, user_id)
    upload(stores, user_id, {"a.md": b"\x00\x01\x02"})
    documents, count = read(stores, user_id)
    assert [document.sha256 for document in documents] == [sha256_hex(b"the good old text")]
    assert count == ReadCount(read=0, reused=1, refused=1)
    assert change_of(stores, user_id) is None


def test_an_older_content_that_is_sent_again_is_the_newest(stores: Stores, user_id: str) -> None:
    for data in (b"first", b"second", b"first"):
        upload(stores, user_id, {"a.md": data})
        documents, _ = read(stores, user_id)
        assert [document.sha256 for document in documents] == [sha256_hex(data)]
    assert change_of(stores, user_id) is None


def test_of_two_unread_contents_of_one_name_the_newer_is_kept(stores: Stores, user_id: str) -> None:
    upload(stores, user_id, {"a.md": b"first"})
    upload(stores, user_id, {"a.md": b"second"})
    documents, _ = read(stores, user_id)
    assert [document.sha256 for document in documents] == [sha256_hex(b"second")]


def test_a_refused_file_that_is_sent_again_is_read_again(stores: Stores, user_id: str) -> None:
    upload(stores, user_id, {"a.md": b"sound", "b.txt": b"\x00\x01"})
    read(stores, user_id)
    upload(stores, user_id, {"b.txt": b"\x00\x01"})
    assert change_of(stores, user_id) is not None
    assert read(stores, user_id)[1] == ReadCount(read=0, reused=1, refused=1)


def test_what_arrives_during_the_reading_stays_waiting(stores: Stores, user_id: str) -> None:
    """Cleared marks of a file that nobody read would have left it out of the twin for ever."""
    upload(stores, user_id, {"a.md": b"one"})

    def upload_more(share: float, words: str) -> None:
        upload(stores, user_id, {"b.md": b"two"})

    documents, _ = read_documents(stores.tables, stores.blobs, stores.settings.limits, user_id, upload_more)
    assert [document.filename for document in documents] == ["a.md"]
    assert change_of(stores, user_id) is not None
    assert read(stores, user_id)[1] == ReadCount(read=1, reused=1, refused=0)
    assert change_of(stores, user_id) is None


def test_what_is_sent_anew_during_the_reading_is_read_next(stores: Stores, user_id: str) -> None:
    upload(stores, user_id, {"a.md": b"one", "b.md": b"two"})

    def replace_both(share: float, words: str) -> None:
        if share == 0.5:
            upload(stores, user_id, {"a.md": b"newer one", "b.md": b"newer two"})

    read_documents(stores.tables, stores.blobs, stores.settings.limits, user_id, replace_both)
    assert change_of(stores, user_id) is not None
    documents, _ = read(stores, user_id)
    assert {document.sha256 for document in documents} == {sha256_hex(b"newer one"), sha256_hex(b"newer two")}


@pytest.mark.parametrize("spared", range(6))
def test_a_store_that_fails_during_the_reading_loses_nothing(stores: Stores, user_id: str, spared: int) -> None:
    upload(stores, user_id, {"a.md": b"one", "b.md": b"two"})
    change = change_of(stores, user_id)

    with pytest.raises(StoreError):
        read_documents(FailingTables(stores.tables, spared=spared), stores.blobs, stores.settings.limits, user_id, no_progress)
    assert change_of(stores, user_id) == change
    documents, _ = read(stores, user_id)
    assert [stores.blobs.get(text_key(user_id, d.sha256)) for d in documents] == [b"one", b"two"]
    assert change_of(stores, user_id) is None


def test_lost_bytes_are_an_error_and_never_an_empty_document(stores: Stores, user_id: str) -> None:
    upload(stores, user_id, {"a.md": b"one"})
    stores.blobs.delete(raw_key(user_id, sha256_hex(b"one")))
    with pytest.raises(StoreError) as caught:
        read(stores, user_id)
    assert caught.value.code == "blob_not_found"
    assert rows_of(stores, user_id)["a.md"].status == "received"
    assert change_of(stores, user_id) is not None


@pytest.fixture
def library() -> tuple[MemoryBlobs, list[Document]]:
    """Three documents whose texts are stored."""
    blobs, documents = MemoryBlobs(), []
    for name in ("a.md", "b.md", "c.md"):
        text = f"# {name}\n\n" + f"A sentence of {name} about cats. " * 12
        documents.append(make_document("1", name, text.encode(), "read"))
        blobs.put(text_key("1", documents[-1].sha256), text.encode())
    return blobs, documents


def test_chunks_come_in_the_order_of_their_documents(library: tuple[MemoryBlobs, list[Document]]) -> None:
    blobs, documents = library
    chunks, count = chunk_documents(documents, blobs, CHUNKING, [])
    wanted = [c for d in documents for c in chunk_document(d, blobs.get(text_key("1", d.sha256)).decode(), CHUNKING)]
    assert chunks == wanted
    assert count == ChunkCount(cut=3, reused=0)


@pytest.mark.parametrize(
    ("change", "cut"),
    [
        (lambda documents: documents, 0),
        (lambda documents: documents[1:], 0),
        (lambda documents: [replace(documents[0], filename="renamed.md"), *documents[1:]], 1),
        (lambda documents: documents[::-1], 0),
    ],
    ids=["nothing", "one gone", "one renamed", "another order"],
)
def test_only_what_changed_is_cut_again(
    library: tuple[MemoryBlobs, list[Document]], change: Callable[[list[Document]], list[Document]], cut: int
) -> None:
    blobs, documents = library
    before, _ = chunk_documents(documents, blobs, CHUNKING, [])
    changed = change(documents)
    chunks, count = chunk_documents(changed, blobs, CHUNKING, before)
    assert count == ChunkCount(cut=cut, reused=len(changed) - cut)
    assert chunks == chunk_documents(changed, blobs, CHUNKING, [])[0]


def test_other_rules_cut_everything_again(library: tuple[MemoryBlobs, list[Document]]) -> None:
    blobs, documents = library
    before, _ = chunk_documents(documents, blobs, CHUNKING, [])
    other = ChunkingSettings(max_tokens=30)
    chunks, count = chunk_documents(documents, blobs, other, before)
    assert count == ChunkCount(cut=3, reused=0)
    assert chunks == chunk_documents(documents, blobs, other, [])[0]


def test_the_texts_of_chunks_are_fetched_by_document(library: tuple[MemoryBlobs, list[Document]]) -> None:
    blobs, documents = library
    chunks, _ = chunk_documents(documents, blobs, CHUNKING, [])
    texts = fetch_texts(chunks, blobs)
    assert texts == {d.sha256: blobs.get(text_key("1", d.sha256)) for d in documents}
    for chunk in chunks:
        assert sha256_hex(texts[chunk.document_sha256][chunk.byte_start : chunk.byte_end]) == chunk.text_sha256
    blobs.delete(text_key("1", documents[0].sha256))
    with pytest.raises(StoreError):
        fetch_texts(chunks, blobs)
