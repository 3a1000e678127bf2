"""Faults on the way from files to entities: what fails for one document never shifts, drops or mislabels another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from lpm_kernel.errors import LlmError, NerError, StoreError, TwinError
from lpm_kernel.L0.embed import chunk_texts, embed_chunks
from lpm_kernel.L0.entities import extract_entities
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.L0.library import chunk_documents, fetch_texts, read_documents
from lpm_kernel.layout import text_key
from lpm_kernel.records import Chunk, EmbeddingTable, Entity, sha256_hex
from lpm_kernel.settings import ChunkingSettings
from lpm_kernel.stores.blobs import Blobs
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeEmbedder, FakeNer, no_progress

from .pdfs import make_pdf

CHUNKING = ChunkingSettings(max_tokens=24)
PEOPLE = ["Ada", "Bo", "Cleo", "Dana", "Elin", "Finn"]
SOUND = {
    f"{i}.md": f"# Note {i}\n\n{name} lives in Harbour{name} with a cat, as all of us know.\n\nIt rained. {name} stayed in.\n"
    for i, name in enumerate(PEOPLE)
}
UNREADABLE = {
    "binary.txt": b"\x00\x01\x02 Nobody",
    "broken.pdf": make_pdf(["Nobody lives here."])[:400],
    "scan.pdf": make_pdf([None]),
    "locked.pdf": make_pdf(["Nobody"], password="x"),
}


class FlakyBlobs:
    """A store of which the n-th call fails once, as a network does; before the call has any effect."""

    def __init__(self, blobs: Blobs, failing_call: int | None) -> None:
        self._blobs = blobs
        self._left = failing_call

    def __getattr__(self, name: str) -> Callable[..., object]:
        method = getattr(self._blobs, name)

        def call(*arguments: object) -> object:
            if self._left is not None:
                self._left -= 1
                if self._left < 0:
                    self._left = None
                    raise StoreError("blob_store", "the store did not answer: told to")
            return method(*arguments)

        return call


class FlakyEmbedder(FakeEmbedder):
    """Fails on its n-th call, and never again."""

    def __init__(self, failing_call: int | None) -> None:
        super().__init__()
        self._left = failing_call

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                self._left = None
                raise LlmError("embedder_unavailable", "told to fail")
        return super().embed(texts)


def build(
    stores: Stores, blobs: Blobs, user_id: str, embedder: FakeEmbedder, ner: FakeNer
) -> tuple[list[Chunk], EmbeddingTable, list[Entity]]:
    """The four stages, as the assets call them."""
    documents, _ = read_documents(stores.tables, blobs, stores.settings.limits, user_id, no_progress)
    chunks, _ = chunk_documents(documents, blobs, CHUNKING, [])
    items = chunk_texts(chunks, fetch_texts(chunks, blobs))
    table, _ = embed_chunks(items, embedder, None, no_progress)
    entities, _, _ = extract_entities(items, ner, [], no_progress)
    return chunks, table, entities


def build_until_it_holds(stores: Stores, blobs: Blobs, user_id: str, embedder: FakeEmbedder, ner: FakeNer):
    """A run that fails for a reason that may pass is run again, as Dagster does."""
    for _ in range(4):
        try:
            return build(stores, blobs, user_id, embedder, ner)
        except TwinError as error:
            if not error.retryable:
                raise
    raise AssertionError("it failed more often than it was told to")


def named_in(entities: Sequence[Entity], sha256: str) -> set[tuple[str, int, int]]:
    return {
        (mention.text, mention.byte_start, mention.byte_end)
        for entity in entities
        for mention in entity.mentions
        if mention.document_sha256 == sha256
    }


@hypothesis.settings(max_examples=15, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(
    sound=st.lists(st.sampled_from(sorted(SOUND)), min_size=1, unique=True),
    unreadable=st.lists(st.sampled_from(sorted(UNREADABLE)), unique=True),
    ner_fails_on=st.sampled_from([None, "HarbourBo", "HarbourDana"]),
    blob_call=st.one_of(st.none(), st.integers(0, 30)),
    embed_call=st.one_of(st.none(), st.just(0)),
    random=st.randoms(use_true_random=False),
)
def test_each_document_has_what_it_would_have_alone(
    stores: Stores, new_user: Callable[[], str], sound, unreadable, ner_fails_on, blob_call, embed_call, random
) -> None:
    user_id = new_user()
    files = {name: SOUND[name].encode() for name in sound} | {name: UNREADABLE[name] for name in unreadable}
    for name in random.sample(sorted(files), len(files)):
        assert receive_document(stores.tables, stores.blobs, stores.settings.limits, user_id, name, files[name]).sha256
    flaky: Blobs = FlakyBlobs(stores.blobs, blob_call)  # type: ignore[assignment]
    ner = FakeNer(fails_on=ner_fails_on)
    try:
        chunks, table, entities = build_until_it_holds(stores, flaky, user_id, FlakyEmbedder(embed_call), ner)
    except NerError as error:
        assert error.code == "nothing_extracted"  # noqa: PT017
        # it is told of all only where each of them fails
        assert ner_fails_on
        assert all(ner_fails_on in SOUND[name] for name in sound)
        return
    assert [chunk.filename for chunk in chunks] == sorted(chunk.filename for chunk in chunks)
    assert {chunk.filename for chunk in chunks} == set(sound)
    assert table.chunk_ids == tuple(chunk.chunk_id for chunk in chunks)
    for name in sound:
        data = files[name]
        own = [chunk for chunk in chunks if chunk.filename == name]
        assert {chunk.document_sha256 for chunk in own} == {sha256_hex(data)}
        assert b"".join(data[chunk.byte_start : chunk.byte_end] for chunk in own) == data
        assert stores.blobs.get(text_key(user_id, sha256_hex(data))) == data
        items = chunk_texts(own, {sha256_hex(data): data})
        alone, _ = embed_chunks(items, FakeEmbedder(), None, no_progress)
        place = [table.chunk_ids.index(chunk.chunk_id) for chunk in own]
        np.testing.assert_array_equal(table.vectors[place], alone.vectors)
        readable = [item for item in items if ner_fails_on is None or ner_fails_on not in item.text]
        wanted, _, _ = extract_entities(readable, FakeNer(), [], no_progress)
        assert named_in(entities, sha256_hex(data)) == named_in(wanted, sha256_hex(data))


def test_a_run_that_failed_anywhere_leaves_nothing_half_read(stores: Stores, new_user: Callable[[], str]) -> None:
    """Every call to the store fails once, one user each; the second run makes what an unharmed one makes."""
    wanted: list[str] | None = None
    for failing in (None, *range(12)):
        user_id = new_user()
        for name in ("0.md", "1.md"):
            receive_document(stores.tables, stores.blobs, stores.settings.limits, user_id, name, SOUND[name].encode())
        receive_document(stores.tables, stores.blobs, stores.settings.limits, user_id, "scan.pdf", UNREADABLE["scan.pdf"])
        flaky: Blobs = FlakyBlobs(stores.blobs, failing)  # type: ignore[assignment]
        chunks, _, _ = build_until_it_holds(stores, flaky, user_id, FakeEmbedder(), FakeNer())
        texts = [chunk.text_sha256 for chunk in chunks]
        wanted = wanted or texts
        assert texts == wanted


def test_a_fault_that_no_retry_helps_is_not_retried(stores: Stores, user_id: str) -> None:
    receive_document(stores.tables, stores.blobs, stores.settings.limits, user_id, "0.md", SOUND["0.md"].encode())
    with pytest.raises(NerError):
        build_until_it_holds(stores, stores.blobs, user_id, FakeEmbedder(), FakeNer(fails_on=""))
