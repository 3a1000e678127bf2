"""A twin to forget documents of: in every store, with weights that nobody trained.

Belongs here: that twin, and stores that are away or meet somebody else at work.
Does not belong here: tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from lpm_kernel.artefacts import encode_record
from lpm_kernel.chat import begin_turn
from lpm_kernel.errors import StoreError
from lpm_kernel.forget import delete_document, remove_what_is_stale
from lpm_kernel.L0.embed import chunk_texts, embed_chunks, generation_of, vector_entries
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.L0.library import chunk_documents, fetch_texts, read_documents
from lpm_kernel.L2.adapter_files import local_copy
from lpm_kernel.L2.promotion import Verdict
from lpm_kernel.L2.records import Adapter
from lpm_kernel.L2.release import documents_hash, offer_release
from lpm_kernel.layout import asset_key, document_keys, gguf_key, lora_config_key, lora_key, lora_recipe_key
from lpm_kernel.recall.plan import document_of
from lpm_kernel.records import Document, Fact, GraphEntity, User, sha256_hex
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.documents import list_documents, list_waiting
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import live_release
from lpm_kernel.stores.tables import Tables
from lpm_kernel.stores.users import add_user
from tests.fakes import FakeLlm, no_progress
from tests.gguf_adapters import adapter_bytes
from tests.samples import NOON, make_memory_of, make_release

CAT, BOAT = "My cat is called Pilchard. He has one eye.", "My brother sails a red boat from Halifax."
PASSED = Verdict(passed=True, proven=True, gates=(), reasons=())
FAILED = Verdict(passed=False, proven=False, gates=(), reasons=("refusal: worse",))
EVERYWHERE = {"blobs": True, "vectors": True, "memories": True, "graph": True}
NOWHERE = dict.fromkeys(EVERYWHERE, False)


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

    def build(self, verdict: Verdict = PASSED, *, first_serves: bool = True) -> str:
        """As a run of every stage would leave it, with weights that nobody trained; the release's id."""
        stores, user_id, self.number = self.stores, self.user_id, self.number + 1
        documents, _ = read_documents(stores.tables, stores.blobs, stores.settings.limits, user_id, no_progress)
        chunks, _ = chunk_documents(documents, stores.blobs, stores.settings.chunking, [])
        items = chunk_texts(chunks, fetch_texts(chunks, stores.blobs))
        table, _ = embed_chunks(items, stores.embedder, None, no_progress)
        stores.vectors.sync(user_id, generation_of(table), vector_entries(items, table), table.fingerprint)
        for document in documents:
            self._remember(document)
        weights = adapter_bytes(self.number)
        lora, gguf = sha256_hex(b"lora %d" % self.number), sha256_hex(weights)
        self.own.put(lora_key(user_id, lora), b"lora %d" % self.number)
        self.own.put(lora_config_key(user_id, lora), b"{}")
        self.own.put(gguf_key(user_id, gguf), weights)
        adapter = Adapter(lora, lora_key(user_id, lora), lora_config_key(user_id, lora), 1, "b", "r", 4, 8, (), 1, 7, (), 1, 1)
        self.own.put(lora_recipe_key(user_id, f"of-{self.number}"), encode_record(adapter))
        self.own.put(asset_key(user_id, "lora_adapter", "json"), encode_record(adapter))
        self.adapters.mkdir(exist_ok=True)
        local_copy(self.adapters, self.user_id, gguf).write_bytes(b"gguf")
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
        offer_release(stores.tables, stores.vectors, made, verdict, first_serves=first_serves)
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

    def clean(self, built: str | None = None):
        return remove_what_is_stale(self.stores, self.user_id, self.adapters, built=built)

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

    def live(self) -> Any:
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


class UnreachableVectors:
    """Forgets nothing: the store is away when a document is deleted."""

    def __init__(self, vectors) -> None:
        self._vectors = vectors

    def __getattr__(self, name: str):
        return getattr(self._vectors, name)

    def forget_documents(self, user_id, sha256s):
        raise StoreError("tables_unavailable", "told to")


class MeanwhileTables(Tables):
    """Real tables; something happens after the first transaction."""

    def __init__(self, tables: Tables, happens: Callable[[], object]) -> None:
        self.engine, self._happens = tables.engine, [happens]

    @contextmanager
    def transaction(self, user_id: str) -> Iterator[Connection]:
        with super().transaction(user_id) as connection:
            yield connection
        if self._happens:
            self._happens.pop()()


class DeletingBlobs:
    """Real blobs; the document is deleted when its bytes are fetched to be read."""

    def __init__(self, twin: Twin, named: str) -> None:
        self._twin, self._named, self._blobs = twin, named, twin.stores.blobs

    def __getattr__(self, name: str):
        return getattr(self._blobs, name)

    def get(self, key: str) -> bytes:
        data = self._blobs.get(key)
        if "/raw/" in key:
            self._twin.delete(self._named)
        return data
