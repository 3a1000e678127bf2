"""L0 checks fail on what they are there to find; a check that only ever passed would say nothing."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg
import numpy as np
import pytest

from lpm_kernel.errors import StoreError
from lpm_kernel.L0.embed import generation_of
from lpm_kernel.layout import text_key
from lpm_kernel.records import (
    Chunk,
    Citation,
    Document,
    EmbeddingTable,
    Preference,
    VoiceProfile,
)
from tests.fakes import MemoryBlobs
from tests.twin_assets.workbench import NOTES, USER, Workbench
from twin_assets import checks


def test_a_byte_that_no_chunk_covers_is_found(bench: Workbench) -> None:
    def covered(chunks: list[Chunk]) -> bool:
        return bench.passes(checks.chunks_cover_every_byte, chunks=chunks, raw_documents=bench.documents)

    assert covered(bench.chunks)
    assert not covered(bench.chunks[1:])
    assert not covered([replace(bench.chunks[0], byte_start=1), *bench.chunks[1:]])
    bench.blobs.put(text_key(USER, bench.documents[0].sha256), NOTES["diary.md"].replace("cat", "dog").encode())
    assert not covered(bench.chunks), "the text under the chunks is another one by now"


def test_a_vector_that_is_not_of_unit_length_or_not_searchable_is_found(bench: Workbench) -> None:
    def sound(table: EmbeddingTable) -> bool:
        return bench.passes(checks.vectors_are_unit_and_searchable, embeddings=table)

    assert sound(bench.table)
    assert not sound(replace(bench.table, vectors=bench.table.vectors * np.float32(1.01)))
    bench.vectors.sync(USER, generation_of(bench.table), [], bench.table.fingerprint)
    assert not sound(bench.table)


def test_a_preference_that_the_user_did_not_write_is_found(bench: Workbench) -> None:
    """One set on other bytes, one in words that stand nowhere, and one of a document that the twin wrote."""
    diary = bench.documents[0]
    chunk = bench.chunks[0]
    words = "Our one-eyed cat is called Pilchard."
    place = Citation(chunk.chunk_id, diary.sha256, diary.filename, 0, len(words))
    sound = Preference("p", words, "cat", "attitude", "for", 0.6, place)

    def own(item: Preference, documents: list[Document] = bench.documents) -> bool:
        profile = VoiceProfile(USER, {"documents": 2}, None, "voice_too_little_text", (item,))
        return bench.passes(
            checks.preferences_stand_in_the_users_own_text,
            voice_profile=profile,
            raw_documents=documents,
            chunks=bench.chunks,
        )

    assert own(sound)
    assert not own(replace(sound, text="Our cat is called Admiral."))
    assert not own(replace(sound, citation=replace(place, byte_end=len(words) - 3)))
    assert not own(replace(sound, citation=replace(place, document_sha256="0" * 64)))
    assert not own(sound, [replace(diary, created_by="twin"), *bench.documents[1:]])


def test_a_store_that_does_not_answer_a_check_is_asked_again_and_says_why(bench: Workbench) -> None:
    """A check that could not look failed the run at once, and nothing started it anew."""

    class Down(MemoryBlobs):
        def get(self, key: str) -> bytes:
            raise StoreError("blob_store", "S3 did not answer")

    bench.blobs = Down()
    with pytest.raises(dg.RetryRequested):
        bench.passes(checks.chunks_cover_every_byte, chunks=bench.chunks, raw_documents=bench.documents)
