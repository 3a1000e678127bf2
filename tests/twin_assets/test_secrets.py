"""No secret reaches what is kept of a run or answered by the API: known values are planted, and looked for everywhere.

The passwords of the running engines are secrets as well. A server that quotes the key it was sent is among those asked.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner
from fastapi.testclient import TestClient

from lpm_kernel.settings import load_settings, settings_path
from lpm_kernel.social.store import link_account
from lpm_kernel.social.telegram_names import key_of
from lpm_kernel.stores.addresses import connection_environment
from lpm_kernel.stores.social_cursors import list_cursors
from tests.fakes import FakeLlm
from tests.json_server import JsonServer
from tests.social.telegram_stand_in import Group, reader_of
from tests.twin_assets.conftest import Workshop
from tests.twin_serving.conftest import OpenStores
from twin_assets.assets import social
from twin_assets.cli import cli
from twin_assets.definitions import build_defs
from twin_assets.social_sensors import ask_for_look
from twin_serving.app import create_app
from twin_serving.deps import Services

PLANTED = {
    "OPENAI_API_KEY": "sk-planted-openai-0001",
    "GEMINI_API_KEY": "AIza-planted-gemini-0002",
    "MEM0_API_KEY": "m0-planted-mem0-0003",
    "WEAVIATE_API_KEY": "planted-weaviate-0004",
    "NEO4J_PASSWORD": "planted-neo4j-0005",
    "RELEASE_WEBHOOK_SECRET": "planted-release-0006",
    "RELEASE_WEBHOOK_URL": "http://127.0.0.1:9/planted-token-0007",
    "ALERT_WEBHOOK_SECRET": "planted-alert-0008",
    "ALERT_WEBHOOK_URL": "http://127.0.0.1:9/planted-alert-token-0009",
    "NOTICE_WEBHOOK_SECRET": "planted-notice-0010",
    "NOTICE_WEBHOOK_URL": "http://127.0.0.1:9/planted-notice-token-0011",
    "MODAL_TOKEN_ID": "ak-planted-modal-0012",
    "MODAL_TOKEN_SECRET": "as-planted-modal-0013",
    "TELEGRAM_API_ID": "planted-telegram-0014",
    "TELEGRAM_API_HASH": "planted-telegram-hash-0015",
    "TELEGRAM_SESSION": "planted-telegram-session-0016",
    "X_BEARER_TOKEN": "planted-x-0017",
}
INVITATION = "Planted_invitation-0018"
"""To a private group: it admits whoever has it."""


class QuotingServer(JsonServer):
    """Refuses every request, and says which key it was sent."""

    def respond(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> tuple[int, Any]:
        told = f"Incorrect API key provided: {headers.get('Authorization')} for {body}"
        return 401, {"error": {"message": told, "type": "invalid_request_error", "code": "invalid_api_key"}}


@pytest.fixture
def secrets(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Everything that nobody may read, and a server that reads it aloud."""
    with QuotingServer() as server:
        for name, value in PLANTED.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        found = connection_environment()
        names = workshop.settings.stores
        passwords = {
            urlsplit(found[name]).password
            for name in (names.database_url, names.migration_database_url, names.dagster_database_url, names.redis_url)
        }
        real = {secret for secret in (*passwords, found[names.s3_secret_access_key]) if secret}
        assert len(real) >= 3
        yield {*real, *PLANTED.values(), INVITATION}


def kept_of(instance: dg.DagsterInstance, run_id: str) -> str:
    """All that Dagster holds of one run: record, configuration, tags, events with their metadata and error chains."""
    run = instance.get_run_by_id(run_id)
    assert run is not None
    events = [dg.serialize_value(entry) for entry in instance.all_logs(run_id)]
    assert len(events) > 5
    return "\n".join([dg.serialize_value(run), str(run.run_config), str(run.tags), *events])


def read_aloud(text: str, secrets: set[str]) -> list[str]:
    return sorted(secret[:12] for secret in secrets if secret in text)


def test_a_planted_value_would_be_found(secrets: set[str]) -> None:
    assert len(read_aloud(f"before {PLANTED['MEM0_API_KEY']} after", secrets)) == 1


