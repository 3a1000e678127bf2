"""Which class stands behind which port, by settings alone, and the model of a release found by its fingerprint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lpm_kernel.errors import LlmError, SettingsError
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.embedder import MiniLmEmbedder
from lpm_kernel.stores.embedders import FINGERPRINTS
from lpm_kernel.stores.mem0_cloud import Mem0CloudMemories
from lpm_kernel.stores.mem0_memories import Mem0Memories
from lpm_kernel.stores.open import Stores, open_stores
from lpm_kernel.stores.openai_embedder import OpenAiEmbedder
from lpm_kernel.stores.vectors import PgVectors
from lpm_kernel.stores.weaviate_vectors import WeaviateVectors

ADDRESSES = {
    "DATABASE_URL": "postgresql+psycopg://twin_app:s3cret@127.0.0.1:1/twin",
    "S3_ENDPOINT_URL": "http://127.0.0.1:2",
    "S3_ACCESS_KEY_ID": "id",
    "S3_SECRET_ACCESS_KEY": "s3cret",
    "S3_BUCKET": "twin",
    "REDIS_URL": "redis://127.0.0.1:3/0",
}
CLOUD = {"WEAVIATE_URL": "http://127.0.0.1:4", "MEM0_API_KEY": "m0-s3cret", "OPENAI_API_KEY": "sk-s3cret"}
WEAVIATE = {"stores_in": {"vectors": "weaviate"}}
MEM0 = {"stores_in": {"memories": "mem0"}}
OPENAI = {"models": {"embedder": "text-embedding-3-small"}}


def opened(tmp_path: Path, overrides: dict[str, Any], environ: dict[str, str]) -> Stores:
    """Stores that were opened and closed again: which classes they are is all that is asked."""
    stores = open_stores(load_settings(overrides=overrides), {"TWIN_HOME": str(tmp_path), **ADDRESSES, **environ})
    stores.close()
    return stores


def test_without_a_word_everything_is_embedded_though_keys_are_set(tmp_path: Path) -> None:
    stores = opened(tmp_path, {}, CLOUD)
    assert isinstance(stores.vectors, PgVectors)
    assert isinstance(stores.memories, Mem0Memories)
    assert isinstance(stores.embedder, MiniLmEmbedder)


@pytest.mark.parametrize(
    ("overrides", "port", "kind"),
    [
        (WEAVIATE, "vectors", WeaviateVectors),
        (MEM0, "memories", Mem0CloudMemories),
        (OPENAI, "embedder", OpenAiEmbedder),
    ],
)
def test_each_port_goes_to_the_cloud_by_a_setting(
    tmp_path: Path, overrides: dict[str, Any], port: str, kind: type[Any]
) -> None:
    stores = opened(tmp_path, overrides, CLOUD)
    assert isinstance(getattr(stores, port), kind)
    kinds = {"vectors": PgVectors, "memories": Mem0Memories, "embedder": MiniLmEmbedder}
    for other in set(kinds) - {port}:
        assert isinstance(getattr(stores, other), kinds[other])


@pytest.mark.parametrize(
    ("overrides", "name"), [(WEAVIATE, "WEAVIATE_URL"), (MEM0, "MEM0_API_KEY"), (OPENAI, "OPENAI_API_KEY")]
)
@pytest.mark.parametrize("value", [None, ""])
def test_an_address_that_a_setting_needs_is_named_when_it_is_missing(
    tmp_path: Path, overrides: dict[str, Any], name: str, value: str | None
) -> None:
    environ = {**CLOUD, name: value} if value is not None else {k: v for k, v in CLOUD.items() if k != name}
    with pytest.raises(SettingsError) as caught:
        opened(tmp_path, overrides, environ)
    assert caught.value.code == "address_missing"
    assert name in caught.value.message
    assert "s3cret" not in str(caught.value)


def test_a_release_is_searched_with_its_own_model_whatever_the_settings_say(tmp_path: Path) -> None:
    """After a change of `models.embedder`, each chat with a release of the model before answered `memory_empty`."""
    here, there = opened(tmp_path, {}, CLOUD), opened(tmp_path, OPENAI, CLOUD)
    for stores in (here, there):
        assert isinstance(stores.embedder_of(MiniLmEmbedder.fingerprint), MiniLmEmbedder)
        assert isinstance(stores.embedder_of(OpenAiEmbedder.fingerprint), OpenAiEmbedder)
        assert stores.embedder_of(stores.embedder.fingerprint) is stores.embedder
    other = here.embedder_of(OpenAiEmbedder.fingerprint)
    assert here.embedder_of(OpenAiEmbedder.fingerprint) is other, "it is opened once"


def test_a_model_that_is_not_to_be_had_is_named(tmp_path: Path) -> None:
    stores = opened(tmp_path, {}, {})
    with pytest.raises(LlmError) as unknown:
        stores.embedder_of("word2vec/300/l2")
    assert (unknown.value.code, unknown.value.retryable) == ("embedder_unknown", False)
    assert "word2vec/300/l2" in unknown.value.message
    with pytest.raises(SettingsError) as missing:
        stores.embedder_of(OpenAiEmbedder.fingerprint)
    assert "OPENAI_API_KEY" in missing.value.message


def test_every_model_of_the_settings_has_one_fingerprint_that_names_it(tmp_path: Path) -> None:
    for model, fingerprint in FINGERPRINTS.items():
        stores = opened(tmp_path, {"models": {"embedder": model}}, CLOUD)
        assert stores.embedder.fingerprint == fingerprint
    assert len(set(FINGERPRINTS.values())) == len(FINGERPRINTS)
