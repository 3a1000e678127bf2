"""Signed forms for those who reach the S3 server by another address than this process does."""

from __future__ import annotations

import uuid

import httpx
import pytest

from lpm_kernel.errors import SettingsError
from lpm_kernel.layout import tenant_prefix
from lpm_kernel.request_context import RequestContext, within_request
from lpm_kernel.settings import Settings
from lpm_kernel.stores.addresses import read_addresses
from lpm_kernel.stores.blobs import S3Blobs, open_s3
from lpm_kernel.stores.open import Stores
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


def test_what_is_sent_by_a_form_names_the_request_that_signed_it(stores: Stores, user_id: str) -> None:
    assert isinstance(stores.blobs, S3Blobs)
    key = tenant_prefix(user_id) + "sent"
    with within_request(RequestContext("asked-17", frozenset({user_id}))):
        form = stores.blobs.sign_upload(key, 10, 60)

    def send(fields: dict[str, str]) -> int:
        return httpx.post(form.url, data=fields, files={"file": b"12345"}, trust_env=False).status_code

    assert send({name: value.replace("asked-17", "asked-18") for name, value in form.fields.items()}) >= 400
    assert not stores.blobs.exists(key), "another name than was signed"
    assert send(form.fields) < 300
    found = stores.blobs.client.head_object(Bucket=stores.blobs.bucket, Key=key)
    assert found["Metadata"] == {"transaction-id": "asked-17"}


def test_an_address_that_is_none_is_refused_by_its_name(engine_home: EngineHome, settings: Settings) -> None:
    with pytest.raises(SettingsError, match=PUBLIC):
        read_addresses(settings, {**engine_home.environment, PUBLIC: "twin.example"})
