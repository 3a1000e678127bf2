"""Forgetting a document: out of every store, out of what a chat shows at once, and out of the weights with the next release."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lpm_kernel.artefacts import encode_record
from lpm_kernel.chat import begin_turn
from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.forget import delete_document, remove_what_is_stale
from lpm_kernel.L0.embed import chunk_texts, embed_chunks, generation_of, vector_entries
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.L0.library import chunk_documents, fetch_texts, read_documents
from lpm_kernel.L2.promotion import Verdict
from lpm_kernel.L2.records import Adapter
from lpm_kernel.L2.release import documents_hash, find_unbuilt, offer_release, promote_again
from lpm_kernel.layout import (
    asked_for_keys,
    asset_key,
    document_keys,
    gguf_key,
    lora_config_key,
    lora_key,
    lora_recipe_key,
)
from lpm_kernel.recall.plan import document_of
from lpm_kernel.records import Document, Fact, GraphEntity, User, sha256_hex
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.documents import deleted_documents, list_documents, list_waiting
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import live_release, served_model
from lpm_kernel.stores.users import add_user
from tests.fakes import FakeLlm, no_progress
from tests.samples import NOON, make_memory_of, make_release

CAT, BOAT = "My cat is called Pilchard. He has one eye.", "My brother sails a red boat from Halifax."
PASSED = Verdict(passed=True, proven=True, gates=(), reasons=())


class Twin:
    """A user whose documents are in every store, and a release that was made from them."""

    def __init__(self, stores: Stores, user_id: str, adapters: Path) -> None:
        self.stores, self.user_id, self.adapters, self.number = stores, user_id, adapters, 0
        self.own = TenantBlobs(stores.blobs, user_id)
        with stores.tables.transaction(user_id) as connection:
            add_user(connection, User(user_id))

    def send(self, name: str, text: str) -> str:
        stores = self.stores
        result = receive_document(stores.tables, stores.blobs, stores.settings.limits, self.user_id, name, text.encode())
        assert result.status in ("stored", "duplicate")
        return sha256_hex(text.encode())

    def build(self) -> str:
        """As a run of every stage would leave it, with weights that nobody trained; the release's id."""
        stores, user_id, self.number = self.stores, self.user_id, self.number + 1
        documents, _ = read_documents(stores.tables, stores.blobs, stores.settings.limits, user_id, no_progress)
        chunks, _ = chunk_documents(documents, stores.blobs, stores.settings.chunking, [])
        items = chunk_texts(chunks, fetch_texts(chunks, stores.blobs))
        table, _ = embed_chunks(items, stores.embedder, None, no_progress)
        stores.vectors.sync(user_id, generation_of(table), vector_entries(items, table), table.fingerprint)
        for document in documents:
            self._remember(document)
        lora, gguf = sha256_hex(b"lora %d" % self.number), sha256_hex(b"gguf %d" % self.number)
        for key in (lora_key(user_id, lora), lora_config_key(user_id, lora)):
            self.own.put(key, b"weights")
        self.own.put(gguf_key(user_id, gguf), b"gguf %d" % self.number)
        adapter = Adapter(lora, lora_key(user_id, lora), lora_config_key(user_id, lora), 1, "b", "r", 4, 8, (), 1, 7, (), 1, 1)
        self.own.put(lora_recipe_key(user_id, f"of-{self.number}"), encode_record(adapter))
        self.own.put(asset_key(user_id, "lora_adapter", "json"), encode_record(adapter))
        self.adapters.mkdir(exist_ok=True)
        (self.adapters / f"{gguf}.gguf").write_bytes(b"gguf")
        made = replace(
            make_release(user_id, self.number),
            documents=tuple(document.sha256 for document in documents),
            documents_sha256=documents_hash(documents),
            memory_generation=generation_of(table),
            embedding_fingerprint=table.fingerprint,
            adapter_sha256=lora,
            gguf_sha256=gguf,
            gguf_key=gguf_key(user_id, gguf),
        )
        offer_release(stores.tables, stores.vectors, made, PASSED)
        return made.release_id

    def _remember(self, document: Document) -> None:
        place = f"{document.sha256}:0-10"
        memory = make_memory_of(self.user_id, f"I like {document.filename}", kind="preference", citation=place)
        self.stores.memories.add_batch(self.user_id, [memory])
        written = GraphEntity("Document", document.sha256)
        fact = Fact(self.user_id, GraphEntity("User", self.user_id), "AUTHORED", written, document.filename, NOON, NOON)
        self.stores.graph.write_facts(self.user_id, [fact])

    def delete(self, named: str):
        return delete_document(self.stores, self.user_id, named, self.adapters)

    def clean(self):
        return remove_what_is_stale(self.stores, self.user_id, self.adapters)

    def traces(self, sha256: str) -> dict[str, bool]:
        """Where something of the document is left."""
        memories = self.stores.memories.current(self.user_id, as_of=NOON)
        facts = self.stores.graph.list_facts(self.user_id)
        return {
            "blobs": any(self.own.exists(key) for key in document_keys(self.user_id, sha256)),
            "vectors": self.stores.vectors.forget_documents(self.user_id, [sha256]) > 0,
            "memories": any((memory.citation or "").startswith(sha256) for memory in memories),
            "graph": any(sha256 in (fact.subject.name, fact.object.name) for fact in facts),
        }

    def shown(self, question: str) -> set[str]:
        """The documents that a chat knows a line of, from whichever store."""
        turn = begin_turn(self.stores, FakeLlm(), self.user_id, question)
        names = {sha256_hex(CAT.encode()): "cats.md", sha256_hex(BOAT.encode()): "boat.txt"}
        return {names[sha256] for line in turn.lines if (sha256 := document_of(line))}

    def live(self):
        with self.stores.tables.transaction(self.user_id) as connection:
            return live_release(connection, self.user_id)

    def waits(self) -> bool:
        with self.stores.tables.operator_transaction() as connection:
            return any(waiting.user_id == self.user_id for waiting in list_waiting(connection))

    def names(self) -> list[str]:
        with self.stores.tables.transaction(self.user_id) as connection:
            return [document.filename for document in list_documents(connection, self.user_id)]

    def keys(self, kind: str) -> set[str]:
        return {key.rpartition("/")[2] for key in self.own.list_keys(f"{self.own.prefix}{kind}/")}