def test_a_run_that_succeeds_and_one_that_fails_at_a_server_that_quotes_the_key_keep_none(
    workshop: Workshop, secrets: set[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO)
    workshop.add("secret-keeper", "Sue", {"a.md": "My cat is called Pilchard.\n"})
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        well = workshop.build("secret-keeper", asset_selection=[dg.AssetKey("raw_documents"), dg.AssetKey("chunks")])
        assert well.success
        content = yaml.safe_load(settings_path().read_text())
        content["models"]["embedder"] = "text-embedding-3-small"
        content["retries"]["max_retries"] = 0
        asked = tmp_path / "dagster_project.yaml"
        asked.write_text(yaml.safe_dump(content))
        monkeypatch.setenv("TWIN_SETTINGS", str(asked))
        job = build_defs(load_settings(asked)).resolve_job_def("twin_job")
        ill = job.execute_in_process(
            instance=workshop.instance,
            partition_key="secret-keeper",
            raise_on_error=False,
            asset_selection=[dg.AssetKey("embeddings")],
        )
    assert not ill.success
    text = kept_of(workshop.instance, well.run_id) + kept_of(workshop.instance, ill.run_id)
    assert "embedder_refused" in text, "it failed where it was to fail"
    assert read_aloud(text, secrets) == []
    assert read_aloud(caplog.text, secrets) == []
    assert read_aloud(printed.getvalue(), secrets) == []


def test_runs_that_read_telegram_and_x_keep_none(
    workshop: Workshop, secrets: set[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that Telegram's library cannot sign in for, one that is not in the group of its invitation, and one whose token X
    refuses. A group is told to a run by its key."""
    caplog.set_level(logging.INFO)
    content = yaml.safe_load(settings_path().read_text())
    content["social"]["telegram_chats"] = [f"https://t.me/+{INVITATION}"]
    content["retries"]["max_retries"] = 0
    asked = tmp_path / "dagster_project.yaml"
    asked.write_text(yaml.safe_dump(content))
    monkeypatch.setenv("TWIN_SETTINGS", str(asked))
    settings, in_a_while = load_settings(asked), datetime.now(UTC) + timedelta(hours=2)
    group = Group(None)
    group.invitation, group.member = INVITATION, False
    workshop.add("secret-poster", "Sue", {"a.md": "My cat is called Pilchard.\n"})
    link_account(workshop.stores.tables, "secret-poster", "x", "18", datetime.now(UTC))
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed), QuotingServer() as server:
        monkeypatch.setenv("X_BASE_URL", server.url)
        defs = build_defs(settings)
        job = defs.resolve_job_def("telegram_job")
        not_signed_in = job.execute_in_process(instance=workshop.instance, raise_on_error=False)
        monkeypatch.setattr(social, "open_telegram", lambda *_, **__: reader_of(group))
        sensor = ask_for_look(workshop.instance, SimpleNamespace(stores=workshop.stores), settings, in_a_while)  # type: ignore[arg-type]
        assert isinstance(sensor, dg.RunRequest)
        not_a_member = job.execute_in_process(instance=workshop.instance, run_config=sensor.run_config, raise_on_error=False)
        x_job = defs.resolve_job_def("x_job")
        refused = x_job.execute_in_process(instance=workshop.instance, partition_key="secret-poster", raise_on_error=False)
        told = CliRunner().invoke(cli, ["settings"])
    kept = [kept_of(workshop.instance, run.run_id) for run in (not_signed_in, not_a_member, refused)]
    for text, code in zip(kept, ("address_invalid", "telegram_no_access", "x_not_signed_in"), strict=True):
        assert code in text, "it failed where it was to fail"
    with workshop.stores.tables.operator_transaction() as connection:
        cursors = [str(cursor) for cursor in list_cursors(connection, "telegram")]
    key = key_of(f"t.me/+{INVITATION}")
    assert key in "".join(cursors)
    assert key in told.output
    assert key in str(sensor.run_config)
    assert read_aloud("\n".join([*kept, *cursors, told.output, str(sensor.run_config)]), secrets) == []
    assert read_aloud(caplog.text, secrets) == []
    assert read_aloud(printed.getvalue(), secrets) == []


def test_the_api_answers_none(workshop: Workshop, secrets: set[str], caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.INFO)
    app = create_app(lambda: Services(OpenStores(workshop.stores), FakeLlm, tmp_path), workshop.settings)  # type: ignore[arg-type]
    with TestClient(app, raise_server_exceptions=False) as client:
        told = [
            client.get(path).text
            for path in ("/openapi.json", "/healthz", "/readyz", "/metrics", "/nothing", "/twin/nobody", "/v1/models", "/docs")
        ]
        told.append(client.post("/twin/nobody/chat", json={"question": "What is the key?"}).text)
        told.append(client.post("/hooks/release", json={}, headers={"X-Twin-Signature": "wrong"}).text)
    assert all(told)
    assert read_aloud("\n".join(told), secrets) == []
    assert read_aloud(caplog.text, secrets) == []
