"""Embedding: what stands for a chunk, and that nothing is embedded twice."""

from __future__ import annotations

import numpy as np
import pytest

from lpm_kernel.L0.embed import PROGRESS_EVERY, EmbedCount, embed_chunks, title_of, vector_entries
from lpm_kernel.records import sha256_hex
from tests.fakes import FakeEmbedder, no_progress
from tests.samples import make_items

DIARY = {
    "diary-2025-02.md": "# Diary\n\nOur cat is called Pilchard. He has one eye and an opinion of gulls, as we all know.\n",
    "letter_to_col.txt": "Dear Col, the sea was 5.8 °C. I stayed in for four minutes, and that was long enough.\n",
}


def test_a_chunk_is_embedded_with_the_title_of_its_file() -> None:
    assert title_of("notes/diary-2025_02.md") == "diary 2025 02"
    items = make_items("1", DIARY, 24)
    assert items[0].input.startswith("diary 2025 02: # Diary")
    assert items[-1].input.startswith("letter to col: ")
    assert all(item.input == item.input.strip() for item in items)


def test_chunks_know_their_words_and_their_neighbours_within_the_document() -> None:
    items = make_items("1", DIARY, 24)
    for name, text in DIARY.items():
        own = [item for item in items if item.chunk.filename == name]
        assert len(own) >= 2
        assert "".join(item.text for item in own) == text
        assert own[1].text in own[0].near
        assert own[0].text in own[1].near
        assert all(item.near.startswith(title_of(name)) for item in own)
        other = next(item for item in items if item.chunk.filename != name)
        assert all(other.text not in item.near for item in own)


def test_vectors_stand_in_chunk_order_with_what_they_were_made_of() -> None:
    items, embedder = make_items("1", DIARY, 24), FakeEmbedder()
    table, count = embed_chunks(items, embedder, None, no_progress)
    assert table.chunk_ids == tuple(item.chunk.chunk_id for item in items)
    assert table.input_sha256s == tuple(sha256_hex(item.input.encode()) for item in items)
    assert table.fingerprint == embedder.fingerprint
    assert table.vectors.dtype == np.float32
    np.testing.assert_array_equal(table.vectors, FakeEmbedder().embed([item.input for item in items]))
    assert count == EmbedCount(embedded=len(items), reused=0)


def test_nothing_is_embedded_twice() -> None:
    embedder = FakeEmbedder()
    before, _ = embed_chunks(make_items("1", DIARY, 24), embedder, None, no_progress)
    embedder.texts.clear()
    changed = make_items("1", {**DIARY, "new.md": "Kestrel is a racing bicycle.\n"}, 24)
    table, count = embed_chunks(changed, embedder, before, no_progress)
    assert embedder.texts == [changed[-1].input]
    assert count == EmbedCount(embedded=1, reused=len(changed) - 1)
    fresh, _ = embed_chunks(changed, FakeEmbedder(), None, no_progress)
    np.testing.assert_array_equal(table.vectors, fresh.vectors)


def test_the_same_words_twice_are_embedded_once() -> None:
    embedder = FakeEmbedder()
    items = make_items("1", {"a.md": "The same. \n\n"}) + make_items("2", {"a.md": "The same. \n\n"})
    table, count = embed_chunks(items, embedder, None, no_progress)
    assert count == EmbedCount(embedded=1, reused=1, same_words=1)
    assert len(embedder.texts) == 1
    np.testing.assert_array_equal(table.vectors[0], table.vectors[1])


def test_chunks_of_the_same_words_have_one_vector_under_any_title() -> None:
    """A note copied under another name was embedded again, line by line."""
    embedder = FakeEmbedder()
    items = make_items("1", {"a.md": "The cat sleeps.\n", "copy.md": "the  CAT sleeps.", "other.md": "The cat sleeps!"})
    table, count = embed_chunks(items, embedder, None, no_progress)
    assert embedder.texts == [items[0].input, items[2].input]
    assert count == EmbedCount(embedded=2, reused=1, same_words=1)
    assert table.input_sha256s[0] == table.input_sha256s[1] != table.input_sha256s[2]
    np.testing.assert_array_equal(table.vectors[0], table.vectors[1])
    assert len(table.chunk_ids) == 3, "each chunk stays: together they are every byte"


def test_a_copy_that_sorts_before_what_was_embedded_is_not_embedded() -> None:
    embedder = FakeEmbedder()
    before, _ = embed_chunks(make_items("1", {"notes.md": "The cat sleeps."}), embedder, None, no_progress)
    items = make_items("1", {"a copy.md": "The cat sleeps.", "notes.md": "The cat sleeps."})
    table, count = embed_chunks(items, embedder, before, no_progress)
    assert (count.embedded, len(embedder.texts)) == (0, 1)
    assert set(table.input_sha256s) == set(before.input_sha256s)
    again, count = embed_chunks(items, embedder, table, no_progress)
    assert (count.embedded, again.input_sha256s) == (0, table.input_sha256s)


def test_a_copy_that_stays_alone_is_embedded_under_its_own_title() -> None:
    embedder = FakeEmbedder()
    both = make_items("1", {"a.md": "The cat sleeps.", "b.md": "The cat sleeps."})
    table, _ = embed_chunks(both, embedder, None, no_progress)
    alone, count = embed_chunks(both[1:], embedder, table, no_progress)
    assert count.embedded == 1
    assert alone.input_sha256s == (sha256_hex(both[1].input.encode()),)


def test_another_model_embeds_everything_again() -> None:
    items = make_items("1", DIARY, 24)
    before, _ = embed_chunks(items, FakeEmbedder("old/64"), None, no_progress)
    embedder = FakeEmbedder("new/64")
    table, count = embed_chunks(items, embedder, before, no_progress)
    assert count == EmbedCount(embedded=len(items), reused=0)
    assert table.fingerprint == "new/64"
    assert len(embedder.texts) == len(items)


def test_no_chunks_are_a_table_without_rows() -> None:
    table, count = embed_chunks([], FakeEmbedder(), None, no_progress)
    assert table.vectors.shape == (0, 64)
    assert table.chunk_ids == ()
    assert count == EmbedCount(embedded=0, reused=0)


def test_progress_rises_to_one() -> None:
    items = make_items("1", {f"{i}.md": f"Note {i}." for i in range(PROGRESS_EVERY + 1)})
    shares: list[float] = []
    embed_chunks(items, FakeEmbedder(), None, lambda share, words: shares.append(share))
    assert shares == sorted(shares)
    assert len(shares) == 2
    assert shares[-1] == 1.0


def test_entries_join_words_and_vectors() -> None:
    items = make_items("1", DIARY, 24)
    table, _ = embed_chunks(items, FakeEmbedder(), None, no_progress)
    entries = vector_entries(items, table)
    assert [(e.chunk, e.text, e.near, e.input_sha256) for e in entries] == [
        (item.chunk, item.text, item.near, sha) for item, sha in zip(items, table.input_sha256s, strict=True)
    ]
    np.testing.assert_array_equal(np.stack([entry.vector for entry in entries]), table.vectors)
    with pytest.raises(ValueError, match="longer"):
        vector_entries(items[1:], table)
