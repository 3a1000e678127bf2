"""Another embedding model: a generation of its own beside the old one, made by OpenAI's client, its tokens told by Dagster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
import yaml

from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.stores.embedders import Embedders
from lpm_kernel.stores.openai_embedder import OpenAiEmbedder
from tests.openai_server import MODEL, OpenAiServer
from tests.samples import make_memory_of
from tests.twin_assets.conftest import Workshop, figures

NOTES = {"cats.md": "# Cats\n\nMy cat is called Pilchard.\n\nPilchard lost an eye in Portishead in 2019.\n"}
UNTIL_EMBEDDINGS = [dg.AssetKey(name) for name in ("raw_documents", "chunks", "embeddings")]


@pytest.fixture
def openai() -> Iterator[OpenAiServer]:
    with OpenAiServer() as server:
        yield server


@pytest.fixture
def switched(openai: OpenAiServer, small_settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenAiServer:
    """From here on the settings ask for OpenAI's model, at the stand-in."""
    content = yaml.safe_load(small_settings.read_text())
    content["models"]["embedder"] = MODEL
    content["models"]["embedder_usd_per_million_tokens"] = 0.5
    content["retries"]["max_retries"] = 0
    path = tmp_path / "dagster_project.yaml"
    path.write_text(yaml.safe_dump(content))
    monkeypatch.setenv("TWIN_SETTINGS", str(path))
    monkeypatch.setenv("OPENAI_API_KEY", openai.api_key)
    monkeypatch.setenv("OPENAI_BASE_URL", openai.base_url)
    return openai


def test_a_change_of_model_builds_beside_what_is_searched(
    workshop: Workshop, switched: OpenAiServer, small_settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores, user_id = workshop.stores, "model-change"
    workshop.add(user_id, "Ada", NOTES)
    with monkeypatch.context() as before_the_change:
        before_the_change.setenv("TWIN_SETTINGS", str(small_settings))
        old = figures(workshop.build(user_id, asset_selection=UNTIL_EMBEDDINGS), "embeddings")
    assert (old["dimension"], old["memories_reembedded"]) == (384, 0)
    stores.memories.add_batch(user_id, [make_memory_of(user_id, "I like red tea", kind="preference")])
    assert not [key for key in old if "openai" in key or "cost" in key]

    new = figures(workshop.build(user_id, asset_selection=UNTIL_EMBEDDINGS), "embeddings")
    assert (new["dimension"], new["fingerprint"]) == (1536, OpenAiEmbedder.fingerprint)
    tokens = new[f"openai.{MODEL}.total_tokens"]
    assert tokens == new["embedding_tokens"] > 0
    assert new["embedding_cost_usd"] == pytest.approx(tokens * 0.5 / 1e6)
    assert new[f"openai.{MODEL}.calls"] == 1
    assert switched.requests[1:] == [["I like red tea"]], "the tokens of memories are not the asset's"
    assert (new["chunks_reused"], new["memories_reembedded"]) == (0, 1)

    both = replace(stores, embedders=Embedders(stores.settings))
    for made in (old, new):
        embedder = both.embedder_of(made["fingerprint"])
        lines = recall_evidence(
            user_id,
            made["generation"],
            "What is your cat called?",
            stores.vectors,
            embedder,
            stores.settings.recall,
        )
        assert "Pilchard" in lines[0].text
        assert stores.vectors.count(user_id, made["generation"]) == len(lines)
    both.embedders.close()


def test_a_model_that_does_not_answer_leaves_what_is_searched(workshop: Workshop, switched: OpenAiServer) -> None:
    stores, user_id = workshop.stores, "model-away"
    workshop.add(user_id, "Bo", NOTES)
    switched.failing = (401, "invalid_api_key")
    result = workshop.build(user_id, asset_selection=UNTIL_EMBEDDINGS)
    assert not result.success
    (failure,) = [event for event in result.all_node_events if event.is_step_failure]
    assert failure.step_key == "embeddings"
    told = failure.step_failure_data.user_failure_data
    assert told is not None
    assert told.metadata["code"].value == "embedder_refused"
    assert stores.vectors.count(user_id) == 0