@pytest.fixture
def twin(stores: Stores, new_user: Callable[[], str], tmp_path: Path) -> Twin:
    made = Twin(stores, new_user(), tmp_path / "adapters")
    made.send("cats.md", CAT)
    made.send("boat.txt", BOAT)
    made.build()
    return made


EVERYWHERE = {"blobs": True, "vectors": True, "memories": True, "graph": True}
NOWHERE = dict.fromkeys(EVERYWHERE, False)


def test_the_document_is_gone_from_every_store_and_the_others_stay(twin: Twin) -> None:
    done = twin.delete("cats.md")
    assert [document.filename for document in done.documents] == ["cats.md"]
    assert twin.traces(sha256_hex(CAT.encode())) == NOWHERE
    assert twin.traces(sha256_hex(BOAT.encode())) == EVERYWHERE
    assert twin.names() == ["boat.txt"]


def test_the_stale_twin_serves_on_without_the_document_in_reach_until_another_is_built(twin: Twin) -> None:
    assert twin.shown("What is your cat called?") >= {"cats.md"}
    done = twin.delete("cats.md")
    assert (done.stale_releases, done.silent, done.waiting) == (("release-1",), False, True)
    assert twin.shown("What is your cat called?") == {"boat.txt"}
    live = twin.live()
    assert live is not None
    assert live.stale_reason
    assert twin.waits(), "a deletion is taken up as an upload is"
    twin.build()
    live = twin.live()
    assert (live.release_id, live.stale_reason) == ("release-2", None)
    assert not twin.waits()


