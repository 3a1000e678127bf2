"""Where the stores are: the file of the embedded engines, what is set by hand, and what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from lpm_kernel.errors import SettingsError
from lpm_kernel.settings import Settings
from lpm_kernel.stores.addresses import (
    CONNECTION_FILE,
    connection_environment,
    read_addresses,
    read_weaviate_address,
    twin_home,
)
from lpm_kernel.stores.open import open_stores

LEFT = {
    "DATABASE_URL": "postgresql+psycopg://twin_app:s3cret=@127.0.0.1:1/twin?a=b",
    "S3_ENDPOINT_URL": "http://127.0.0.1:2",
    "S3_ACCESS_KEY_ID": "id",
    "S3_SECRET_ACCESS_KEY": "s3cret",
    "S3_BUCKET": "twin",
    "REDIS_URL": "redis://:s3cret@127.0.0.1:3/0",
}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / CONNECTION_FILE).write_text("".join(f"{name}={value}\n" for name, value in LEFT.items()))
    return {"TWIN_HOME": str(tmp_path)}


def test_the_engines_file_is_read_whole(settings: Settings, environ: dict[str, str]) -> None:
    addresses = read_addresses(settings, environ)
    assert addresses.database_url == LEFT["DATABASE_URL"]
    assert addresses.redis_url == LEFT["REDIS_URL"]
    assert addresses.s3_bucket == "twin"


def test_what_is_set_by_hand_wins(settings: Settings, environ: dict[str, str]) -> None:
    assert read_addresses(settings, {**environ, "S3_BUCKET": "mine"}).s3_bucket == "mine"
    assert connection_environment(environ)["S3_BUCKET"] == "twin"


def test_every_missing_variable_is_named_with_the_cure(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read_addresses(settings, {"TWIN_HOME": str(tmp_path), "S3_BUCKET": "twin", "REDIS_URL": ""})
    assert caught.value.code == "address_missing"
    for name in set(LEFT) - {"S3_BUCKET"}:
        assert name in caught.value.message
    assert "S3_BUCKET" not in caught.value.message
    assert "twin up" in caught.value.message


def test_no_secret_shows_when_addresses_are_printed(settings: Settings, environ: dict[str, str]) -> None:
    assert "s3cret" not in repr(read_addresses(settings, environ))


def test_home_is_absolute_and_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert twin_home({}) == tmp_path / ".twin"
    assert twin_home({"TWIN_HOME": ""}) == tmp_path / ".twin"
    assert twin_home({"TWIN_HOME": "elsewhere"}) == tmp_path / "elsewhere"
    assert twin_home({"TWIN_HOME": "/var/twin"}) == Path("/var/twin")


def test_opening_stores_connects_to_nothing(settings: Settings, environ: dict[str, str]) -> None:
    """Nobody listens at these addresses: a page that only shows settings must not need a running database."""
    stores = open_stores(settings, environ)
    stores.close()
    assert stores.settings is settings


def test_weaviate_needs_two_ports(settings: Settings) -> None:
    one = "http://127.0.0.1:8080"
    with pytest.raises(SettingsError) as caught:
        read_weaviate_address(settings, {"WEAVIATE_URL": one, "WEAVIATE_GRPC_URL": one})
    assert caught.value.code == "address_invalid"
