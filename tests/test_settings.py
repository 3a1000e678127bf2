"""The settings file: every key known, every number within its bounds, every mistake named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from lpm_kernel.errors import SettingsError
from lpm_kernel.settings import SETTINGS_FILE, Settings, load_settings, settings_path

PROJECT_FILE = Path(__file__).parent.parent / SETTINGS_FILE


def write(folder: Path, content: Any) -> Path:
    path = folder / SETTINGS_FILE
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_the_projects_own_file_is_valid_and_frozen() -> None:
    settings = load_settings(PROJECT_FILE)
    with pytest.raises(ValidationError):
        settings.training.rank = 1  # type: ignore[misc]


def test_overrides_replace_single_keys_and_are_checked() -> None:
    settings = load_settings(PROJECT_FILE, {"training": {"rank": 4, "epochs": 2}})
    assert (settings.training.rank, settings.training.epochs) == (4, 2)
    assert settings.training.alpha == load_settings(PROJECT_FILE).training.alpha
    with pytest.raises(SettingsError):
        load_settings(PROJECT_FILE, {"training": {"rank": 0}})


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("training", "rank", 0),
        ("training", "held_out_share", 1),
        ("training", "learning_rate", "fast"),
        ("recall", "lines", 0),
        ("chunking", "max_tokens", 8),
        ("serving", "api_port", 70000),
        ("models", "base", "another"),
        ("recall", "unheard_of", 1),
        ("compute", "lora_adapter", "the moon"),
    ],
)
def test_a_wrong_value_is_named_by_its_key(tmp_path: Path, section: str, key: str, value: object) -> None:
    content = yaml.safe_load(PROJECT_FILE.read_text())
    content[section][key] = value
    with pytest.raises(SettingsError) as caught:
        load_settings(write(tmp_path, content))
    assert caught.value.code == "settings_invalid"
    assert f"{section}.{key}" in caught.value.message


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    content = yaml.safe_load(PROJECT_FILE.read_text())
    del content["limits"]["runs_per_user"]
    with pytest.raises(SettingsError) as caught:
        load_settings(write(tmp_path, content))
    assert "limits.runs_per_user" in caught.value.message


@pytest.mark.parametrize(
    ("content", "code"), [("a: [", "settings_unreadable"), ("", "settings_invalid"), ("- a\n", "settings_invalid")]
)
def test_what_is_no_settings_file_is_refused(tmp_path: Path, content: str, code: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(write(tmp_path, content))
    assert caught.value.code == code


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path / "nothing.yaml")
    assert caught.value.code == "settings_unreadable"
    assert "nothing.yaml" in caught.value.message


def test_the_file_is_the_named_one_then_the_one_here_then_the_projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings_path({}) == PROJECT_FILE
    here = write(tmp_path, {})
    assert settings_path({}) == here
    assert settings_path({"TWIN_SETTINGS": "/elsewhere.yaml"}) == Path("/elsewhere.yaml")


def test_stores_are_names_of_variables_and_no_secrets() -> None:
    for name in Settings.model_validate(yaml.safe_load(PROJECT_FILE.read_text())).stores.model_dump().values():
        assert name.replace("_", "").isalnum()
        assert name == name.upper()


JWT = {
    "auth": "jwt",
    "auth_issuer": "https://t.example/",
    "auth_audience": "twin",
    "auth_jwks_url": "https://t.example/.well-known/jwks.json",
}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_without_tokens_the_api_listens_on_loopback(host: str) -> None:
    assert load_settings(PROJECT_FILE, {"serving": {"host": host}}).serving.ui_host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "twin.example", "localhost.example", "", "0"])
def test_without_tokens_no_other_address_is_taken_and_the_way_out_is_told(host: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(PROJECT_FILE, {"serving": {"host": host}})
    assert caught.value.code == "settings_invalid"
    assert "auth is none" in caught.value.message
    assert "127.0.0.1" in caught.value.message


def test_with_tokens_any_address_may_be_listened_on_but_dagsters_ui_stays_at_home() -> None:
    serving = load_settings(PROJECT_FILE, {"serving": {**JWT, "host": "0.0.0.0"}}).serving
    assert (serving.host, serving.ui_host) == ("0.0.0.0", "127.0.0.1")


@pytest.mark.parametrize("key", ["auth_issuer", "auth_audience", "auth_jwks_url"])
def test_tokens_need_an_issuer_an_audience_and_keys(key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(PROJECT_FILE, {"serving": {**JWT, key: ""}})
    assert key in caught.value.message


@pytest.mark.parametrize(
    ("key", "value"),
    [("auth_jwks_url", "http://t.example/jwks.json"), ("auth_jwks_url", "file:///etc/passwd"), ("cors_origins", ["*"])],
)
def test_what_would_let_strangers_in_is_refused(key: str, value: object) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(PROJECT_FILE, {"serving": {**JWT, key: value}})
    assert key in caught.value.message
