"""Settings that are shown: which variables are set, never to what."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from lpm_kernel.masking import masked_settings
from lpm_kernel.settings import load_settings, settings_path
from lpm_kernel.social.telegram_names import key_of
from twin_assets.cli import cli

PASSWORD = "pw-of-the-database-1"
FOUND = {"DATABASE_URL": f"postgresql+psycopg://twin:{PASSWORD}@db/twin", "OPENAI_API_KEY": "sk-planted-0001"}


def test_each_variable_is_named_and_told_to_be_set_or_not() -> None:
    shown = masked_settings(load_settings(), FOUND)["stores"]
    assert shown["database_url"] == "DATABASE_URL is set"
    assert shown["gemini_api_key"] == "GEMINI_API_KEY is not set"


def test_a_secret_in_the_place_of_a_name_is_not_shown() -> None:
    settings = load_settings(overrides={"stores": {"openai_api_key": "sk-live-abcdef"}})
    shown = masked_settings(settings, {})
    assert "sk-live" not in str(shown)
    assert shown["stores"]["openai_api_key"] == "*** is no name of a variable"


def test_passwords_and_queries_of_addresses_and_values_of_variables_are_not_shown() -> None:
    settings = load_settings(
        overrides={
            "serving": {"auth_issuer": "https://me:hidden@t.example/", "auth_audience": "sk-planted-0001"},
            "models": {"writer": "gpt-4o-mini"},
        }
    )
    serving = masked_settings(settings, FOUND)["serving"]
    assert serving["auth_issuer"] == "https://***@t.example/"
    assert serving["auth_audience"] == "***"
    assert masked_settings(settings, FOUND)["models"]["writer"] == "gpt-4o-mini"
    signed = load_settings(overrides={"serving": {"auth_jwks_url": "https://t.example/keys?token=abc"}})
    assert masked_settings(signed, {})["serving"]["auth_jwks_url"] == "https://t.example/keys?***"


def test_an_invitation_to_a_group_is_shown_by_its_key() -> None:
    """Whoever reads it is let in."""
    links = [
        "https://t.me/+Planted_invitation-1",
        "t.me/joinchat/Planted_invitation-1",
        "tg://join?invite=Planted_invitation-1",
    ]
    settings = load_settings(overrides={"social": {"telegram_chats": [*links, "@canteen", "https://t.me/canteen"]}})
    shown = masked_settings(settings, {})["social"]["telegram_chats"]
    assert shown == [key_of(links[0])] * 3 + ["@canteen", "https://t.me/canteen"]


def test_all_else_is_shown_as_it_is_in_the_file() -> None:
    file = yaml.safe_load(settings_path().read_text())  # whichever this session's engines were started with
    shown = masked_settings(load_settings(), {})
    assert {key: value for key, value in shown.items() if key != "stores"} == {
        key: value for key, value in yaml.safe_load(yaml.safe_dump(file)).items() if key != "stores"
    }


def test_the_command_prints_no_value_of_any_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWIN_HOME", str(tmp_path))
    for name, value in FOUND.items():
        monkeypatch.setenv(name, value)
    told = CliRunner().invoke(cli, ["settings"])
    assert told.exit_code == 0, told.output
    assert "database_url: DATABASE_URL is set" in told.output
    assert PASSWORD not in told.output
    assert "planted" not in told.output
    assert set(yaml.safe_load(CliRunner().invoke(cli, ["settings", "retries"]).output)) == {"retries"}
    assert CliRunner().invoke(cli, ["settings", "nothing"]).exit_code != 0
