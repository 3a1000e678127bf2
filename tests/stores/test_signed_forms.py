"""Signed forms for those who reach the S3 server by another address than this process does."""

from __future__ import annotations

import uuid

import httpx
import pytest

from lpm_kernel.errors import SettingsError
from lpm_kernel.settings import Settings
from lpm_kernel.stores.addresses import read_addresses
from lpm_kernel.stores.blobs import open_s3
from tests.embedded.fixtures import EngineHome

PUBLIC = "S3_PUBLIC_ENDPOINT_URL"


def test_a_signed_form_is_for_the_address_that_its_sender_knows(engine_home: EngineHome, settings: Settings) -> None:
    """It named the address by which this machine reaches the store, which nobody outside does."""
    environment = dict(engine_home.environment)
    public = environment["S3_ENDPOINT_URL"].replace("127.0.0.1", "localhost")
    blobs = open_s3(read_addresses(settings, {**environment, PUBLIC: public}))
    key = f"contract/{uuid.uuid4().hex}/sent"
    try:
        form = blobs.sign_upload(key, 10, 60)
        assert form.url.startswith(f"{public}/")
        assert public != environment["S3_ENDPOINT_URL"]
        assert httpx.post(form.url, data=form.fields, files={"file": b"12345"}, trust_env=False).status_code < 300
        assert blobs.get(key) == b"12345"
        blobs.delete(key)
    finally:
        blobs.client.close()


def test_an_address_that_is_none_is_refused_by_its_name(engine_home: EngineHome, settings: Settings) -> None:
    with pytest.raises(SettingsError, match=PUBLIC):
        read_addresses(settings, {**engine_home.environment, PUBLIC: "twin.example"})
