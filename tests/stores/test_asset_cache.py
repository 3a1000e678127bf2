"""Artefacts kept by ETag: never an older one than the listing says, however it was changed."""

from __future__ import annotations

import pytest

from lpm_kernel.errors import StoreError
from lpm_kernel.records import sha256_hex
from lpm_kernel.stores.addresses import read_addresses
from lpm_kernel.stores.asset_cache import FRESH_S, AssetCache
from lpm_kernel.stores.blobs import S3Blobs, open_s3
from tests.embedded.fixtures import EngineHome

TOPICS, VOICE = "tenant/1/assets/topics.jsonl", "tenant/1/assets/voice.json"


class Server:
    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.listed = 0
        self.fetched: list[str] = []
        self.now = 100.0

    def list_etags(self, prefix: str) -> dict[str, str]:
        self.listed += 1
        return {key: sha256_hex(data) for key, data in self.objects.items() if key.startswith(prefix)}

    def fetch(self, key: str) -> tuple[bytes, str]:
        self.fetched.append(key)
        return self.objects[key], sha256_hex(self.objects[key])

    def cache(self, **more: int) -> AssetCache:
        return AssetCache(self.list_etags, self.fetch, clock=lambda: self.now, **more)


def test_what_is_read_together_costs_one_listing_and_is_fetched_once() -> None:
    server = Server()
    server.objects = {TOPICS: b"topics", VOICE: b"voice"}
    cache = server.cache()
    for _ in range(3):
        server.now += 1
        assert (cache.get(TOPICS), cache.get(VOICE)) == (b"topics", b"voice")
    assert server.listed == 3
    assert server.fetched == [TOPICS, VOICE]


def test_what_another_process_changed_or_removed_is_seen_a_quarter_of_a_second_later() -> None:
    server = Server()
    server.objects = {TOPICS: b"topics"}
    cache = server.cache()
    assert cache.get(TOPICS) == b"topics"
    server.objects[TOPICS] = b"others"
    server.now += FRESH_S
    assert cache.get(TOPICS) == b"others"
    del server.objects[TOPICS]
    server.now += FRESH_S
    with pytest.raises(StoreError) as raised:
        cache.get(TOPICS)
    assert raised.value.code == "blob_not_found"


def test_what_this_process_changed_is_seen_at_once() -> None:
    server = Server()
    server.objects = {TOPICS: b"topics"}
    cache = server.cache()
    cache.get(TOPICS)
    server.objects[TOPICS] = b"others"
    cache.forget(TOPICS)
    assert cache.get(TOPICS) == b"others"


def test_users_do_not_meet_and_the_longest_unread_makes_room() -> None:
    server = Server()
    server.objects = {f"tenant/{number}/assets/topics.jsonl": bytes([number]) * 40 for number in range(4)}
    cache = server.cache(max_bytes=100)
    for number in (0, 1, 0, 2, 0):
        assert cache.get(f"tenant/{number}/assets/topics.jsonl") == bytes([number]) * 40
    assert [key.split("/")[1] for key in server.fetched] == ["0", "1", "2"]
    cache.get("tenant/1/assets/topics.jsonl")
    assert len(server.fetched) == 4


def test_over_a_real_server_a_reader_sees_what_a_writer_left(engine_home: EngineHome) -> None:
    addresses = read_addresses(engine_home.settings, engine_home.environment)
    reader, writer = open_s3(addresses, prompt=True), open_s3(addresses)
    key = "tenant/asset-cache/assets/topics.jsonl"
    try:
        writer.put(key, b"first")
        assert reader.get(key) == reader.get(key) == b"first"
        reader.put(key, b"second")
        assert reader.get(key) == b"second"
        reader.delete(key)
        with pytest.raises(StoreError) as raised:
            reader.get(key)
        assert raised.value.code == "blob_not_found"
    finally:
        for blobs in (reader, writer):
            assert isinstance(blobs, S3Blobs)
            blobs.client.close()
