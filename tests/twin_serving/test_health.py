"""What the API says of itself: alive, ready, and which store is away."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from lpm_kernel.settings import load_settings
from lpm_kernel.stores.blobs import S3Blobs
from lpm_kernel.stores.open import Stores, open_stores
from tests.fakes import FakeLlm
from tests.twin_serving.conftest import OpenStores
from twin_serving import deps
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
        alive = client.get("/healthz")
        health = settled(client)
        scrape = client.get("/metrics")
        chat = client.post("/twin/ada/chat", json={"question": "Hello?"})
        profile = client.get("/twin/ada/profile")
    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
    assert health.status_code == 503
    told = health.json()
    assert set(told.pop("circuits")) <= {"graph", "redis"}, "named once they were asked often enough"
    assert told == {
        "status": "not_ready",
        "model": "ok",
        "stores": {"tables": "tables_unavailable", "blobs": "blob_store", "graph": "graph_unavailable"},
    }
    assert 'twin_store_up{store="tables"} 0.0' in scrape.text
    assert (chat.status_code, code_of(chat)) == (503, "tables_unavailable")
    assert (profile.status_code, code_of(profile)) == (503, "tables_unavailable")
    for response in (health, scrape, chat, profile):
        assert "secret-word" not in response.text
        assert "Traceback" not in response.text


def test_a_blob_store_without_its_bucket_is_not_healthy(stores: Stores, tmp_path: Path) -> None:
    """Every upload would have failed while the API was called healthy."""
    assert isinstance(stores.blobs, S3Blobs)
    bare = replace(stores, blobs=S3Blobs(stores.blobs.client, "no-such-bucket-here"))
    app = create_app(lambda: Services(OpenStores(bare), FakeLlm, tmp_path))  # type: ignore[arg-type]
    with TestClient(app, raise_server_exceptions=False) as client:
        health = settled(client)
    assert (health.status_code, health.json()["status"]) == (503, "not_ready")
    assert health.json()["stores"] == {"tables": "ok", "blobs": "bucket_missing", "graph": "ok"}


def test_it_is_ready_when_every_store_answers_and_the_model_is_loaded(client: TestClient) -> None:
    response = settled(client)
    stores = {"tables": "ok", "blobs": "ok", "graph": "ok"}
    assert (response.status_code, response.json()) == (
        200,
        {"status": "ready", "model": "ok", "stores": stores, "circuits": {}},
    )


def test_while_the_model_is_loaded_it_is_alive_and_not_ready_and_a_chat_is_told_to_come_again(
    stores: Stores, twin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deps, "MODEL_WAIT_S", 0.05)
    may_open = threading.Event()

    def open_model() -> FakeLlm:
        assert may_open.wait(30)
        return FakeLlm(["Pilchard."])

    app = create_app(lambda: Services(OpenStores(stores), open_model, tmp_path))  # type: ignore[arg-type]
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.get("/healthz").status_code == 200
        waiting = client.get("/readyz")
        assert (waiting.status_code, waiting.json()["model"]) == (503, "loading")
        for accept in ("application/json", "text/event-stream"):
            chat = client.post(f"/twin/{twin}/chat", json={"question": "Cat?"}, headers={"Accept": accept})
            assert (chat.status_code, code_of(chat)) == (503, "model_loading")
            assert chat.headers["retry-after"]
        assert client.get(f"/twin/{twin}/profile").status_code == 200
        may_open.set()
        deadline = time.monotonic() + 5
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
        assert client.post(f"/twin/{twin}/chat", json={"question": "Cat?"}).json()["answer"] == "Pilchard."


def settled(client: TestClient) -> httpx.Response:
    """What `/readyz` says once the model is loaded and every store was heard; the graph's library is imported first."""
    deadline = time.monotonic() + 30
    while is_warming((response := client.get("/readyz")).json()):
        assert time.monotonic() < deadline
    return response


def is_warming(said: dict[str, Any]) -> bool:
    return said["model"] == "loading" or "silent" in said["stores"].values()


def code_of(response: httpx.Response) -> str:
    body = response.json()
    return body.get("code") or body["error"]["code"]
