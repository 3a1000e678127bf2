"""What the pipeline does with people and documents it cannot use."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from lpm_kernel.errors import UserInputError
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.records import User
from lpm_kernel.stores.documents import list_documents
from tests.twin_assets.conftest import Workshop
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