class UnreachableVectors:
    """Forgets nothing: the store is away when a document is deleted."""

    def __init__(self, vectors) -> None:
        self._vectors = vectors

    def __getattr__(self, name: str):
        return getattr(self._vectors, name)

    def forget_documents(self, user_id, sha256s):
        raise StoreError("tables_unavailable", "told to")


def test_what_a_store_could_not_forget_is_shown_by_no_chat_and_forgotten_with_the_next_release(twin: Twin) -> None:
    away = replace(twin.stores, vectors=UnreachableVectors(twin.stores.vectors))  # type: ignore[type-var]
    with pytest.raises(StoreError):
        delete_document(away, twin.user_id, "cats.md", twin.adapters)
    assert twin.shown("What is your cat called?") == {"boat.txt"}
    twin.build()
    twin.clean()
    assert twin.traces(sha256_hex(CAT.encode())) == NOWHERE


def test_a_deletion_that_broke_off_is_finished_by_its_hash(twin: Twin) -> None:
    away = replace(twin.stores, vectors=UnreachableVectors(twin.stores.vectors))  # type: ignore[type-var]
    with pytest.raises(StoreError):
        delete_document(away, twin.user_id, "cats.md", twin.adapters)
    twin.delete(sha256_hex(CAT.encode())[:12])
    assert twin.traces(sha256_hex(CAT.encode())) == NOWHERE
    assert twin.waits(), "that it is to be taken up is not forgotten by it"


def test_weights_that_learned_it_are_removed_once_another_twin_serves_and_not_before(twin: Twin) -> None:
    lost = [sha256_hex(b"%s 1" % kind) for kind in (b"lora", b"gguf")]
    twin.own.put(f"{twin.own.prefix}checkpoints/run-1/step-8.safetensors", b"weights of a run that broke off")
    for number in (1, 2):
        twin.own.put(f"{twin.own.prefix}merged/{sha256_hex(b'lora %d' % number)}/base.gguf", b"weights")
    twin.own.put(f"{twin.own.prefix}written/questions/call.txt", b"What is Pilchard?")
    for key in asked_for_keys(twin.user_id):
        twin.own.put(key, b"a prompt with the line of the cat")
    twin.delete("cats.md")
    assert not any(twin.own.exists(key) for key in asked_for_keys(twin.user_id)), "nothing would make them anew without it"
    twin.clean()
    assert twin.keys("written") == set(), "what a model wrote about it goes at once"
    assert any(lost[0] in key for key in twin.keys("lora"))
    twin.build()
    removed = twin.clean()
    assert removed.documents == 1
    left = twin.keys("lora")
    assert not [key for key in left if lost[0] in key or lost[1] in key or "of-1" in key]
    assert len([key for key in left if sha256_hex(b"lora 2") in key]) == 2
    assert {f"{sha256_hex(b'gguf 2')}.gguf", "recipe-of-2.json"} <= left
    assert twin.keys("checkpoints") == set()
    assert [key for key in twin.own.list_keys(f"{twin.own.prefix}merged/") if sha256_hex(b"lora 2") not in key] == []
    assert twin.keys("merged") == {"base.gguf"}
    assert not (twin.adapters / f"{lost[1]}.gguf").exists()
    assert (twin.adapters / f"{sha256_hex(b'gguf 2')}.gguf").exists()
    with twin.stores.tables.transaction(twin.user_id) as connection:
        assert deleted_documents(connection, twin.user_id) == frozenset()
    assert twin.clean().documents == 0


def test_an_older_release_that_knew_it_cannot_come_back(twin: Twin) -> None:
    twin.delete("cats.md")
    twin.build()
    with pytest.raises(UserInputError, match="release_stale"):
        promote_again(twin.stores.tables, twin.stores.blobs, twin.stores.vectors, twin.user_id, "release-1")


