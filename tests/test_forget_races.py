"""Forgetting a document while somebody sends it again, reads it or trains on it, or after a deletion that broke off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lpm_kernel.errors import StoreError
from lpm_kernel.forget import delete_document
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.L0.library import read_documents
from lpm_kernel.layout import document_keys, lora_key
from lpm_kernel.records import sha256_hex
from lpm_kernel.stores.open import Stores
from tests.fakes import no_progress
from tests.forgetful_twin import BOAT, CAT, EVERYWHERE, NOWHERE, DeletingBlobs, MeanwhileTables, Twin, UnreachableVectors


@pytest.fixture
def twin(stores: Stores, new_user: Callable[[], str], tmp_path: Path) -> Twin:
    made = Twin(stores, new_user(), tmp_path / "adapters")
    made.send("cats.md", CAT)
    made.send("boat.txt", BOAT)
    made.build()
    return made


def test_a_document_that_is_sent_again_while_it_is_being_deleted_stays(twin: Twin) -> None:
    """Its bytes were taken away under a row that waits for them, and no later run could read the user's documents."""
    meanwhile = replace(twin.stores, tables=MeanwhileTables(twin.stores.tables, lambda: twin.send("cats.md", CAT)))
    delete_document(meanwhile, twin.user_id, "cats.md", twin.adapters)
    twin.build()
    assert twin.traces(sha256_hex(CAT.encode())) == EVERYWHERE


@pytest.mark.parametrize("data", [b"A late note.", b"\x00\x01\x02 no text"])
def test_a_document_that_is_deleted_while_it_is_read_leaves_neither_text_nor_copy(twin: Twin, data: bytes) -> None:
    receive_document(twin.stores.tables, twin.stores.blobs, twin.stores.settings.limits, twin.user_id, "late.txt", data)
    blobs: Any = DeletingBlobs(twin, "late.txt")
    read_documents(twin.stores.tables, blobs, twin.stores.settings.limits, twin.user_id, no_progress)
    assert [key for key in document_keys(twin.user_id, sha256_hex(data)) if twin.own.exists(key)] == []


def test_the_last_document_takes_along_what_an_earlier_deletion_could_not(twin: Twin) -> None:
    """It forgot that the earlier one was ever there, and what a store still held of it stayed for good."""
    away = replace(twin.stores, vectors=UnreachableVectors(twin.stores.vectors))  # type: ignore[type-var]
    with pytest.raises(StoreError):
        delete_document(away, twin.user_id, "cats.md", twin.adapters)
    twin.delete("boat.txt")
    assert twin.traces(sha256_hex(CAT.encode())) == NOWHERE


def test_what_a_run_under_way_leaves_of_the_last_document_goes_with_the_next_twin(twin: Twin) -> None:
    twin.delete("cats.md")
    twin.delete("boat.txt")
    twin.own.put(lora_key(twin.user_id, "a" * 64), b"weights of a run that was training")
    twin.send("new.md", "A new note.")
    twin.build()
    twin.clean()
    assert not [key for key in twin.keys("lora") if "a" * 64 in key]
