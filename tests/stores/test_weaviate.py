"""What Weaviate does that the other stores do not: tenants, refusals inside a batch, halves of a search, and being away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import grpc
import numpy as np
import pytest

from lpm_kernel.errors import SettingsError, StoreError
from lpm_kernel.request_context import RequestContext, within_request
from lpm_kernel.stores.addresses import WeaviateAddress
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.vectors import Hit, SyncCount
from lpm_kernel.stores.weaviate_client import WeaviateConnection, collection_of
from lpm_kernel.stores.weaviate_vectors import WeaviateVectors
from tests.fakes import FailingTables, FakeEmbedder
from tests.samples import make_entries
from tests.weaviate_server import WeaviateServer

EMBEDDER = FakeEmbedder()
HOME = collection_of(EMBEDDER.fingerprint)
TEXTS = ["red cat sleeps", "green dog barks", "blue bird sings"]


@pytest.fixture
def server() -> Iterator[WeaviateServer]:
    with WeaviateServer() as server:
        yield server


@pytest.fixture
def vectors(server: WeaviateServer, stores: Stores) -> Iterator[WeaviateVectors]:
    yield from opened(WeaviateAddress(server.url, server.grpc_url, server.api_key), stores)


def opened(address: WeaviateAddress, stores: Stores) -> Iterator[WeaviateVectors]:
    connection = WeaviateConnection(address)
    yield WeaviateVectors(connection, stores.tables)
    connection.close()


def sync(vectors: WeaviateVectors, user_id: str, texts: list[str], generation: str = "g") -> SyncCount:
    return vectors.sync(user_id, generation, make_entries(user_id, texts, EMBEDDER), EMBEDDER.fingerprint)


def search(vectors: WeaviateVectors, user_id: str, question: str = "red cat", k: int = 10, weight: float = 0.3) -> list[Hit]:
    vector = EMBEDDER.embed([question])[0]
    return vectors.search(
        user_id,
        "g",
        question,
        vector,
        fingerprint=EMBEDDER.fingerprint,
        k=k,
        keyword_weight=weight,
        neighbour_weight=0.5,
    )


def test_a_collection_has_tenants_that_nothing_makes_on_the_way(
    vectors: WeaviateVectors, server: WeaviateServer, user_id: str
) -> None:
    assert search(vectors, user_id) == []
    assert vectors.count(user_id) == 0
    assert server.collections == {}
    sync(vectors, user_id, TEXTS)
    config = server.collections[HOME].config
    assert config["multiTenancyConfig"] == {"enabled": True, "autoTenantCreation": False, "autoTenantActivation": True}
    (vector,) = config["vectorConfig"].values()
    assert (vector["vectorIndexType"], vector["vectorIndexConfig"]["distance"]) == ("flat", "cosine")
    kinds = {item["name"]: item["dataType"][0] for item in config["properties"]}
    assert kinds["generations"] == "text[]"
    assert {kinds[name] for name in ("chunk_index", "byte_start", "byte_end")} == {"int"}
    assert [item["name"] for item in config["properties"] if item["indexSearchable"]] == ["text", "near"]
    assert search(vectors, "somebody-else") == []
    assert list(server.collections[HOME].tenants) == [user_id]


def test_an_object_carries_its_place_and_keeps_its_id(vectors: WeaviateVectors, server: WeaviateServer, user_id: str) -> None:
    entries = make_entries(user_id, TEXTS, EMBEDDER)
    placed = [replace(e, chunk=replace(e.chunk, byte_start=7, byte_end=21, chunk_index=4)) for e in entries]
    vectors.sync(user_id, "g", placed, EMBEDDER.fingerprint)
    before = set(server.collections[HOME].objects[user_id])
    for stored in server.collections[HOME].objects[user_id].values():
        assert [stored.properties[name] for name in ("chunk_index", "byte_start", "byte_end")] == [4, 7, 21]
    vectors.sync(user_id, "g", [], EMBEDDER.fingerprint)
    vectors.sync(user_id, "g", placed, EMBEDDER.fingerprint)
    assert set(server.collections[HOME].objects[user_id]) == before


def test_an_object_names_the_transaction_that_wrote_it(vectors: WeaviateVectors, server: WeaviateServer, user_id: str) -> None:
    """In a collection of before they did, too: there is one property more in it."""
    for request, texts in (("asked-1", TEXTS[:1]), ("asked-2", TEXTS), ("asked-3", TEXTS[:2])):
        with within_request(RequestContext(request, frozenset({user_id}))):
            sync(vectors, user_id, texts)
    named = {o.properties["text"]: o.properties["transaction_id"] for o in server.collections[HOME].objects[user_id].values()}
    assert named == {TEXTS[0]: "asked-1", TEXTS[1]: "asked-2"}, "what was there already stays whose it was"
    properties = server.collections[HOME].config["properties"]
    (found,) = [item for item in properties if item["name"] == "transaction_id"]
    assert (found["indexSearchable"], found["indexFilterable"]) == (False, False)
    properties.remove(found)
    for stored in server.collections[HOME].objects[user_id].values():
        del stored.properties["transaction_id"]
    before = vectors.list_entries(user_id)
    with within_request(RequestContext("asked-4", frozenset({user_id}))):
        sync(vectors, user_id, TEXTS)
        sync(vectors, user_id, TEXTS, "h")
        sync(vectors, user_id, TEXTS[:1], "g")
    assert [item["name"] for item in properties].count("transaction_id") == 1
    assert {o.properties["transaction_id"] for o in server.collections[HOME].objects[user_id].values()} == {"asked-4"}
    assert {entry.chunk_id for entry in before} < {entry.chunk_id for entry in vectors.list_entries(user_id)}


def test_every_replica_takes_what_is_written_and_one_answers_what_is_read(
    vectors: WeaviateVectors, server: WeaviateServer, user_id: str
) -> None:
    sync(vectors, user_id, TEXTS)
    sync(vectors, user_id, TEXTS[:1])
    search(vectors, user_id)
    levels = {call: {level for name, level in server.calls if name == call} for call, _ in server.calls}
    assert levels == {"BatchObjects": {"ALL"}, "BatchDelete": {"ALL"}, "Search": {"ONE"}}


def test_a_tenant_that_was_put_to_sleep_wakes_when_used(vectors: WeaviateVectors, server: WeaviateServer, user_id: str) -> None:
    sync(vectors, user_id, TEXTS)
    server.collections[HOME].tenants[user_id] = "INACTIVE"
    assert len(search(vectors, user_id)) == 3
    assert server.collections[HOME].tenants[user_id] == "ACTIVE"


@pytest.mark.parametrize(
    ("said", "code", "retryable"),
    [
        ("invalid text property 'text': bird sings", "vectors_refused", False),
        ("broadcast: cannot achieve consistency level ALL", "vectors_unavailable", True),
        ("store is read-only", "vectors_unavailable", True),
    ],
)
@pytest.mark.parametrize("word", ["bird", "e"], ids=["one of a batch", "the whole batch"])
def test_an_entry_that_a_batch_refused_is_an_error(
    vectors: WeaviateVectors,
    server: WeaviateServer,
    user_id: str,
    caplog: pytest.LogCaptureFixture,
    said: str,
    code: str,
    retryable: bool,
    word: str,
) -> None:
    """The client answers with a list of errors and raises nothing: a chunk was missing from then on, and nobody knew."""
    sync(vectors, user_id, ["an old one"], "old")
    server.refused = (word, said)
    with pytest.raises(StoreError) as caught:
        sync(vectors, user_id, TEXTS)
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert "bird sings" not in str(caught.value) + caplog.text
    assert vectors.count(user_id, "old") == 1
    server.refused = None
    sync(vectors, user_id, TEXTS)
    assert vectors.count(user_id, "g") == 3


def test_a_sync_that_broke_off_lost_nothing_of_what_was_there(
    vectors: WeaviateVectors, server: WeaviateServer, user_id: str
) -> None:
    sync(vectors, user_id, TEXTS[:2])
    server.refused = ("bird", "told to")
    with pytest.raises(StoreError):
        sync(vectors, user_id, ["red fox runs", TEXTS[2]])
    assert set(TEXTS[:2]) <= {hit.text for hit in search(vectors, user_id)}


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (grpc.StatusCode.DEADLINE_EXCEEDED, "vectors_unavailable", True),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "vectors_unavailable", True),
        (grpc.StatusCode.INVALID_ARGUMENT, "vectors_refused", False),
        (grpc.StatusCode.PERMISSION_DENIED, "vectors_refused", False),
    ],
)
def test_an_answer_that_is_no_success_says_whether_a_retry_can_help(
    vectors: WeaviateVectors, server: WeaviateServer, user_id: str, status: grpc.StatusCode, code: str, retryable: bool
) -> None:
    sync(vectors, user_id, TEXTS)
    server.failing = status
    for use in (lambda: search(vectors, user_id), lambda: sync(vectors, user_id, ["my card is 1234"])):
        with pytest.raises(StoreError) as caught:
            use()
        assert (caught.value.code, caught.value.retryable) == (code, retryable)
        assert "1234" not in str(caught.value)


@pytest.mark.parametrize(("status", "retryable"), [(503, True), (429, True), (422, False), (403, False)])
def test_so_does_one_over_http(
    vectors: WeaviateVectors, server: WeaviateServer, user_id: str, status: int, retryable: bool
) -> None:
    server.failing_http = status
    with pytest.raises(StoreError) as caught:
        sync(vectors, user_id, TEXTS)
    assert caught.value.retryable is retryable


def test_a_wrong_key_is_no_passing_failure(server: WeaviateServer, stores: Stores, user_id: str) -> None:
    for vectors in opened(WeaviateAddress(server.url, server.grpc_url, "wrong"), stores):
        with pytest.raises(StoreError) as caught:
            vectors.count(user_id)
        assert (caught.value.code, caught.value.retryable) == ("vectors_refused", False)


@pytest.mark.parametrize("half", ["http", "grpc"])
def test_a_server_that_is_not_there_may_be_asked_again_later(
    server: WeaviateServer, stores: Stores, user_id: str, free_port: int, half: str
) -> None:
    nowhere = f"http://127.0.0.1:{free_port}"
    url, grpc_url = (nowhere, server.grpc_url) if half == "http" else (server.url, nowhere)
    for vectors in opened(WeaviateAddress(url, grpc_url, server.api_key), stores):
        with pytest.raises(StoreError) as caught:
            search(vectors, user_id)
        assert (caught.value.code, caught.value.retryable) == ("vectors_unavailable", True)


def test_a_server_that_went_away_is_told_at_once_and_found_again(stores: Stores, user_id: str) -> None:
    """The client itself tries a search of a dead server for a minute; a chat would hang that long."""
    with WeaviateServer() as server:
        address = WeaviateAddress(server.url, server.grpc_url, server.api_key)
        connection = WeaviateConnection(address)
        vectors = WeaviateVectors(connection, stores.tables)
        sync(vectors, user_id, TEXTS)
    try:
        asked = len(server.calls)
        with pytest.raises(StoreError) as caught:
            search(vectors, user_id)
        assert (caught.value.code, caught.value.retryable) == ("vectors_unavailable", True)
        assert len(server.calls) == asked
    finally:
        connection.close()


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://host", "http://", "http://host:port"])
def test_an_address_that_is_none_is_named(stores: Stores, user_id: str, url: str) -> None:
    for vectors in opened(WeaviateAddress(url), stores):
        with pytest.raises(SettingsError) as caught:
            vectors.count(user_id)
        assert caught.value.code == "address_invalid"


def test_a_hit_that_words_alone_found_has_its_cosine_too(vectors: WeaviateVectors, user_id: str) -> None:
    """Each half of a hybrid search sees its hundred best: what is far in meaning comes without a distance."""
    ways = np.eye(3, dtype=np.float32)
    texts = [f"note {i}" for i in range(120)] + ["invoice xq77"]
    entries = make_entries(user_id, texts, EMBEDDER, vectors=ways[[0] * 120 + [1]])
    vectors.sync(user_id, "g", entries, EMBEDDER.fingerprint)
    asked = ways[0] * 0.8 - ways[1] * 0.6
    hits = vectors.search(
        user_id,
        "g",
        "xq77",
        asked,
        fingerprint=EMBEDDER.fingerprint,
        k=2,
        keyword_weight=0.9,
        neighbour_weight=0.5,
    )
    assert hits[0].text == "invoice xq77"
    assert [hit.cosine for hit in hits] == pytest.approx([-0.6, 0.8], abs=1e-5)
    assert hits[0].bm25 > hits[1].bm25 == 0


def test_scores_explained_in_another_form_are_an_error_and_no_zero(
    vectors: WeaviateVectors, server: WeaviateServer, user_id: str
) -> None:
    sync(vectors, user_id, TEXTS)
    server.explains = False
    with pytest.raises(StoreError) as caught:
        search(vectors, user_id)
    assert caught.value.code == "vectors_unreadable"


def test_more_entries_than_a_batch_come_and_go(vectors: WeaviateVectors, user_id: str) -> None:
    many = [f"note {i}" for i in range(430)]
    assert sync(vectors, user_id, many, "first") == SyncCount(written=430, kept=0, deleted=0)
    assert sync(vectors, user_id, many[:420], "second") == SyncCount(written=0, kept=420, deleted=0)
    assert vectors.drop_generations(user_id, ["second"]) == 10
    assert vectors.count(user_id) == vectors.count(user_id, "second") == 420
    assert sync(vectors, user_id, [], "second") == SyncCount(written=0, kept=0, deleted=420)
    assert vectors.count(user_id) == 0


def test_generations_dropped_while_the_server_is_away_are_dropped_the_next_time(
    vectors: WeaviateVectors, server: WeaviateServer, user_id: str
) -> None:
    sync(vectors, user_id, TEXTS[:1], "first")
    sync(vectors, user_id, TEXTS[1:], "second")
    server.failing = grpc.StatusCode.DEADLINE_EXCEEDED
    with pytest.raises(StoreError):
        vectors.drop_generations(user_id, ["second"])
    server.failing = None
    assert vectors.drop_generations(user_id, ["second"]) == 1
    assert vectors.count(user_id) == 2


def test_a_generation_whose_sync_broke_off_at_its_end_is_dropped_like_others(
    vectors: WeaviateVectors, server: WeaviateServer, stores: Stores, user_id: str
) -> None:
    """Its entries were in Weaviate and its row was not in PostgreSQL, so nothing ever came to drop them."""
    broken = WeaviateVectors(vectors._connection, FailingTables(stores.tables, spared=1, before=False))
    with pytest.raises(StoreError):
        sync(broken, user_id, TEXTS[:1], "first")
    assert vectors.count(user_id, "first") == 1
    sync(vectors, user_id, TEXTS[1:], "second")
    assert vectors.drop_generations(user_id, ["second"]) == 1
    assert vectors.count(user_id) == 2
