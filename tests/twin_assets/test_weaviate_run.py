"""Chunks in Weaviate by a setting alone: a run of Dagster writes them there, and what is asked afterwards finds them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from lpm_kernel.layout import asset_key
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.blobs import S3Blobs
from lpm_kernel.stores.open import open_stores
from lpm_kernel.stores.weaviate_vectors import WeaviateVectors
from tests.twin_assets.conftest import Workshop, figures
from tests.weaviate_server import WeaviateServer

NOTES = {"cats.md": "# Cats\n\nMy cat is called Pilchard.\n\nPilchard lost an eye in Portishead in 2019.\n"}
UNTIL_EMBEDDINGS = [dg.AssetKey(name) for name in ("raw_documents", "chunks", "embeddings")]


@pytest.fixture
def weaviate(small_settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WeaviateServer]:
    content = yaml.safe_load(small_settings.read_text())
    content["stores_in"]["vectors"] = "weaviate"
    content["retries"]["max_retries"] = 0
    path = tmp_path / "dagster_project.yaml"
    path.write_text(yaml.safe_dump(content))
    with WeaviateServer() as server:
        monkeypatch.setenv("TWIN_SETTINGS", str(path))
        monkeypatch.setenv("WEAVIATE_URL", server.url)
        monkeypatch.setenv("WEAVIATE_GRPC_URL", server.grpc_url)
        monkeypatch.setenv("WEAVIATE_API_KEY", server.api_key)
        yield server


def test_chunks_go_to_weaviate_and_are_found_there(workshop: Workshop, weaviate: WeaviateServer) -> None:
    user_id = "weaviate-run"
    workshop.add(user_id, "Ada", NOTES)
    result = workshop.build(user_id, asset_selection=UNTIL_EMBEDDINGS)
    made = figures(result, "embeddings")
    (collection,) = weaviate.collections.values()
    assert list(collection.tenants) == [user_id]
    assert len(collection.objects[user_id]) == made["vectors_written"] > 0
    assert workshop.stores.vectors.count(user_id) == 0, "and none in PostgreSQL"
    assert {stored.properties["transaction_id"] for stored in collection.objects[user_id].values()} == {result.run_id}
    assert isinstance(workshop.stores.blobs, S3Blobs)
    client, key = workshop.stores.blobs.client, asset_key(user_id, "chunks", "jsonl")
    written = client.head_object(Bucket=workshop.stores.blobs.bucket, Key=key)["Metadata"]
    assert written == {"transaction-id": result.run_id}, "artefacts name the run too"

    settings = load_settings()
    stores = open_stores(settings)
    try:
        assert isinstance(stores.vectors, WeaviateVectors)
        embedder = stores.embedder_of(made["fingerprint"])
        question = "What is your cat called?"
        lines = recall_evidence(user_id, made["generation"], question, stores.vectors, embedder, settings.recall)
    finally:
        stores.close()
    assert "Pilchard" in lines[0].text
    assert lines[0].citation.filename == "cats.md"


def test_a_batch_that_weaviate_refused_fails_the_run_by_its_name(workshop: Workshop, weaviate: WeaviateServer) -> None:
    user_id = "weaviate-refused"
    workshop.add(user_id, "Bo", NOTES)
    weaviate.refused = ("Pilchard", "told to")
    result = workshop.build(user_id, asset_selection=UNTIL_EMBEDDINGS)
    assert not result.success
    (failure,) = [event for event in result.all_node_events if event.is_step_failure]
    told = failure.step_failure_data.user_failure_data
    assert told is not None
    assert told.metadata["code"].value == "vectors_refused"
