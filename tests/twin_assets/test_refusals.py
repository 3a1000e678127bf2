"""What the pipeline does with people and documents it cannot use."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from lpm_kernel.errors import UserInputError
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.records import User, sha256_hex
from lpm_kernel.stores.documents import list_documents
from tests.twin_assets.conftest import Workshop, figures
from twin_assets.cli import cli
from twin_assets.people import receive_folder, register_user

RAW = [dg.AssetKey("raw_documents")]


def test_a_bad_user_id_never_becomes_a_partition(workshop: Workshop) -> None:
    """Dagster itself accepts `../x` as a partition key."""
    with pytest.raises(UserInputError, match="user_id_invalid"):
        register_user(workshop.stores, workshop.instance, User("../x"))
    assert "../x" not in workshop.instance.get_dynamic_partitions("users")


def test_a_user_without_a_readable_document_fails_once_with_the_reason_and_keeps_the_rows(workshop: Workshop) -> None:
    register_user(workshop.stores, workshop.instance, User("refusals-1"))
    receive_document(
        workshop.stores.tables, workshop.stores.blobs, workshop.settings.limits, "refusals-1", "x.pdf", b"%PDF-1.4 not one"
    )
    result = workshop.build("refusals-1", asset_selection=RAW)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "no_documents" in (failure.step_failure_data.user_failure_data.description or "")
    assert not any(event.is_step_up_for_retry for event in result.all_events), "no retry can help"
    with workshop.stores.tables.transaction("refusals-1") as connection:
        (row,) = list_documents(connection, "refusals-1")
    assert (row.status, row.refusal.code if row.refusal else None) == ("refused", "pdf_broken")


def test_a_store_that_fails_is_tried_four_times_in_all(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    from lpm_kernel.errors import StoreError
    from twin_assets.assets import l0_memory

    tries = []

    def failing(*arguments: object) -> None:
        tries.append(1)
        raise StoreError("tables_unavailable", "PostgreSQL did not answer")

    monkeypatch.setattr(l0_memory, "read_documents", failing)
    register_user(workshop.stores, workshop.instance, User("refusals-2"))
    result = workshop.build("refusals-2", asset_selection=RAW)
    assert not result.success
    assert len(tries) == 1 + workshop.settings.retries.max_retries


def test_one_bad_file_in_a_folder_does_not_stop_the_others(workshop: Workshop, tmp_path) -> None:
    (tmp_path / "a-good.md").write_text("A first line.\n")
    (tmp_path / "b-empty.txt").write_bytes(b"")
    (tmp_path / "c-large.txt").write_bytes(b"x" * 21_000_000)
    (tmp_path / "d-program.exe").write_bytes(b"MZ")
    (tmp_path / "e-good.txt").write_text("A last line.\n")
    register_user(workshop.stores, workshop.instance, User("refusals-3"))
    results = {r.filename: r for r in receive_folder(workshop.stores, "refusals-3", tmp_path)}
    outcomes = {name: (r.refusal.code if r.refusal else r.status) for name, r in results.items()}
    assert outcomes == {
        "a-good.md": "stored",
        "b-empty.txt": "document_empty",
        "c-large.txt": "document_too_large",
        "d-program.exe": "type_unknown",
        "e-good.txt": "stored",
    }
    with workshop.stores.tables.transaction("refusals-3") as connection:
        rows = list_documents(connection, "refusals-3")
    assert {row.filename: row.refusal.code if row.refusal else "stored" for row in rows} == outcomes


def test_a_file_that_cannot_be_opened_is_refused_and_the_rest_goes_on(workshop: Workshop, tmp_path: Path) -> None:
    for name in ("a.md", "b.md", "c.md"):
        (tmp_path / name).write_text(f"A line of {name}.\n")
    results = receive_folder(workshop.stores, "refusals-5", tmp_path)
    assert next(results).status == "stored"
    (tmp_path / "b.md").unlink()
    (unreadable, last) = results
    assert (unreadable.status, unreadable.refusal and unreadable.refusal.code) == ("refused", "file_unreadable")
    assert "b.md" in (unreadable.refusal.reason if unreadable.refusal else "")
    assert last.status == "stored"


def test_a_golden_file_that_is_none_is_refused_before_anything_is_kept(workshop: Workshop, tmp_path) -> None:
    (tmp_path / "golden.yaml").write_text("questions: []\nunanswerable: []\n")
    with pytest.raises(UserInputError, match="golden_invalid"):
        register_user(workshop.stores, workshop.instance, User("refusals-4"), tmp_path / "golden.yaml")
    assert "refusals-4" not in workshop.instance.get_dynamic_partitions("users")


def test_raw_documents_tells_of_refused_and_repeated_files(workshop: Workshop) -> None:
    register_user(workshop.stores, workshop.instance, User("refusals-6"))
    note = "My cat is called Pilchard. The vet charged £265 for a tooth in May, which I thought was a great deal of money.\n"
    files = {
        "a.md": note.encode(),
        "b.md": note.replace("May", "June").encode(),
        "c.docx": b"PK words",
        "d.pdf": b"%PDF-1.4 not one",
        "e.txt": "Zażółć gęślą jaźń, powiedział dziadek.\n".encode("cp1250"),
    }
    stores = workshop.stores
    for name, data in files.items():
        receive_document(stores.tables, stores.blobs, workshop.settings.limits, "refusals-6", name, data)
    result = workshop.build("refusals-6", asset_selection=RAW)
    assert result.success
    told = figures(result, "raw_documents")
    assert (told["documents_read"], told["documents_refused"], told["in_quarantine"]) == (3, 1, 2)
    assert told["quarantine_size_bytes"] == len(files["c.docx"]) + len(files["d.pdf"])
    assert (told["near_duplicates"], told["newer_versions"], told["taken_out_of_quarantine"]) == (1, 0, 0)
    assert told["encodings"] == {"utf-8": 2, "cp1250": 1}
    refused = [(row.data["file"], row.data["code"], row.data["kept"]) for row in told["refused"].records]
    assert refused == [("c.docx", "type_unknown", True), ("d.pdf", "pdf_broken", True)]


def test_twin_documents_lists_what_was_sent_and_discards_a_refused_file(workshop: Workshop) -> None:
    register_user(workshop.stores, workshop.instance, User("refusals-7"))
    stores = workshop.stores
    for name, data in {"a.md": b"Words.", "b.docx": b"PK"}.items():
        receive_document(stores.tables, stores.blobs, workshop.settings.limits, "refusals-7", name, data)

    def twin(*arguments: str) -> str:
        run = CliRunner().invoke(cli, ["documents", "refusals-7", *arguments], catch_exceptions=False)
        assert run.exit_code == 0
        return run.output

    assert "received" in twin()
    assert "a.md" not in twin("--refused")
    assert "quarantine" in twin("--refused")
    assert "type_unknown" in twin("--refused")
    assert "discarded  b.docx" in twin("--discard", sha256_hex(b"PK")[:12])
    assert "b.docx" not in twin()
    with pytest.raises(UserInputError, match="document_in_use"):
        twin("--discard", sha256_hex(b"Words.")[:12])
