"""An app over the real stores and a model that says what it is told to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lpm_kernel.dao.planner.run import fail_plan
from lpm_kernel.errors import LlmError
from lpm_kernel.L0.chunk import chunk_document
from lpm_kernel.L0.embed import chunk_texts, embed_chunks, generation_of, vector_entries
from lpm_kernel.layout import gguf_key
from lpm_kernel.records import Document, Release, User, sha256_hex
from lpm_kernel.settings import Settings, load_settings
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.dao_plans import PgPlans
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import promote_release
from lpm_kernel.stores.users import add_user
from tests.fakes import FakeLlm, no_progress
from tests.twin_serving.issuer import Issuer
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


@pytest.fixture(autouse=True)
def no_plan_under_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every API looks for plans that another one left: those of a test would take the answers told to the model of the next."""
    yield
    if "stores" in request.fixturenames:
        plans = PgPlans(request.getfixturevalue("stores").tables)
        gone_by = LlmError("engine_closed", "the test that began it has ended")
        for asker, plan_id in plans.running(limit=1_000):
            fail_plan(plans, asker, plan_id, gone_by, datetime.now(UTC))


@pytest.fixture
def llm() -> FakeLlm:
    return FakeLlm()


def services_over(stores: Stores, llm: FakeLlm, folder: Path) -> Services:
    return Services(OpenStores(stores), lambda: llm, folder / "adapters")  # type: ignore[arg-type]


@pytest.fixture
def app(stores: Stores, llm: FakeLlm, tmp_path: Path) -> FastAPI:
    return create_app(lambda: services_over(stores, llm, tmp_path))


@pytest.fixture
def make_client(stores: Stores, llm: FakeLlm, tmp_path: Path) -> Iterator[Callable[[Settings], TestClient]]:
    """Makes clients of an app with these settings."""
    with ExitStack() as open_clients:

        def make(settings: Settings) -> TestClient:
            app = create_app(lambda: services_over(stores, llm, tmp_path), settings)
            return open_clients.enter_context(TestClient(app, raise_server_exceptions=False))

        yield make


@pytest.fixture
def limited(make_client: Callable[[Settings], TestClient]) -> Callable[..., TestClient]:
    """Makes clients of an app that asks for no token; arguments are settings of `serving`."""
    return lambda **serving: make_client(load_settings(overrides={"serving": serving}))


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


@pytest.fixture
def guarded(make_client: Callable[[Settings], TestClient], issuer: Issuer) -> Callable[..., TestClient]:
    """Makes clients of an app that asks for tokens; arguments are settings of `serving`."""
    return lambda **serving: make_client(issuer.settings(**serving))


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def twin(stores: Stores, new_user: Callable[[], str], llm: FakeLlm) -> str:
    return make_twin(stores, new_user(), llm.base_sha256)


def make_twin(stores: Stores, user_id: str, base_sha256: str) -> str:
    """A user with one note in the search store and a live release whose adapter is a file in the blob store."""
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
        base_sha256=base_sha256,
        evaluation={"questions": 0},
        created_at=datetime.now(UTC),
    )
    with stores.tables.transaction(user_id) as connection:
        add_user(connection, User(user_id, "Nora"))
        promote_release(connection, release)
    return user_id
