"""The whole chain for real, small: two people's notes become two releases; one changed note changes only what it must."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import dagster as dg
import pytest

from lpm_kernel.artefacts import decode_record, decode_records
from lpm_kernel.chat import answer
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.L2.engine import open_llm
from lpm_kernel.L2.records import Adapter, GgufAdapter, TrainingRow
from lpm_kernel.layout import asset_key, gguf_key, text_key
from lpm_kernel.records import Chunk, Release
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.conversations import last_messages
from lpm_kernel.stores.documents import pending_change
from lpm_kernel.stores.releases import list_releases, live_release
from tests.fakes import no_progress
from tests.twin_assets.conftest import Workshop, figures
from twin_assets import checks

pytestmark = pytest.mark.slow

ADA = {
    "cats.md": "# Cats\n\nMy cat is called Pilchard. Pilchard lost an eye in Portishead in 2019.\n\n"
    "The vet charged £265 for a tooth.\n",
    "work.txt": "I repair robots at a printing works in Bristol. Tomasz wrote their software. "
    "The oven reached 118 degrees in May.\n",
    "boat.txt": "My brother sails a red boat from Halifax. The boat has two masts. I painted it blue in March.\n",
    "music.md": "# Band\n\nI play the cornet on Tuesdays. Brynley conducts the band. The band won £40 in Torquay.\n",
}
BO = {
    "bikes.md": "# Bikes\n\nI ride a steel bicycle called Kestrel. Kestrel left Leeds in 1987.\n",
    "nights.txt": "I counted the failures of the night shift. Priya keeps the accounts. "
    "The night watch costs £49,200 a year.\n",
    "food.txt": "I cook groundnut soup with mackerel. Tomasz bakes bread on Sundays. Leila prefers rice.\n",
}


def live(workshop: Workshop, user_id: str) -> Release:
    with workshop.stores.tables.transaction(user_id) as connection:
        release = live_release(connection, user_id)
    assert release is not None
    return release


@pytest.fixture(scope="module")
def built(workshop: Workshop) -> dict[str, dg.ExecuteInProcessResult]:
    workshop.add("chain-ada", "Ada", ADA)
    workshop.add("chain-bo", "Bo", BO)
    return {user: workshop.build(user) for user in ("chain-ada", "chain-bo")}


SHARED_CHECKS = {"base_gguf_matches_weights", "ledger_is_whole", "no_vote_is_overdue", "every_group_can_be_read"}
"""Of what is no user's: the base, the votes, and groups."""


def test_every_stage_succeeds_and_every_blocking_check_passes(built) -> None:
    for result in built.values():
        assert result.success
        evaluations = result.get_asset_check_evaluations()
        assert {check.check_name for check in evaluations} == {
            name for name, value in vars(checks).items() if isinstance(value, dg.AssetChecksDefinition)
        } - SHARED_CHECKS
        assert [check.check_name for check in evaluations if not check.passed and check.blocking] == []


def test_each_stage_says_how_much_it_did(built) -> None:
    result = built["chain-ada"]
    assert figures(result, "raw_documents")["documents_read"] == 4
    assert figures(result, "chunks")["documents_cut"] == 4
    embedded = figures(result, "embeddings")
    assert embedded["chunks_embedded"] == embedded["dagster/partition_row_count"] == embedded["vectors_written"]
    assert figures(result, "lora_adapter")["steps"] >= 1
    assert figures(result, "evaluation")["question_source"] == "held_out"
    assert figures(result, "twin_release")["release_id"]
    for asset in ("raw_documents", "chunks", "training_rows"):
        assert figures(result, asset)["dagster/partition_row_count"] > 0
        assert len(figures(result, asset)["sha256"]) == 64


def test_nothing_waits_once_it_is_read(built, workshop: Workshop) -> None:
    with workshop.stores.tables.transaction("chain-ada") as connection:
        assert pending_change(connection, "chain-ada") is None


def test_the_twin_answers_from_its_release_and_cites_exact_bytes(built, workshop: Workshop, tmp_path) -> None:
    llm = open_llm(workshop.settings, no_progress)
    try:
        reply = answer(workshop.stores, llm, "chain-ada", "What is your cat called?", tmp_path, "s")
    finally:
        llm.close()
    assert reply.text
    assert reply.turn.release.release_id == live(workshop, "chain-ada").release_id
    for line in reply.turn.evidence:
        place = line.citation
        text = workshop.stores.blobs.get(text_key("chain-ada", place.document_sha256))
        assert text[place.byte_start : place.byte_end].decode() == line.text
    assert any("Pilchard" in line.text for line in reply.turn.evidence)
    with workshop.stores.tables.transaction("chain-ada") as connection:
        assert [m.sender for m in last_messages(connection, "chain-ada", "s", 5)] == ["user", "twin"]


