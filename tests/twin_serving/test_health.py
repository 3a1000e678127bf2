"""What the API says when a store is away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fastapi.testclient import TestClient

from lpm_kernel.settings import load_settings
from lpm_kernel.stores.blobs import S3Blobs
from lpm_kernel.stores.open import Stores, open_stores
from tests.fakes import FakeLlm
from tests.twin_serving.conftest import OpenStores
from twin_serving.app import create_app
from twin_serving.deps import Services


def test_a_missing_store_is_503_and_named_and_no_password_is_shown(tmp_path: Path, free_port: int) -> None:
    environ = {
        "TWIN_HOME": str(tmp_path),
        "DATABASE_URL": f"postgresql+psycopg://twin_app:secret-word@127.0.0.1:{free_port}/twin",
        "S3_ENDPOINT_URL": f"http://127.0.0.1:{free_port}",
        "S3_ACCESS_KEY_ID": "key",
        "S3_SECRET_ACCESS_KEY": "secret-word",
        "S3_BUCKET": "twin",
        "REDIS_URL": f"redis://:secret-word@127.0.0.1:{free_port}/0",
    }
    stores = open_stores(load_settings(), environ)
    app = create_app(lambda: Services(stores, FakeLlm, tmp_path))
    with TestClient(app, raise_server_exceptions=False) as client:
        health = client.get("/healthz")
        chat = client.post("/twin/ada/chat", json={"question": "Hello?"})
        profile = client.get("/twin/ada/profile")
    assert health.status_code == 503
    assert health.json()["tables"] == "tables_unavailable"
    assert health.json()["blobs"] == "blob_store"
    assert (chat.status_code, chat.json()["error"]["code"]) == (503, "tables_unavailable")
    assert (profile.status_code, profile.json()["error"]["code"]) == (503, "tables_unavailable")
    for response in (health, chat, profile):
        assert "secret-word" not in response.text
        assert "Traceback" not in response.text


def test_a_blob_store_without_its_bucket_is_not_healthy(stores: Stores, tmp_path: Path) -> None:
    """Every upload would have failed while the API was called healthy."""
    assert isinstance(stores.blobs, S3Blobs)
    bare = replace(stores, blobs=S3Blobs(stores.blobs.client, "no-such-bucket-here"))
    app = create_app(lambda: Services(OpenStores(bare), FakeLlm, tmp_path))  # type: ignore[arg-type]
    with TestClient(app, raise_server_exceptions=False) as client:
        health = client.get("/healthz")
    assert (health.status_code, health.json()) == (
        503,
        {"status": "unavailable", "tables": "ok", "blobs": "bucket_missing"},
    )
