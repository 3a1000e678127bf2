"""Small records for tests: documents, chunks, entries, releases and messages that are valid and differ where a test says so.

Belongs here: builders that more than one test file needs.
Does not belong here: fakes of ports (`fakes.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from lpm_kernel.dao.planner.records import Line, Order, Plan, PlanEvent, PlanState
from lpm_kernel.L0.chunk import chunk_document
from lpm_kernel.L0.embed import ChunkText, chunk_texts
from lpm_kernel.L2.records import RowForm, RowKind, Split, TrainingRow
from lpm_kernel.layout import text_key
from lpm_kernel.records import (
    ChatMessage,
    Chunk,
    Citation,
    CreatedBy,
    Document,
    DocumentStatus,
    Memory,
    MemoryKind,
    Message,
    Release,
    content_id,
    sha256_hex,
)
from lpm_kernel.settings import ChunkingSettings, MemoryRankingSettings
from lpm_kernel.stores.calibration import CalibrationPair
from lpm_kernel.stores.change_schema import fence
from lpm_kernel.stores.dead_letters import DeadLetter
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.stores.memories import make_memory
from lpm_kernel.stores.vectors import VectorEntry

if TYPE_CHECKING:
    from sqlalchemy import Connection

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RANKING = MemoryRankingSettings(
    words=0.3, meaning=0.2, meaning_around=0.4, speaker=0.1, asking=0.03, neighbours=2, neighbour_weight=0.5, index_mb=64
)


def make_document(
    user_id: str,
    filename: str = "notes.md",
    content: bytes = b"Our cat is called Pilchard.",
    status: DocumentStatus = "received",
) -> Document:
    return Document(
        user_id=user_id,
        sha256=sha256_hex(content),
        filename=filename,
        mime="text/markdown",
        size_bytes=len(content),
        source="upload",
        created_by="user",
        created_at=NOON,
        status=status,
        text_size_bytes=len(content) if status == "read" else None,
    )


def make_items(user_id: str, texts: Mapping[str, str], max_tokens: int = 56) -> list[ChunkText]:
    """Chunks with their words, of documents given as file name and text."""
    documents = {name: make_document(user_id, name, text.encode(), "read") for name, text in texts.items()}
    chunks = [
        chunk
        for name, document in documents.items()
        for chunk in chunk_document(document, texts[name], ChunkingSettings(max_tokens=max_tokens))
    ]
    return chunk_texts(chunks, {sha256_hex(text.encode()): text.encode() for text in texts.values()})


def make_chunk(user_id: str, text: str, index: int = 0, filename: str = "notes.md") -> Chunk:
    """A chunk that is a whole document; `index` makes two of one text differ."""
    data = text.encode()
    document = sha256_hex(data)
    return Chunk(
        chunk_id=content_id(user_id, document, index),
        user_id=user_id,
        document_sha256=document,
        filename=filename,
        chunk_index=index,
        byte_start=0,
        byte_end=len(data),
        tokens=len(text.split()),
        text_key=text_key(user_id, document),
        text_sha256=sha256_hex(data),
        chunker="test",
    )


def make_entries(
    user_id: str,
    texts: Sequence[str],
    embedder: Embedder,
    *,
    near: Sequence[str] | None = None,
    vectors: np.ndarray | None = None,
) -> list[VectorEntry]:
    vectors = embedder.embed(texts) if vectors is None else vectors
    return [
        VectorEntry(make_chunk(user_id, text, i), text, near[i] if near else "", sha256_hex(text.encode()), vector)
        for i, (text, vector) in enumerate(zip(texts, vectors, strict=True))
    ]


def make_citation(text: str = "Our cat is called Pilchard.") -> Citation:
    chunk = make_chunk("1", text)
    return Citation(chunk.chunk_id, chunk.document_sha256, chunk.filename, chunk.byte_start, chunk.byte_end)


def make_row(
    row_id: str,
    messages: Sequence[Message],
    chunk_ids: Sequence[str] = (),
    *,
    kind: RowKind = "self_qa",
    form: RowForm = "plain",
    split: Split = "train",
    checksum: str = "",
    sources: Sequence[Citation] = (),
) -> TrainingRow:
    """A training row with these sources, or with these chunks for sources; the answer rests on the first."""
    cited = tuple(sources) or tuple(Citation(chunk_id, "document", "notes.md", 0, 1) for chunk_id in chunk_ids)
    answer_sources = 0 if kind == "refusal" else 1
    return TrainingRow(row_id, kind, form, "first", tuple(messages), cited, split, checksum, answer_sources)


def make_message(
    user_id: str, number: int, content: str = "hello", session_id: str = "s", sender: CreatedBy = "user"
) -> ChatMessage:
    ts = NOON + timedelta(seconds=number)
    return ChatMessage(f"m{number}", user_id, session_id, sender, ts, content, (make_citation(),), "r1")


def make_release(user_id: str, number: int = 1) -> Release:
    return Release(
        release_id=f"release-{number}",
        user_id=user_id,
        documents_sha256="1" * 64,
        chunker="v1/cl100k/56",
        embedding_fingerprint="fake/64/l2",
        memory_generation=f"generation-{number}",
        topics_sha256="2" * 64,
        rows_sha256="3" * 64,
        adapter_sha256="4" * 64,
        gguf_sha256="5" * 64,
        gguf_key=f"tenant/{user_id}/lora/{'5' * 64}.gguf",
        base_sha256="6" * 64,
        evaluation={"questions": 40, "correct": {"adapter+retrieval": 31}},
        created_at=NOON + timedelta(minutes=number),
    )


def make_letter(user_id: str, stage: str = "lora_adapter", run_id: str = "run-1", code: str = "blob_store") -> DeadLetter:
    return DeadLetter(user_id, stage, run_id, 4, code, "the blob store did not answer", NOON)


def make_pair(pair_id: str, said: str = "Pilchard.") -> CalibrationPair:
    """Two answers to one question, of which nobody has picked one."""
    return CalibrationPair(pair_id, "run", "release-1", f"{said}?", (make_citation(),), said, f"{said}..", True, NOON)


def make_memory_of(user_id: str, text: str, minutes: int = 0, kind: MemoryKind = "fact", **others: Any) -> Memory:
    """A memory of noon, or of some minutes after it."""
    given = {"domain": "life", "source": "chat", "importance": 0.5, "created_at": NOON + timedelta(minutes=minutes), **others}
    return make_memory(user_id, kind, text, **given)


def make_plan(user_id: str, text: str = "My cat is red.") -> tuple[Plan, PlanEvent, Line]:
    """A plan that has begun, that it did, and a line of the asker's own that stands in it."""
    plan = Plan(f"plan-{user_id}", Order(user_id, text), NOON, "running", PlanState(), "key")
    line = Line(content_id(user_id, text)[:32], user_id, text, make_citation(), 0.5)
    return plan, PlanEvent(1, NOON, "started", {"goal": text}), line


def hold_fence(connection: Connection, user_id: str) -> None:
    """Of a holder that died long ago."""
    from sqlalchemy import insert

    connection.execute(insert(fence).values(user_id=user_id, name="every store", token=0, until=NOON))