def test_a_gguf_that_says_other_words_than_its_adapter_is_found(built, workshop: Workshop) -> None:
    """One person's converted adapter under the other person's record, as a mix-up in the store would leave it."""
    own = TenantBlobs(workshop.stores.blobs, "chain-ada")
    foreign = live(workshop, "chain-bo")
    key = gguf_key("chain-ada", foreign.gguf_sha256)
    own.put(key, TenantBlobs(workshop.stores.blobs, "chain-bo").get(foreign.gguf_key))
    inputs = {
        "lora_adapter": decode_record(own.get(asset_key("chain-ada", "lora_adapter", "json")), Adapter),
        "training_rows": decode_records(own.get(asset_key("chain-ada", "training_rows", "jsonl")), TrainingRow),
    }
    right = decode_record(own.get(asset_key("chain-ada", "gguf_adapter", "json")), GgufAdapter)
    context = SimpleNamespace(partition_key="chain-ada", retry_number=0)
    check = checks.gguf_matches_adapter.node_def.compute_fn.decorated_fn  # type: ignore[union-attr]
    try:
        assert check(context, stores=SimpleNamespace(stores=workshop.stores), gguf_adapter=right, **inputs).passed
        wrong = replace(right, key=key)
        assert not check(context, stores=SimpleNamespace(stores=workshop.stores), gguf_adapter=wrong, **inputs).passed
    finally:
        own.delete(key)


def test_running_again_on_the_same_documents_repeats_no_work_and_gives_the_same_release(built, workshop: Workshop) -> None:
    before = live(workshop, "chain-bo")
    again = workshop.build("chain-bo")
    assert again.success
    assert figures(again, "raw_documents")["documents_read"] == 0
    assert figures(again, "chunks")["documents_cut"] == 0
    assert figures(again, "embeddings")["chunks_embedded"] == 0
    assert figures(again, "embeddings")["vectors_written"] == 0
    adapters = [figures(run, "lora_adapter") for run in (built["chain-bo"], again)]
    assert adapters[0]["train_seconds"] == adapters[1]["train_seconds"], "the adapter was not trained again"
    assert live(workshop, "chain-bo").release_id == before.release_id


def test_one_changed_document_is_read_cut_and_embedded_alone_and_the_release_changes(built, workshop: Workshop) -> None:
    stores = workshop.stores
    before, other = live(workshop, "chain-ada"), live(workshop, "chain-bo")
    chunks = decode_records(stores.blobs.get(asset_key("chain-ada", "chunks", "jsonl")), Chunk)
    changed = ADA["boat.txt"].replace("two masts", "three masts")
    result = receive_document(stores.tables, stores.blobs, workshop.settings.limits, "chain-ada", "boat.txt", changed.encode())
    assert result.status == "stored"

    run = workshop.build("chain-ada")
    assert run.success
    assert figures(run, "raw_documents")["documents_read"] == 1
    assert figures(run, "raw_documents")["documents_reused"] == 3
    assert figures(run, "chunks")["documents_cut"] == 1
    now = decode_records(stores.blobs.get(asset_key("chain-ada", "chunks", "jsonl")), Chunk)
    of_boat = [chunk for chunk in now if chunk.filename == "boat.txt"]
    kept = {chunk.chunk_id for chunk in chunks} & {chunk.chunk_id for chunk in now}
    assert kept == {chunk.chunk_id for chunk in now if chunk.filename != "boat.txt"}
    embedded = figures(run, "embeddings")
    assert 1 <= embedded["chunks_embedded"] <= len(of_boat)
    assert embedded["vectors_written"] == len(of_boat)

    after = live(workshop, "chain-ada")
    assert after.release_id != before.release_id
    assert after.documents_sha256 != before.documents_sha256
    with stores.tables.transaction("chain-ada") as connection:
        states = {release.release_id: release.status for release in list_releases(connection, "chain-ada")}
    assert states == {before.release_id: "retired", after.release_id: "live"}
    assert live(workshop, "chain-bo") == other, "the other person's twin did not move"


def test_two_peoples_partitions_never_meet(built, workshop: Workshop) -> None:
    """Everything the pipeline left in every store, looked at as the other person."""
    from sqlalchemy import text

    stores = workshop.stores
    with stores.tables.transaction("chain-bo") as connection:
        tables = connection.execute(
            text("select table_name from information_schema.columns where column_name = 'user_id' and table_schema = 'public'")
        ).scalars()
        seen = {table: set(connection.execute(text(f'select distinct user_id from "{table}"')).scalars()) for table in tables}
    assert {"document", "chunk_vector", "release", "app_user"} <= set(seen)
    assert {user for users in seen.values() for user in users} == {"chain-bo"}
    own = TenantBlobs(stores.blobs, "chain-bo")
    assert all(key.startswith("tenant/chain-bo/") for key in own.list_keys())
    generation = live(workshop, "chain-bo").memory_generation
    hits = stores.vectors.search(
        "chain-bo",
        generation,
        "What is your cat called? Pilchard",
        stores.embedder.embed(["My cat is called Pilchard."])[0],
        fingerprint=stores.embedder.fingerprint,
        k=50,
        keyword_weight=0.5,
        neighbour_weight=0.5,
    )
    assert len(hits) == stores.vectors.count("chain-bo", generation) == stores.vectors.count("chain-bo")
    assert all("Pilchard" not in hit.text for hit in hits)
    for key in own.list_keys():
        assert b"Pilchard" not in own.get(key)
