"""The manifest: one record that says what a twin is made of, and makes it live.

Belongs here: building the manifest from the records of every stage, and promoting it.
Does not belong here: the row it is kept in (`stores/releases.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from lpm_kernel.artefacts import encode_records
from lpm_kernel.errors import TrainingError
from lpm_kernel.records import (
    Adapter,
    Chunk,
    Document,
    EmbeddingTable,
    Evaluation,
    GgufAdapter,
    Release,
    Topic,
    TrainingRow,
    content_id,
    sha256_hex,
)
from lpm_kernel.stores.releases import promote_release
from lpm_kernel.stores.tables import Tables


def make_release(
    user_id: str,
    documents: Sequence[Document],
    chunks: Sequence[Chunk],
    table: EmbeddingTable,
    topics: Sequence[Topic],
    rows: Sequence[TrainingRow],
    adapter: Adapter,
    gguf: GgufAdapter,
    evaluation: Evaluation,
) -> Release:
    """The manifest of one chain of artefacts.

    Idempotent: the id comes from the hashes of all inputs; the evaluation belongs to the manifest but not to its id.
    Raises: TrainingError `artefacts_do_not_match` when the adapter, its GGUF and the evaluation are not of one chain.
    """
    rows_sha256 = rows_hash(rows)
    chain = (adapter.rows_sha256 == rows_sha256, gguf.adapter_sha256 == adapter.sha256, evaluation.gguf_sha256 == gguf.sha256)
    if not all(chain):
        raise TrainingError(
            "artefacts_do_not_match",
            "rows, adapter, GGUF and evaluation are of different runs: materialize from `training_rows` down",
        )
    hashes: dict[str, Any] = {
        "documents_sha256": documents_hash(documents),
        "chunker": chunks[0].chunker,
        "embedding_fingerprint": table.fingerprint,
        "topics_sha256": sha256_hex(encode_records(topics)),
        "rows_sha256": rows_sha256,
        "adapter_sha256": adapter.sha256,
        "gguf_sha256": gguf.sha256,
        "base_sha256": gguf.base_sha256,
    }
    return Release(
        release_id=content_id(user_id, *(f"{name}={value}" for name, value in sorted(hashes.items())))[:32],
        user_id=user_id,
        gguf_key=gguf.key,
        evaluation={
            "question_source": evaluation.question_source,
            "questions": evaluation.questions,
            "correct": evaluation.correct,
            "in_pack": evaluation.in_pack,
            "unanswerable": evaluation.unanswerable,
            "declined": evaluation.declined,
        },
        created_at=datetime.now(UTC),
        **hashes,
    )


def publish_release(tables: Tables, release: Release) -> None:
    """Make it the live release of its user; the one before is retired in the same transaction."""
    with tables.transaction(release.user_id) as connection:
        promote_release(connection, release)


def documents_hash(documents: Sequence[Document]) -> str:
    return content_id(*sorted(f"{document.filename}:{document.sha256}" for document in documents))


def rows_hash(rows: Sequence[TrainingRow]) -> str:
    """Of all train rows in their order: what an adapter is made from."""
    return content_id(*(row.checksum for row in rows if row.split == "train"))
