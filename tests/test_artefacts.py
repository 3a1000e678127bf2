"""Typed files: records come back equal, equal records are equal bytes, and a file of something else is refused."""

from __future__ import annotations

import traceback
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from lpm_kernel.artefacts import (
    decode_record,
    decode_records,
    decode_table,
    encode_record,
    encode_records,
    encode_table,
    read_artefact,
    read_previous,
)
from lpm_kernel.errors import StoreError
from lpm_kernel.layout import asset_key
from lpm_kernel.records import Chunk, Document, EmbeddingTable, Message, Refusal, Topic
from tests.fakes import MemoryBlobs
from tests.samples import make_chunk, make_document, make_release, make_row

TROUBLE = 'Zoë’s\r\n\t“cat” \u2028\u2029\x85 😀 \\ " { } \x0b'
ROW = make_row("r", (Message("system", TROUBLE), Message("assistant", "")), ("c1", "c2"), form="grounded", checksum="sum")
RECORDS: list[Any] = [
    replace(make_document("1"), filename=TROUBLE, status="refused", refusal=Refusal("no_text", TROUBLE)),
    make_document("1", status="read"),
    make_chunk("1", TROUBLE),
    Topic("t", "cats, sea", ("cats", "sea"), ("a", "b"), (0.25, -1e-6)),
    ROW,
    make_release("1"),
]


def table(rows: int, dim: int = 4) -> EmbeddingTable:
    vectors = np.random.default_rng(1).normal(size=(rows, dim)).astype(np.float32)
    names = tuple(f"c{i}" for i in range(rows))
    return EmbeddingTable(names, tuple(f"s{i}" for i in range(rows)), vectors, "fake/4/l2")


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_equal(record: Any) -> None:
    assert decode_record(encode_record(record), type(record)) == record
    assert decode_records(encode_records([record, record]), type(record)) == [record, record]


def test_rows_are_a_line_each_whatever_their_text_holds() -> None:
    data = encode_records([ROW] * 3)
    assert data.count(b"\n") == 3
    assert data.endswith(b"\n")
    assert len(data.splitlines()) == 3


def test_equal_records_are_equal_bytes() -> None:
    assert encode_records([make_document("1")]) == encode_records([make_document("1")])
    assert encode_table(table(3)) == encode_table(table(3))


def test_no_rows_are_an_empty_file() -> None:
    assert encode_records([]) == b""
    assert decode_records(b"", Chunk) == []


@pytest.mark.parametrize("data", [b"{}", b"nonsense", b'{"chunk_id": 1}', encode_records([ROW]), b"\xff"])
def test_rows_of_another_form_are_refused(data: bytes) -> None:
    for decode in (lambda: decode_records(data, Chunk), lambda: decode_record(data, Document)):
        with pytest.raises(StoreError) as caught:
            decode()
        assert (caught.value.code, caught.value.retryable) == ("artefact_unreadable", False)


@pytest.mark.parametrize("rows", [0, 1, 300])
def test_a_table_comes_back_to_the_last_bit(rows: int) -> None:
    before = table(rows, 384)
    after = decode_table(encode_table(before))
    assert (after.chunk_ids, after.input_sha256s, after.fingerprint) == (
        before.chunk_ids,
        before.input_sha256s,
        before.fingerprint,
    )
    assert after.vectors.dtype == np.float32
    np.testing.assert_array_equal(after.vectors, before.vectors)


@pytest.mark.parametrize("cut", [0, 4, 100, -10])
def test_a_table_that_is_cut_off_is_refused(cut: int) -> None:
    with pytest.raises(StoreError) as caught:
        decode_table(encode_table(table(3))[:cut])
    assert caught.value.code == "artefact_unreadable"


def test_what_was_left_last_time_is_read_where_it_was_left() -> None:
    blobs = MemoryBlobs()
    decode = partial(decode_records, record_type=Chunk)
    assert read_previous(blobs, "1", "chunks", "jsonl", decode) is None
    blobs.put(asset_key("1", "chunks", "jsonl"), encode_records([make_chunk("1", "cat")]))
    assert read_previous(blobs, "1", "chunks", "jsonl", decode) == [make_chunk("1", "cat")]
    assert read_previous(blobs, "2", "chunks", "jsonl", decode) is None
    blobs.put(asset_key("1", "chunks", "jsonl"), b'{"an": "older form"}')
    assert read_previous(blobs, "1", "chunks", "jsonl", decode) is None


def test_a_store_that_fails_is_no_first_time() -> None:
    class Down(MemoryBlobs):
        def get(self, key: str) -> bytes:
            raise StoreError("blob_store", "could not get it")

    for read in (read_previous, read_artefact):
        with pytest.raises(StoreError):
            read(Down(), "1", "chunks", "jsonl", decode_table)


def test_an_artefact_that_cannot_be_read_is_not_one_that_was_never_made() -> None:
    """A profile showed no topics, as of a new user, when the file of them was damaged."""
    blobs = MemoryBlobs()
    decode = partial(decode_records, record_type=Topic)
    assert read_artefact(blobs, "1", "topics", "jsonl", decode) is None
    blobs.put(asset_key("1", "topics", "jsonl"), b'{"an": "older form"}')
    with pytest.raises(StoreError) as caught:
        read_artefact(blobs, "1", "topics", "jsonl", decode)
    assert caught.value.code == "artefact_unreadable"


def test_what_cannot_be_read_is_not_quoted() -> None:
    """The validation error behind it quotes what it found, and Dagster writes causes into its event log."""
    rows = b'{"user_id": "ada", "secret": "I told nobody about the boat."}\n{"user_id": "I told nobody abou'
    with pytest.raises(StoreError) as caught:
        decode_records(rows, Document)
    shown = "".join(traceback.format_exception(caught.value))
    assert "nobody" not in shown
    assert "sha256 missing" in caught.value.message
