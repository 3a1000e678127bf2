"""An app over the real stores and a model that says what it is told to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lpm_kernel.L0.chunk import chunk_document
from lpm_kernel.L0.embed import chunk_texts, embed_chunks, generation_of, vector_entries
from lpm_kernel.layout import gguf_key
from lpm_kernel.records import Document, Release, User, sha256_hex
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import promote_release
from lpm_kernel.stores.users import add_user
from tests.fakes import FakeLlm, no_progress
from twin_serving.app import create_app
from twin_serving.deps import Services

NOTES = "My cat is called Pilchard. He has one eye.\n\nI keep the spare key under the third flower pot.\n"


class OpenStores:
    """The session's stores, which no app may close."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def __getattr__(self, name: str):
        return getattr(self._stores, name)

    def close(self) -> None:
        pass


@pytest.fixture
def llm() -> FakeLlm:
    return FakeLlm()


@pytest.fixture
def app(stores: Stores, llm: FakeLlm, tmp_path: Path) -> FastAPI:
    return create_app(lambda: Services(OpenStores(stores), lambda: llm, tmp_path / "adapters"))  # type: ignore[arg-type]


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def twin(stores: Stores, new_user: Callable[[], str], llm: FakeLlm) -> str:
    """A user with one note in the search store and a live release whose adapter is a file in the blob store."""
    user_id = new_user()
    document = Document(
        user_id, sha256_hex(NOTES.encode()), "notes.md", "text/markdown", len(NOTES), "upload", "user", datetime.now(UTC)
    )
    items = chunk_texts(chunk_document(document, NOTES, stores.settings.chunking), {document.sha256: NOTES.encode()})
    table, _ = embed_chunks(items, stores.embedder, None, no_progress)
    stores.vectors.sync(user_id, generation_of(table), vector_entries(items, table), table.fingerprint)
    adapter = b"adapter of " + user_id.encode()
    key = gguf_key(user_id, sha256_hex(adapter))
    TenantBlobs(stores.blobs, user_id).put(key, adapter)
    release = Release(
        release_id=f"release-of-{user_id}"[:60],
        user_id=user_id,
        documents_sha256="d",
        chunker="c",
        embedding_fingerprint=table.fingerprint,
        memory_generation=generation_of(table),
        topics_sha256="t",
        rows_sha256="r",
        adapter_sha256="a",
        gguf_sha256=sha256_hex(adapter),
        gguf_key=key,
        base_sha256=llm.base_sha256,
        evaluation={"questions": 0},
        created_at=datetime.now(UTC),
    )
    with stores.tables.transaction(user_id) as connection:
        add_user(connection, User(user_id, "Nora"))
        promote_release(connection, release)
    return user_id
