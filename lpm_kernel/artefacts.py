"""The typed files that stages leave for each other: JSONL for rows, JSON for one record, Parquet for vectors.

Belongs here: bytes from records and records from bytes; equal records are equal bytes.
Does not belong here: where they are kept (`layout.py`) and who reads them when (IO managers).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from lpm_kernel.errors import StoreError
from lpm_kernel.layout import asset_key
from lpm_kernel.records import EmbeddingTable
from lpm_kernel.stores.blobs import Blobs, TenantBlobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def encode_records(records: Sequence[Any]) -> bytes:
    """One JSON object a line, keys in the record's order."""
    if not records:
        return b""
    adapter = _adapter(type(records[0]))
    return b"".join(adapter.dump_json(record) + b"\n" for record in records)


def decode_records(data: bytes, record_type: type[T]) -> list[T]:
    """Raises: StoreError `artefact_unreadable` when a line is not such a record."""
    from pydantic import ValidationError

    adapter = _adapter(record_type)
    try:
        return [adapter.validate_json(line) for line in data.splitlines() if line]
    except ValidationError as error:
        raise _unreadable(f"rows of {record_type.__name__}", error) from None


def encode_record(record: Any) -> bytes:
    return _adapter(type(record)).dump_json(record, indent=1)


def decode_record(data: bytes, record_type: type[T]) -> T:
    """Raises: StoreError `artefact_unreadable`."""
    from pydantic import ValidationError

    try:
        return _adapter(record_type).validate_json(data)
    except ValidationError as error:
        raise _unreadable(record_type.__name__, error) from None


@lru_cache(maxsize=64)
def _adapter(record_type: Any) -> TypeAdapter[Any]:
    """Why kept: it is made from the type's declaration, which takes longer than reading an artefact with it."""
    from pydantic import TypeAdapter

    return TypeAdapter(record_type)


def encode_table(table: EmbeddingTable) -> bytes:
    """Parquet of three columns: chunk_id, input_sha256, vector; the fingerprint stands in the file's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    dim = table.vectors.shape[1]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(table.vectors.ravel(), type=pa.float32()), dim)
    columns = {"chunk_id": list(table.chunk_ids), "input_sha256": list(table.input_sha256s), "vector": vectors}
    sheet = pa.table(columns).replace_schema_metadata({"fingerprint": table.fingerprint, "dim": str(dim)})
    buffer = io.BytesIO()
    pq.write_table(sheet, buffer)
    return buffer.getvalue()


def decode_table(data: bytes) -> EmbeddingTable:
    """Raises: StoreError `artefact_unreadable`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        sheet = pq.read_table(io.BytesIO(data))
        metadata = {key.decode(): value.decode() for key, value in (sheet.schema.metadata or {}).items()}
        flat = sheet.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return EmbeddingTable(
            chunk_ids=tuple(sheet.column("chunk_id").to_pylist()),
            input_sha256s=tuple(sheet.column("input_sha256").to_pylist()),
            vectors=flat.reshape(sheet.num_rows, int(metadata["dim"])),
            fingerprint=metadata["fingerprint"],
        )
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise _unreadable("an embedding table") from error


def read_artefact(blobs: Blobs, user_id: str, asset: str, extension: str, decode: Callable[[bytes], T]) -> T | None:
    """What this stage left; None before its first time.

    Raises: StoreError when the store fails, or `artefact_unreadable`: what is there and cannot be read is not nothing.
    """
    try:
        return decode(TenantBlobs(blobs, user_id).get(asset_key(user_id, asset, extension)))
    except StoreError as error:
        if error.code == "blob_not_found":
            return None
        raise


def read_previous(blobs: Blobs, user_id: str, asset: str, extension: str, decode: Callable[[bytes], T]) -> T | None:
    """What this stage left last time, to be built on; None at the first time or when its form has changed since.

    Raises: StoreError when the store fails: that is no reason to begin anew.
    """
    try:
        return read_artefact(blobs, user_id, asset, extension, decode)
    except StoreError as error:
        if error.code == "artefact_unreadable":
            return None
        raise


def _unreadable(what: str, error: ValidationError | None = None) -> StoreError:
    """Why not chained to the validation error: it quotes what it found, and that is a person's text."""
    wrong = sorted({f"{'.'.join(map(str, e['loc'])) or '(line)'} {e['type']}" for e in error.errors()})[:5] if error else []
    where = f" ({', '.join(wrong)})" if wrong else ""
    return StoreError(
        "artefact_unreadable", f"the file does not hold {what}{where}: materialize its asset again", retryable=False
    )