def test_what_a_content_was_before_goes_with_its_name(twin: Twin) -> None:
    later = twin.send("cats.md", CAT + " She is old.")
    twin.build()
    done = twin.delete("cats.md")
    assert {document.sha256 for document in done.documents} == {later, sha256_hex(CAT.encode())}
    assert sorted(done.stale_releases) == ["release-1", "release-2"]


def test_deleting_an_older_content_alone_leaves_the_live_twin_and_needs_no_other(twin: Twin) -> None:
    twin.send("cats.md", CAT + " She is old.")
    twin.build()
    done = twin.delete(sha256_hex(CAT.encode()))
    assert (done.stale_releases, done.waiting) == (("release-1",), False)
    assert not twin.waits()
    assert twin.live().release_id == "release-2"
    assert not [key for key in twin.keys("lora") if sha256_hex(b"lora 1") in key], "its weights went at once"


def test_the_last_document_takes_the_twin_and_all_that_was_made_along(twin: Twin) -> None:
    twin.delete("cats.md")
    done = twin.delete("boat.txt")
    assert (done.silent, done.waiting, twin.waits()) == (True, False, False)
    assert twin.live() is None
    assert list(twin.own.list_keys()) == []
    assert list(twin.adapters.iterdir()) == []
    with twin.stores.tables.transaction(twin.user_id) as connection:
        assert not served_model(connection, twin.user_id).model_ready
        assert find_unbuilt(connection, twin.user_id) is None


def test_a_setting_silences_a_twin_that_learned_from_a_deleted_document(twin: Twin) -> None:
    settings = twin.stores.settings
    strict = settings.model_copy(update={"release": settings.release.model_copy(update={"stop_serving_deleted": True})})
    done = delete_document(replace(twin.stores, settings=strict), twin.user_id, "cats.md", twin.adapters)
    assert (done.silent, done.waiting) == (True, True)
    with pytest.raises(UserInputError, match="no_release"):
        twin.shown("What is your cat called?")


def test_a_deleted_document_that_is_sent_again_is_a_new_one_and_is_built_anew(twin: Twin) -> None:
    twin.delete("cats.md")
    twin.send("cats.md", CAT)
    with twin.stores.tables.transaction(twin.user_id) as connection:
        assert find_unbuilt(connection, twin.user_id) is not None
    twin.build()
    with twin.stores.tables.transaction(twin.user_id) as connection:
        assert find_unbuilt(connection, twin.user_id) is None
    assert twin.shown("What is your cat called?") >= {"cats.md"}
    twin.clean()
    assert twin.traces(sha256_hex(CAT.encode())) == EVERYWHERE


def test_what_names_no_document_deletes_nothing(twin: Twin) -> None:
    for named in ("dogs.md", "", "0" * 64, sha256_hex(CAT.encode())[:7], "../cats"):
        with pytest.raises(UserInputError) as caught:
            twin.delete(named)
        assert caught.value.code == "document_unknown"
    assert twin.names() == ["boat.txt", "cats.md"]


def test_a_refused_file_is_forgotten_too_and_makes_nothing_stale(twin: Twin) -> None:
    limits = twin.stores.settings.limits
    receive_document(twin.stores.tables, twin.stores.blobs, limits, twin.user_id, "photo.png", b"not a text")
    done = twin.delete("photo.png")
    assert (done.stale_releases, done.waiting, twin.names()) == ((), False, ["boat.txt", "cats.md"])
    assert not any(twin.own.exists(key) for key in document_keys(twin.user_id, sha256_hex(b"not a text")))


def test_nobody_elses_document_of_the_same_bytes_is_touched(twin: Twin, new_user: Callable[[], str], tmp_path: Path) -> None:
    other = Twin(twin.stores, new_user(), tmp_path / "others")
    other.send("cats.md", CAT)
    other.build()
    twin.delete("cats.md")
    assert other.traces(sha256_hex(CAT.encode())) == EVERYWHERE
