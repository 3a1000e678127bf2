"""The manifest: one chain of artefacts or none, and a way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, update

from lpm_kernel.artefacts import encode_records
from lpm_kernel.errors import StoreError, TrainingError
from lpm_kernel.L0.embed import embed_chunks, generation_of, vector_entries
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.L0.library import read_documents
from lpm_kernel.L1.records import Community
from lpm_kernel.L2.promotion import Verdict
from lpm_kernel.L2.records import ARMS, Adapter, Evaluation, GgufAdapter
from lpm_kernel.L2.release import (
    documents_hash,
    find_unbuilt,
    keep_communities,
    make_release,
    offer_release,
    read_communities,
    rows_hash,
)
from lpm_kernel.records import Message, Release, Topic, User
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import list_releases, live_release, promote_release
from lpm_kernel.stores.schema import release
from lpm_kernel.stores.users import add_user
from tests.fakes import FakeEmbedder, MemoryBlobs, no_progress
from tests.samples import make_document, make_items, make_row
from tests.samples import make_release as sample_release

PASSED = Verdict(passed=True, proven=True, gates=(), reasons=())
NOTES = {"diary.md": "Our cat is called Pilchard.\n", "letter.txt": "The band plays on Sunday.\n"}


def served(made: Release) -> Release:
    return replace(made, status="live", evaluation={**made.evaluation, "gates": []})


def make_chain(user_id: str = "1", notes: dict[str, str] = NOTES) -> dict[str, Any]:
    """The arguments of `make_release`, as one run of the stages leaves them."""
    items = make_items(user_id, notes)
    table, _ = embed_chunks(items, FakeEmbedder(), None, no_progress)
    chunk_ids = tuple(item.chunk.chunk_id for item in items)
    messages = (Message("user", "What is your cat called?"), Message("assistant", items[0].text))
    rows = [
        make_row("row-1", messages, chunk_ids[:1], checksum="c1"),
        make_row("row-2", messages, chunk_ids[1:], split="held_out", checksum="c2"),
    ]
    adapter = Adapter("adapter", "k", "c", 1, "base", rows_hash(rows), 4, 8, (), 1, 7, (1.0,), 1.0, 1.0)
    return {
        "user_id": user_id,
        "documents": [make_document(user_id, name, text.encode(), "read") for name, text in notes.items()],
        "chunks": [item.chunk for item in items],
        "table": table,
        "topics": [Topic("t", "all", (), chunk_ids, ())],
        "communities": [Community("c", "all", (), chunk_ids, (), 0.5, (1.0,))],
        "rows": rows,
        "adapter": adapter,
        "gguf": GgufAdapter("gguf", "key", 1, "adapter", "base", 2),
        "evaluation": Evaluation(
            "golden", 4, dict.fromkeys(ARMS, 1), 3, 2, dict.fromkeys(ARMS, 0), (), generation_of(table), "gguf", "base", 1.0
        ),
    }


def test_a_manifest_names_every_input_by_hash() -> None:
    chain = make_chain()
    made = make_release(**chain)
    assert made.documents_sha256 == documents_hash(chain["documents"])
    assert made.memory_generation == generation_of(chain["table"])
    assert (made.rows_sha256, made.adapter_sha256, made.gguf_sha256) == (rows_hash(chain["rows"]), "adapter", "gguf")
    assert made.evaluation["in_pack"] == 3
    assert made.status == "candidate"


def test_equal_chains_are_one_release_and_another_score_makes_no_other() -> None:
    made = make_release(**make_chain())
    chain = make_chain()
    chain["evaluation"] = replace(chain["evaluation"], in_pack=4)
    assert make_release(**chain).release_id == made.release_id
    assert make_release(**make_chain("2")).release_id != made.release_id
    other = make_chain(notes={**NOTES, "letter.txt": "The band plays on Monday.\n"})
    assert make_release(**other).release_id != made.release_id


STRANGE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "chunks": lambda c: {"documents": c["documents"][1:]},
    "embeddings": lambda c: {"table": replace(c["table"], chunk_ids=c["table"].chunk_ids[::-1])},
    "topics": lambda c: {"topics": [replace(c["topics"][0], chunk_ids=c["topics"][0].chunk_ids[1:])]},
    "communities": lambda c: {"communities": [replace(c["communities"][0], chunk_ids=c["communities"][0].chunk_ids[1:])]},
    "training_rows": lambda c: {"rows": [c["rows"][0], make_row("gone", (), ["gone"], split="held_out")]},
    "lora_adapter": lambda c: {"adapter": replace(c["adapter"], rows_sha256="other")},
    "gguf_adapter": lambda c: {"gguf": replace(c["gguf"], adapter_sha256="other")},
    "evaluation": lambda c: {"evaluation": replace(c["evaluation"], memory_generation="other")},
}


@pytest.mark.parametrize("asset", STRANGE)
def test_an_artefact_of_another_run_makes_no_manifest_and_is_named(asset: str) -> None:
    """Documents that arrived during a training stood in the manifest of an adapter that had never seen them."""
    chain = make_chain()
    with pytest.raises(TrainingError) as caught:
        make_release(**{**chain, **STRANGE[asset](chain)})
    assert caught.value.code == "artefacts_do_not_match"
    assert asset in caught.value.message


def test_a_renamed_document_is_another_chain() -> None:
    chain = make_chain()
    renamed = [replace(chain["documents"][0], filename="renamed.md"), *chain["documents"][1:]]
    with pytest.raises(TrainingError):
        make_release(**{**chain, "documents": renamed})


def test_publishing_retires_the_release_before_and_keeps_the_memory_of_both(stores: Stores, user_id: str) -> None:
    items = make_items(user_id, NOTES)
    table, _ = embed_chunks(items, FakeEmbedder(), None, no_progress)
    entries = vector_entries(items, table)
    for number, part in enumerate((entries[:1], entries, entries[1:]), start=1):
        stores.vectors.sync(user_id, f"generation-{number}", part, table.fingerprint)
        if number != 2:  # the second was given up before it became a release
            offer_release(stores.tables, stores.vectors, sample_release(user_id, number), PASSED)
    with stores.tables.transaction(user_id) as connection:
        assert live_release(connection, user_id) == served(sample_release(user_id, 3))
        assert {r.release_id: r.status for r in list_releases(connection, user_id)} == {
            "release-1": "retired",
            "release-3": "live",
        }
        promote_release(connection, sample_release(user_id, 1))
    counts = [stores.vectors.count(user_id, f"generation-{number}") for number in (1, 2, 3)]
    assert counts == [1, 0, len(entries) - 1]


def test_the_communities_that_a_manifest_names_come_back_while_the_asset_goes_on_changing() -> None:
    chain, blobs = make_chain(), MemoryBlobs()
    made = make_release(**chain)
    keep_communities(blobs, made, chain["communities"])
    later = [replace(chain["communities"][0], label="other")]
    other = make_release(**{**chain, "communities": later})
    keep_communities(blobs, other, later)
    assert other.release_id != made.release_id
    assert read_communities(blobs, made) == chain["communities"]
    assert read_communities(blobs, other) == later
    assert made.communities_key
    blobs.put(made.communities_key, encode_records(later))
    with pytest.raises(StoreError, match="artefact_unreadable"):
        read_communities(blobs, made)
    blobs.delete(made.communities_key)
    with pytest.raises(StoreError, match="blob_not_found"):
        read_communities(blobs, made)


def test_a_manifest_from_before_there_were_communities_is_read_and_names_none(stores: Stores, user_id: str) -> None:
    with stores.tables.transaction(user_id) as connection:
        promote_release(connection, sample_release(user_id, 1))
        manifest = connection.execute(select(release.c.manifest)).scalar_one()
        old = {key: value for key, value in manifest.items() if not key.startswith("communities_")}
        assert len(old) == len(manifest) - 2
        connection.execute(update(release).values(manifest=old))
        loaded = live_release(connection, user_id)
    assert loaded is not None
    assert loaded.communities_key is None
    assert read_communities(stores.blobs, loaded) is None


def test_documents_that_no_release_holds_are_unbuilt(stores: Stores, user_id: str) -> None:
    def unbuilt():
        with stores.tables.transaction(user_id) as connection:
            return find_unbuilt(connection, user_id)

    with stores.tables.transaction(user_id) as connection:
        add_user(connection, User(user_id))
    assert unbuilt() is None
    receive_document(stores.tables, stores.blobs, stores.settings.limits, user_id, "a.md", b"My cat is called Pilchard.")
    waits = unbuilt()
    assert waits is not None
    assert waits.waiting
    documents, _ = read_documents(stores.tables, stores.blobs, stores.settings.limits, user_id, no_progress)
    read = unbuilt()
    assert read is not None
    assert not read.waiting
    release = replace(sample_release(user_id, 1), documents_sha256=documents_hash(documents))
    offer_release(stores.tables, stores.vectors, release, PASSED)
    assert unbuilt() is None
    other = replace(sample_release(user_id, 2), documents_sha256="0" * 64)
    offer_release(stores.tables, stores.vectors, other, PASSED)
    assert unbuilt() is None, "the way back to another release is a person's decision"


def test_a_manifest_of_an_older_form_keeps_no_new_release_from_being_published(stores: Stores, user_id: str) -> None:
    with stores.tables.transaction(user_id) as connection:
        promote_release(connection, sample_release(user_id, 1))
        connection.execute(update(release).values(manifest={"release_id": "release-1"}))
        with pytest.raises(StoreError, match="another form"):
            live_release(connection, user_id)
    offer_release(stores.tables, stores.vectors, sample_release(user_id, 2), PASSED)
    with stores.tables.transaction(user_id) as connection:
        assert live_release(connection, user_id) == served(sample_release(user_id, 2))
